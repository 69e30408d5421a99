"""Providers: a table of what we know of them, and how they are reached."""
