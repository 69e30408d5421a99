"""The watch over the configuration file that every replica keeps."""

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from deployments.meter import ServeMeter
from serve_app.config.schema import Timeouts
from serve_app.config.watch import Watch
from serve_app.decision import Setup, compile_setup
from serve_app.domain import DataPath
from serve_app.providers.spec import ProviderTable

if TYPE_CHECKING:
    from serve_app.providers.transport import Transport


def watch(
    config: str | None,
    meter: ServeMeter,
    *,
    compile_: Callable[[], Setup] | None = None,
    adopt: Callable[[Setup], None] = lambda _: None,
) -> Watch[Setup]:
    """Compiles the file; ``start`` begins to look after it, once what it replaces is there.

    Raises ConfigError where the file is bad from the start.
    """
    watching: Watch[Setup] = Watch(
        config,
        compile_ or (lambda: compile_setup(config)),
        adopt,
        lambda: meter.reloaded(watching.current.version, good=watching.error is None),
    )
    meter.in_force(watching.current.version)
    return watching


def transport(watching: Watch[Setup]) -> "Transport":
    """Exchanges by the configuration that is watched.

    A request ends on the version that it began with, while that is kept.
    """
    from serve_app.providers.transport import Transport  # noqa: PLC0415 - with aiohttp, not in all

    def source(version: str) -> tuple[ProviderTable, Timeouts]:
        setup = watching.of(version) or watching.current
        return setup.providers, setup.config.timeouts

    ca = watching.current.config.overrides.upstream_tls_ca_path
    return Transport(source, os.environ, ca)


def needs_restart(started: Setup, now: Setup, own: Collection[str]) -> list[str]:
    """What of a configuration is not in force in a running application; a line each.

    ``own`` are the providers that have a deployment.
    """
    lines = [
        f"provider {slug} was added while running: provider-shared carries it until a restart"
        for slug, data_path in now.providers.data_paths().items()
        if data_path is DataPath.DEDICATED and slug not in own
    ]
    before, after = started.config, now.config
    if before.orchestrator != after.orchestrator:
        lines.append("orchestrator has changed: it needs a restart")
    if before.overrides.upstream_tls_ca_path != after.overrides.upstream_tls_ca_path:
        lines.append("overrides.upstream_tls_ca_path has changed: it needs a restart")
    lines += [
        f"routing.{key} has changed: it needs a restart"
        for key in ("session_ttl_seconds", "session_max_entries", "session_cache")
        if getattr(before.routing, key) != getattr(after.routing, key)
    ]
    return lines
