"""The use case: from a client's request to the answer."""
