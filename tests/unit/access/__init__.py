"""Tests of serve_app/access."""
