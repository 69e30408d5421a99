"""Scores routes for a conversation, without I/O."""
