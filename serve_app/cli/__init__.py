"""The command `fingerpost`."""
