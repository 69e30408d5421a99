"""Who may ask: client keys, and what a gateway without them admits."""
