"""Tests of serve_app/evaluation."""
