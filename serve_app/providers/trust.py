"""Whose certificates are believed."""

import ssl


def trusting(file: str) -> ssl.SSLContext:
    """The usual certificates, and those of a file.

    Raises OSError where the file is not there, or holds no certificate.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=file)
    return context
