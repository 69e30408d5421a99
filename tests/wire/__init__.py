"""The API under uvicorn on loopback, with real clients and real providers, without Ray."""
