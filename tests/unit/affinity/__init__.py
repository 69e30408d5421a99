"""Tests of serve_app/affinity."""
