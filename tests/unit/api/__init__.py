"""Tests of serve_app/api."""
