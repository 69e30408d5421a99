"""Tests of serve_app/dialects/openai_responses."""
