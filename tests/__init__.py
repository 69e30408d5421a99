"""Tests; the tree mirrors what is tested."""
