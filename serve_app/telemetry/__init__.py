"""What is recorded of requests."""
