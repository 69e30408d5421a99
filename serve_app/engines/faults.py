"""Faults that any engine may have."""


class EngineFaultError(Exception):
    """An engine that can't be made; the text says why, and what to do."""
