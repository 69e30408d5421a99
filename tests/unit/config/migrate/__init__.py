"""Tests of serve_app/config/migrate."""
