"""Exchanges with providers, by the configuration that a replica watches."""

import os

from serve_app.config.schema.timeouts import Timeouts
from serve_app.config.watch import Watch
from serve_app.providers.endpoints import ProviderTable
from serve_app.providers.transport import Transport
from serve_app.snapshot import Snapshot


def transport(watching: Watch[Snapshot]) -> Transport:
    """Exchanges by the watched configuration.

    A request keeps the version that it began with, while the watch keeps that version.
    """

    def source(version: str) -> tuple[ProviderTable, Timeouts]:
        snapshot = watching.of(version) or watching.current
        return snapshot.providers, snapshot.config.timeouts

    ca = watching.current.config.overrides.upstream_tls_ca_path
    return Transport(source, os.environ, ca)
