"""The watch over the configuration file that every replica keeps."""

from collections.abc import Callable, Collection

from serve_app.config.watch import Watch
from serve_app.domain import DataPath
from serve_app.snapshot import Snapshot, compile_snapshot
from serve_app.telemetry.metrics import Meters


def watch(
    config: str | None,
    meter: Meters,
    *,
    compile_: Callable[[], Snapshot] | None = None,
    adopt: Callable[[Snapshot], None] = lambda _: None,
) -> Watch[Snapshot]:
    """Compiles the file; ``start`` begins to watch it.

    Raises ConfigError where the file is bad from the start.
    """
    watching: Watch[Snapshot] = Watch(
        config,
        compile_ or (lambda: compile_snapshot(config)),
        adopt,
        lambda: meter.reloaded(watching.current.version, good=watching.error is None),
        # Ray drops a gauge that is not set again within 20 s
        on_look=lambda: meter.in_force(watching.current.version, good=watching.error is None),
    )
    meter.in_force(watching.current.version)
    return watching


def needs_restart(started: Snapshot, now: Snapshot, own: Collection[str]) -> list[str]:
    """Warnings for changes that a running application cannot take up.

    ``own`` are the providers that have a deployment.
    """
    lines = [
        f"provider {slug} was added by a reload: provider-shared carries it; restart to give it "
        "a deployment"
        for slug, data_path in now.providers.data_paths().items()
        if data_path is DataPath.DEDICATED and slug not in own
    ]
    before, after = started.config, now.config
    if before.orchestrator != after.orchestrator:
        lines.append("orchestrator has changed; restart the application to apply it")
    if before.overrides.upstream_tls_ca_path != after.overrides.upstream_tls_ca_path:
        lines.append(
            "overrides.upstream_tls_ca_path has changed; restart the application to apply it"
        )
    if before.logs != after.logs:
        lines.append("logs has changed; restart the application to apply it")
    if before.telemetry != after.telemetry or before.tracing != after.tracing:
        lines.append("telemetry has changed; restart the application to apply it")
    is_limited = before.has_shared_limits or after.has_shared_limits
    counted = [(one.counts_in, one.counts_url) for one in (before, after)]
    if is_limited and counted[0] != counted[1]:
        lines.append("limit_storage has changed; restart the application to apply it")
    if before.state_storage != after.state_storage:
        lines.append("state_storage has changed; restart the application to apply it")
    lines += [
        f"routing.{key} has changed; restart the application to apply it"
        for key in ("session_ttl_seconds", "session_max_entries", "session_cache")
        if getattr(before.routing, key) != getattr(after.routing, key)
    ]
    return lines
