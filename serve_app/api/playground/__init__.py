"""The page at ``/ui``: its files, and the JSON that they ask for."""
