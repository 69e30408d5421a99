"""Earlier answers that requests may refer to: what is kept of them, and where."""
