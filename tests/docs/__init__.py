"""What the documentation and the sources promise about themselves."""
