"""The certificates that servers are verified by."""

import ssl


class NoCertificatesError(Exception):
    """The file of certificates is unusable; the text names it and where it is configured."""


class Trust:
    """The system's certificates, and those of a file, if there is one; ``key`` configures it."""

    def __init__(self, file: str | None, key: str) -> None:
        self._file = file
        self._key = key
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | bool:
        """The context for TLS; True for the system's certificates alone.

        The file is read until it is usable, and then no more. Raises NoCertificatesError if it is
        missing or contains no certificate.
        """
        if self._context is None and self._file is not None:
            context = ssl.create_default_context()
            try:
                context.load_verify_locations(cafile=self._file)
            except OSError as error:
                message = f"{self._key}: {self._file} is missing or contains no certificates"
                raise NoCertificatesError(message) from error
            self._context = context
        return self._context or True
