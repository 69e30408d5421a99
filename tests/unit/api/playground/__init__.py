"""Unit tests of `serve_app.api.playground`."""
