"""What several values of a configuration show together, where nobody else looks at them."""

from collections.abc import Iterator, Mapping
from typing import Final

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.yaml_tree import Place
from serve_app.domain import Json

_UNSUPPORTED: Final = {"ratelimits": "limit", "prompt_guards": "guard"}


def unsupported(values: Mapping[str, Json]) -> Iterator[tuple[Place, str]]:
    """Sections whose silence would be taken for safety, unless the file says that it knows."""
    if values.get("ignore_unsupported"):
        return
    for key, verb in _UNSUPPORTED.items():
        if values.get(key):
            message = f"is not in force: {verb} in front of the gateway, or set "
            yield (key,), f"{message}`ignore_unsupported: true` to start without it"


def doubled(config: GatewayConfig) -> Iterator[tuple[Place, str]]:
    """Entries of which there may be one of a kind."""
    models = 0
    for index, listener in enumerate(config.listeners):
        models += listener.type == "model"
        if listener.type == "model" and models > 1:
            yield ("listeners", index, "type"), "another listener is of type model; keep one"
    kinds: set[str] = set()
    for index, source in enumerate(config.model_metrics_sources):
        if source.type in kinds:
            message = f"another source is of type {source.type}; keep one"
            yield ("model_metrics_sources", index, "type"), message
        kinds.add(source.type)
