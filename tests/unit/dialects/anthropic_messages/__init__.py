"""Tests of serve_app/dialects/anthropic_messages."""
