"""Rewrites an older configuration in the newest form and keeps its comments."""
