"""Engines of the orchestrator; the library of an engine is imported only by its constructor."""
