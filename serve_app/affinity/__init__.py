"""Sessions, and the bindings that keep them on their models."""
