"""Engines whose libraries the core does not know; one is imported when an engine is made."""
