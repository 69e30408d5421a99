"""Wire formats, sans-IO: bytes and values in, bytes and values out."""
