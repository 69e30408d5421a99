"""Reads and checks the serve.yaml of a gateway."""
