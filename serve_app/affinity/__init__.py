"""The memory that a session stays on its model."""
