"""Tests of serve_app/cli/serve_yaml."""
