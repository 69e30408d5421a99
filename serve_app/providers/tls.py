"""Whose certificates are believed."""

import ssl


class NoCertificatesError(Exception):
    """The file of certificates can't be used; the text names it, and where it is configured."""


class Trust:
    """The usual certificates, and those of ``overrides.upstream_tls_ca_path`` where it is set."""

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | bool:
        """Whom to believe; True for the usual ones alone. The file is read once it is good.

        Raises NoCertificatesError where the file is not there, or holds no certificate.
        """
        if self._context is None and self._file is not None:
            context = ssl.create_default_context()
            try:
                context.load_verify_locations(cafile=self._file)
            except OSError as error:
                where = f"overrides.upstream_tls_ca_path: {self._file}"
                message = f"{where} is not there, or holds no certificates"
                raise NoCertificatesError(message) from error
            self._context = context
        return self._context or True
