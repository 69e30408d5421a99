"""What the gateway promises its clients; checked against the API alone and the whole graph."""
