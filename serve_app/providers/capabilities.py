"""What models cost, and what they do not take: as configured, else as far as it is known."""

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.config.schema.providers import ModelProvider
from serve_app.domain import ModelRef, Need
from serve_app.providers.model_facts import known_to_lack
from serve_app.providers.prices import price_table

MAX_MODELS: Final = 1024
"""Models that are kept, those of wildcards included."""
PRICE_AGE_S: Final = 300.0
"""How long a price is kept, seconds: some depend on the time of day."""


class Capability(NamedTuple):
    """What a model takes; None if unknown."""

    max_input: int | None = None
    """The configured maximum of its input, tokens."""
    window: int | None = None
    """The tokens of input and output that fit into its context."""
    lacks: frozenset[Need] = frozenset()


class Capabilities:
    """The capabilities and prices of the models of one configuration.

    Building it imports the list of known models, and searches it for each configured one, which
    takes some tenths of a second.
    """

    def __init__(self, config: GatewayConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._configured: dict[str, list[ModelProvider]] = {}
        for entry in config.model_providers:
            self._configured.setdefault(entry.model, []).append(entry)
        self._catalog = price_table(config)
        self._clock = clock
        self._known: dict[ModelRef, Capability] = {}
        self._usd: dict[ModelRef, tuple[float, float | None]] = {}
        for name in self._configured:
            if not name.endswith("/*"):
                self.of(ModelRef.parse(name))

    def of(self, model: ModelRef) -> Capability:
        """What a model takes; of several entries for it, what all of them take."""
        known = self._known.get(model)
        if known is None:
            known = self._find(model)
            if len(self._known) >= MAX_MODELS:
                self._known.clear()
            self._known[model] = known
        return known

    def usd(self, model: ModelRef) -> float | None:
        """The price of a million tokens of input and a million of output, US dollars.

        None if it is unknown. It may be PRICE_AGE_S old.
        """
        now = self._clock()
        at, usd = self._usd.get(model, (-PRICE_AGE_S, None))
        if now - at < PRICE_AGE_S:
            return usd
        price = self._catalog.price(model)
        usd = None if price is None else price.input_usd + price.output_usd
        if len(self._usd) >= MAX_MODELS:
            self._usd.clear()
        self._usd[model] = now, usd
        return usd

    def _find(self, model: ModelRef) -> Capability:
        own = self._configured.get(str(model)) or self._configured.get(f"{model.provider}/*", [])
        lacks = known_to_lack(model.name).union(*(entry.lacks for entry in own))
        return Capability(
            least(entry.max_input_tokens for entry in own),
            self._catalog.context_window(model),
            lacks,
        )


def least(values: Iterable[int | None]) -> int | None:
    """The least of those that are known. Returns None if none is."""
    return min((value for value in values if value is not None), default=None)
