"""Writes the JSON schema and the configuration reference."""
