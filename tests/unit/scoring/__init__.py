"""Tests of serve_app/scoring."""
