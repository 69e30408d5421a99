"""Reads a serve.yaml, and checks it before Ray Serve does."""
