"""Tests of serve_app/telemetry."""
