"""What a request costs, as a ratio to work that is measured beside it."""
