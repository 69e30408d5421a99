"""What lists of models say of each name that clients may use.

Configured texts and limits come first, then what is known of the model, then what follows from
the routes. Limits help agents to shorten their conversations in time.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from serve_app.config.schema.providers import Alias, ModelProvider
from serve_app.dialects.registry import max_output_tokens
from serve_app.domain import AUTO, ModelRef
from serve_app.providers.capabilities import Capabilities, least
from serve_app.snapshot import Snapshot

_GATEWAY: Final = "fingerpost"
"""The owner of names that are not those of models."""
_NAMED_ROUTES: Final = 4
"""Routes that a description names: Claude Code shows about 100 characters."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One name in a list of models."""

    name: str
    owner: str
    display_name: str
    description: str | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None


class ModelDirectory:
    """The entries of one configuration.

    Building it imports the list of known models, and searches it for each configured one, which
    takes some tenths of a second.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._policy = snapshot.policy
        self._aliases = snapshot.config.model_aliases
        self._configured: dict[str, list[ModelProvider]] = {}
        for entry in snapshot.config.model_providers:
            self._configured.setdefault(entry.model, []).append(entry)
        self._capabilities = Capabilities(snapshot.config)
        self._open = self._open_entry()
        self.entries = tuple(map(self.entry, self._policy.names()))
        """Those of all names that are listed, in the order of the policy."""

    def entry(self, name: str) -> ModelEntry:
        """The entry of a name that the policy knows."""
        resolved = self._policy.resolve(name)
        model = None if resolved is None else resolved[0]
        alias = None if str(model) == name else self._aliases.get(name)
        if model is None:
            entry = replace(self._open, name=name, display_name=name)
        else:
            entry = replace(self._model_entry(model), name=name)
        if str(model) != name:
            entry = replace(entry, owner=_GATEWAY)
        return entry if alias is None else _aliased(entry, alias, model)

    def _model_entry(self, model: ModelRef) -> ModelEntry:
        own = self._configured.get(str(model)) or self._configured.get(f"{model.provider}/*", [])
        capability = self._capabilities.of(model)
        return ModelEntry(
            name=str(model),
            owner=model.provider,
            display_name=next(filter(None, (one.display_name for one in own)), str(model)),
            description=next(filter(None, (one.description for one in own)), None),
            max_input_tokens=capability.max_input or capability.window,
            max_output_tokens=least(one.max_output_tokens for one in own)
            or max_output_tokens(model.name),
        )

    def _open_entry(self) -> ModelEntry:
        """The entry of a name that leaves the choice open: its limits hold for every choice."""
        routes, default = self._policy.routes, self._policy.default
        models = dict.fromkeys(model for route in routes for model in route.models)
        if default is not None:
            models[default] = None
        entries = [self._model_entry(model) for model in models]
        description = None if default is None else f"Goes to {default}"
        if routes:
            names = _listed([route.name for route in routes])
            description = f"Chooses between {names} by what the conversation is about"
            if len(routes) == 1:
                description = f"Chooses {names} by what the conversation is about"
        return ModelEntry(
            name=AUTO,
            owner=_GATEWAY,
            display_name=AUTO,
            description=description,
            max_input_tokens=least(entry.max_input_tokens for entry in entries),
            max_output_tokens=least(entry.max_output_tokens for entry in entries),
        )


def _aliased(entry: ModelEntry, alias: Alias, model: ModelRef | None) -> ModelEntry:
    """The entry of an alias: its own texts, else those of what it means."""
    if model is None:
        shown, described = f"{entry.name} (routed)", entry.description
    else:
        has_name = entry.display_name != str(model)
        shown = entry.display_name if has_name else entry.name
        described = entry.description or f"Another name of {model}"
    return replace(
        entry,
        display_name=alias.display_name or shown,
        description=alias.description or described,
    )


def _listed(names: list[str]) -> str:
    """Names as a phrase; of many only the first ones."""
    left = len(names) - _NAMED_ROUTES
    if left > 0:
        names = [*names[:_NAMED_ROUTES], f"{left} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


class CurrentDirectory:
    """The directory of the configuration of the moment, compiled at the first request for it."""

    def __init__(self) -> None:
        self._compiled: tuple[Snapshot, ModelDirectory] | None = None

    async def of(self, snapshot: Snapshot) -> ModelDirectory:
        """The directory of a snapshot; compiled in a thread, because other requests go on."""
        compiled = self._compiled
        if compiled is None or compiled[0] is not snapshot:
            compiled = snapshot, await asyncio.to_thread(ModelDirectory, snapshot)
            self._compiled = compiled
        return compiled[1]
