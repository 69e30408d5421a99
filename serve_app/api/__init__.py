"""The HTTP surfaces, as an ASGI application that knows nothing of Ray."""
