"""Tests of serve_app/cli."""
