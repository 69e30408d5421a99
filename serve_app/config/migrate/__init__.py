"""Rewrites an older configuration in the newest format, and keeps its comments."""
