"""Tests of serve_app/config/docs."""
