"""Measures how well an engine matches routes; used by the command line only."""
