"""Tests of serve_app/routing."""
