"""Tests of serve_app/providers."""
