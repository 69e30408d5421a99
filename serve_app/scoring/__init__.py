"""Scores routes for a conversation, sans-IO."""
