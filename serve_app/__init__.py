"""Fingerpost: an LLM routing gateway that runs as a Ray Serve application."""
