"""Faults of engines of any kind."""


class EngineFaultError(Exception):
    """An engine that cannot be made; the text tells why, and what to do."""
