"""What models cost, from the price list that the package genai-prices brings along.

Nothing is fetched: the list is as old as the package, and what it lacks or has wrong is overridden.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import ModelRef

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, TieredPrices

MAX_LOOKUPS: Final = 1024
"""So many models are remembered, known or not; a search takes up to 2 ms."""

MAX_NAME: Final = 256
"""Longer names are of no model; searching takes time in proportion to the name."""

VENDORS: Mapping[str, str] = MappingProxyType(
    {
        "amazon_bedrock": "aws",
        "anthropic": "anthropic",
        "azure_openai": "azure",
        "deepseek": "deepseek",
        "gemini": "google",
        "groq": "groq",
        "meta": "meta",
        "minimax": "minimax",
        "mistral": "mistral",
        "moonshotai": "moonshotai",
        "openai": "openai",
        "openrouter": "openrouter",
        "perplexity": "perplexity",
        "together_ai": "together",
        "xai": "x-ai",
        "zhipu": "zhipuai",
    }
)
"""Our names of providers, and what the package calls them. Subscriptions and own servers lack."""

_NO_OVERRIDES: Mapping[str, "CatalogPrice"] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CatalogPrice:
    """What a model costs, in US dollars for a million tokens."""

    input_usd: float
    output_usd: float
    cached_input_usd: float | None = None
    """For input that the provider has in its cache; None where no such price is known."""

    def __post_init__(self) -> None:
        for usd in (self.input_usd, self.output_usd, self.cached_input_usd):
            if usd is not None and not (math.isfinite(usd) and usd >= 0):
                message = f"a price is a finite number of at least 0, not {usd}"
                raise ValueError(message)


class CatalogPrices:
    """Prices of models: ``overrides`` by full name, else what the package knows.

    Building the first one imports the package, which takes some tens of milliseconds.
    """

    def __init__(
        self,
        overrides: Mapping[str, CatalogPrice] = _NO_OVERRIDES,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from genai_prices.data import providers  # noqa: PLC0415 - only who asks for prices pays

        by_id = {provider.id: provider for provider in providers}

        def find(model: ModelRef) -> "ModelInfo | None":
            vendor = by_id.get(VENDORS.get(model.provider, ""))
            if vendor is None:
                return None
            return vendor.find_model(model.name, all_providers=providers)

        self._overrides = dict(overrides)
        self._clock = clock
        self._find = lru_cache(maxsize=MAX_LOOKUPS)(find)

    def __repr__(self) -> str:
        known = self._find.cache_info().currsize
        return f"<CatalogPrices {len(self._overrides)} overrides, {known}/{MAX_LOOKUPS} lookups>"

    def price(self, model: ModelRef, context_tokens: int = 0) -> CatalogPrice | None:
        """What a model costs now; None where that is unknown.

        Some models cost more for long prompts: it is the price for one of ``context_tokens``.
        Seconds since the epoch, from ``clock``, decide between prices of day and night.
        """
        override = self._overrides.get(str(model))
        if override is not None:
            return override
        found = None if len(model.name) > MAX_NAME else self._find(model)
        if found is None:
            return None
        prices = found.get_prices(datetime.fromtimestamp(self._clock(), UTC))
        usd = _usd(prices.input_mtok, context_tokens)
        if usd is None:
            return None
        return CatalogPrice(
            input_usd=usd,
            output_usd=_usd(prices.output_mtok, context_tokens) or 0.0,  # embeddings have none
            cached_input_usd=_usd(prices.cache_read_mtok, context_tokens),
        )


def _usd(price: "Decimal | TieredPrices | None", context_tokens: int) -> float | None:
    """One price; of several tiers, in ascending order, that of the last one begun."""
    if price is None or isinstance(price, Decimal):
        return None if price is None else float(price)
    begun = [tier.price for tier in price.tiers if context_tokens > tier.start]
    return float([price.base, *begun][-1])


def price_table(config: GatewayConfig) -> CatalogPrices:
    """The table with the prices that a configuration sets in place of the published ones."""
    return CatalogPrices(
        {
            name: CatalogPrice(price.input, price.output, price.cached_input)
            for name, price in config.prices.items()
        }
    )
