"""Plano's self-hosted router: the model that ``overrides.llm_routing_model`` names matches routes.

It is used where the named entry of ``model_providers`` has a ``base_url``, and ``orchestrator``
sets neither ``engine`` nor ``model``: the orchestrator is then the engine http at that address.
"""

from collections.abc import Iterator
from typing import Final

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.orchestrator import LEAST_MODEL_LEN, OrchestratorSection
from serve_app.config.schema.providers import ModelProvider

_KEY: Final = "overrides.llm_routing_model"
_LENGTH_KEY: Final = "overrides.orchestrator_model_context_length"


def orchestrator_of(config: GatewayConfig) -> OrchestratorSection:
    """The section ``orchestrator`` with Plano's switches applied.

    Address and key come from the same entry, so that no key is sent to another server.
    """
    section, entry = config.orchestrator, _entry(config)
    if entry is None or entry.base_url is None or section.model_fields_set & {"engine", "model"}:
        return section
    length = _length(config)
    if section.max_model_len is not None or (length is not None and length < LEAST_MODEL_LEN):
        length = section.max_model_len
    update = {
        "engine": "http",
        "base_url": entry.base_url,
        "model": _bare(entry),
        "access_key": entry.access_key,
        "max_model_len": length,
    }
    return section.model_copy(update=update)


def router_warnings(config: GatewayConfig) -> Iterator[str]:
    """What Plano's switches name that is ignored, or not sent; one line each."""
    name, entry = config.overrides.llm_routing_model, _entry(config)
    section = config.orchestrator
    served = entry is not None and _is_served_by(section, entry)
    if name is not None and not served:
        yield f"{_KEY} is ignored: {_why_ignored(name, entry)}"
    if entry is not None and served:
        unsent = [key for key in ("headers", "http_host") if getattr(entry, key)]
        if unsent:
            yield f"{_KEY}: routing requests lack {' and '.join(unsent)} of {name!r}; remove them"
        if entry.passthrough_auth:
            yield f"{_KEY}: routing requests carry no client's key; give {name!r} an access_key"
    length = _length(config)
    if length is None or (served and section.max_model_len == length):
        return
    if served and length < LEAST_MODEL_LEN:
        yield f"{_LENGTH_KEY} is ignored: {length} is too small; set {LEAST_MODEL_LEN} or more"
    else:
        other = "max_model_len" if section.generates else "max_query_tokens"
        yield f"{_LENGTH_KEY} is ignored; set orchestrator.{other}"


def _why_ignored(name: str, entry: ModelProvider | None) -> str:
    if entry is None:
        return f"model_providers has no {name!r}; add it, with its base_url"
    if entry.base_url is None:
        return f"{name!r} has no base_url; add one"
    return "orchestrator sets engine or model; remove one of the two"


def _entry(config: GatewayConfig) -> ModelProvider | None:
    """The entry that ``llm_routing_model`` names; None if there is none.

    The name may lack the provider if it is unique. Of several entries it is the first with an
    address.
    """
    wanted = config.overrides.llm_routing_model
    if wanted is None:
        return None
    named = [entry for entry in config.model_providers if _bare(entry) not in {"", "*"}]
    matches = [entry for entry in named if wanted in {entry.model, entry.name}]
    if not matches:
        matches = [entry for entry in named if wanted == _bare(entry)]
        matches = matches if len({entry.model for entry in matches}) == 1 else []
    return next((entry for entry in matches if entry.base_url), matches[0] if matches else None)


def _is_served_by(section: OrchestratorSection, entry: ModelProvider) -> bool:
    """True when the orchestrator is the server of this entry, by either way to configure it."""
    server = (section.engine, section.base_url, section.model)
    return server == ("http", entry.base_url, _bare(entry))


def _bare(entry: ModelProvider) -> str:
    return entry.model.partition("/")[2]


def _length(config: GatewayConfig) -> int | None:
    return config.overrides.orchestrator_model_context_length
