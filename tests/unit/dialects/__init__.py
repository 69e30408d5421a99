"""Tests of serve_app/dialects."""
