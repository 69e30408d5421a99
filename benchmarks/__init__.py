"""Measurements of the gateway, made on demand; README.md lists the scripts."""
