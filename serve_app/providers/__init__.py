"""Providers: a table of facts about them, and exchanges with them."""
