"""Tests of serve_app/engines/embedding."""
