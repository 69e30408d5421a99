"""Errors that end a command."""


class LaunchError(Exception):
    """Raised when the gateway cannot be started; the message gives the reason and the fix."""
