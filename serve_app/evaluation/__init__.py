"""Measures how well an engine decides; imported by the command line only."""
