"""Tests of serve_app/requests."""
