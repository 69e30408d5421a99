"""Plano's self-hosting: the model that ``overrides.llm_routing_model`` names matches routes.

It is in force where the named entry of ``model_providers`` has an address of its own, and
``orchestrator`` says neither ``engine`` nor ``model``: then it is the engine http at that address.
"""

from collections.abc import Iterator
from typing import Final

from serve_app.config.schema.gateway import GatewayConfig, ModelProvider
from serve_app.config.schema.orchestrator import LEAST_MODEL_LEN, OrchestratorSection

_KEY: Final = "overrides.llm_routing_model"
_LENGTH_KEY: Final = "overrides.orchestrator_model_context_length"


def orchestrator_of(config: GatewayConfig) -> OrchestratorSection:
    """The section ``orchestrator`` of a file as it was read, with what Plano's switches make of it.

    Address and key come from one entry: no key goes where it was not meant for.
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


def not_in_force(config: GatewayConfig) -> Iterator[str]:
    """What of it a configuration says, and why it changes nothing; one line each."""
    name, length = config.overrides.llm_routing_model, _length(config)
    entry, section = _entry(config), config.orchestrator
    served = entry is not None and _is_asked(section, entry)
    if name is not None and not served:
        why = ""
        if entry is None:
            why = f", as model_providers has no {name!r}"
        elif entry.base_url is None:
            why = f", as {name!r} has no base_url"
        yield f"{_KEY} is not in force: routes are matched by orchestrator.engine{why}"
    if entry is not None and served:
        unsent = [key for key in ("headers", "http_host") if getattr(entry, key)]
        if unsent:
            yield f"{_KEY}: {' and '.join(unsent)} of {name!r} are not sent with its questions"
        if entry.passthrough_auth:
            yield f"{_KEY}: no client's key is sent with its questions; give {name!r} an access_key"
    if length is None or (served and section.max_model_len == length):
        return
    if served and length < LEAST_MODEL_LEN:
        yield f"{_LENGTH_KEY} is not in force: it must be {LEAST_MODEL_LEN} or more"
    else:
        instead = "max_model_len" if section.generates else "max_query_tokens"
        yield f"{_LENGTH_KEY} is not in force: orchestrator.{instead} is"


def _entry(config: GatewayConfig) -> ModelProvider | None:
    """The entry that is named, also without its provider if no other is called so; of several
    the first with an address.
    """
    wanted = config.overrides.llm_routing_model
    if wanted is None:
        return None
    named = [entry for entry in config.model_providers if _bare(entry) not in {"", "*"}]
    found = [entry for entry in named if wanted in {entry.model, entry.name}]
    if not found:
        found = [entry for entry in named if wanted == _bare(entry)]
        found = found if len({entry.model for entry in found}) == 1 else []
    return next((entry for entry in found if entry.base_url), found[0] if found else None)


def _is_asked(section: OrchestratorSection, entry: ModelProvider) -> bool:
    """The orchestrator is that entry's server, whoever said so."""
    said = (section.engine, section.base_url, section.model)
    return said == ("http", entry.base_url, _bare(entry))


def _bare(entry: ModelProvider) -> str:
    return entry.model.partition("/")[2]


def _length(config: GatewayConfig) -> int | None:
    return config.overrides.orchestrator_model_context_length
