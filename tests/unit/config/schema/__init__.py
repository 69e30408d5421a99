"""Tests of serve_app/config/schema."""
