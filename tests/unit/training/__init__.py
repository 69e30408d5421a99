"""Tests of what makes the bundled weights."""
