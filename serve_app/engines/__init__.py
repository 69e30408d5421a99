"""What orchestrators run on; an engine's library is imported by its constructor only."""
