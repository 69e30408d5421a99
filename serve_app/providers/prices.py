"""Prices of models, from the price list in the package genai-prices.

Nothing is fetched: the list is as old as the package, and configured prices override it.
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
from serve_app.dialects import ir
from serve_app.domain import ModelRef, TokenUsage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, TieredPrices

MAX_LOOKUPS: Final = 1024
"""Number of models whose search result is cached, found or not; a search takes up to 2 ms."""

TOKENS_OF_A_PRICE: Final = 1_000_000
"""Tokens that a price is for."""

MAX_NAME: Final = 256
"""Maximum length of a name that is searched for, because the time grows with the length."""

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
"""The package's names of providers. Subscriptions and self-hosted servers have no price."""

_NO_OVERRIDES: Mapping[str, "CatalogPrice"] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CatalogPrice:
    """The price of a model, in US dollars per million tokens."""

    input_usd: float
    output_usd: float
    cached_input_usd: float | None = None
    """For input that the provider has cached; None if that price is unknown."""
    cache_write_usd: float | None = None
    """For input that the provider puts into its cache; None if that price is unknown."""
    cache_write_1h_usd: float | None = None
    """The same for an hour; None if that price is unknown."""

    def __post_init__(self) -> None:
        for usd in (
            self.input_usd,
            self.output_usd,
            self.cached_input_usd,
            self.cache_write_usd,
            self.cache_write_1h_usd,
        ):
            if usd is not None and not (math.isfinite(usd) and usd >= 0):
                message = f"a price must be a finite number of at least 0, not {usd}"
                raise ValueError(message)


class CatalogPrices:
    """Prices of models: ``overrides`` by full name, else those of the package.

    Building the first one imports the package, which takes some tens of milliseconds.
    """

    def __init__(
        self,
        overrides: Mapping[str, CatalogPrice] = _NO_OVERRIDES,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from genai_prices.data import providers  # noqa: PLC0415 - slow, and rarely needed

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
        """The current price of a model. Returns None if it is unknown.

        It is the price for a prompt of ``context_tokens``, since long prompts of some models cost
        more. The ``clock``, in seconds since the epoch, selects prices that depend on the time.
        """
        override = self._overrides.get(str(model))
        if override is not None:
            return override
        info = self._known(model)
        if info is None:
            return None
        prices = info.get_prices(datetime.fromtimestamp(self._clock(), UTC))
        usd = _usd(prices.input_mtok, context_tokens)
        if usd is None:
            return None
        return CatalogPrice(
            input_usd=usd,
            output_usd=_usd(prices.output_mtok, context_tokens) or 0.0,  # embeddings have none
            cached_input_usd=_usd(prices.cache_read_mtok, context_tokens),
            cache_write_usd=_usd(prices.cache_write_mtok, context_tokens),
            cache_write_1h_usd=_usd(prices.cache_write_1h_mtok, context_tokens),
        )

    def context_window(self, model: ModelRef) -> int | None:
        """The tokens that fit into the context of a model. Returns None if that is unknown."""
        info = self._known(model)
        return None if info is None else info.context_window

    def _known(self, model: ModelRef) -> "ModelInfo | None":
        return None if len(model.name) > MAX_NAME else self._find(model)


def _usd(price: "Decimal | TieredPrices | None", context_tokens: int) -> float | None:
    """The price of the last tier, in ascending order, that the context reaches."""
    if price is None or isinstance(price, Decimal):
        return None if price is None else float(price)
    reached = [tier.price for tier in price.tiers if context_tokens > tier.start]
    return float([price.base, *reached][-1])


def cost_usd(price: CatalogPrice, usage: TokenUsage) -> float:
    """The cost of tokens, US dollars; cached input without a price of its own costs the full one."""
    cached_usd = price.input_usd if price.cached_input_usd is None else price.cached_input_usd
    cached = min(usage.cached_tokens, usage.input_tokens)
    usd = (usage.input_tokens - cached) * price.input_usd + cached * cached_usd
    return (usd + usage.output_tokens * price.output_usd) / TOKENS_OF_A_PRICE


def answer_usd(price: CatalogPrice, usage: ir.Usage) -> float:
    """The cost of an answer's tokens, US dollars; a class without a price costs as plain input."""
    full = price.input_usd
    read = full if price.cached_input_usd is None else price.cached_input_usd
    written = full if price.cache_write_usd is None else price.cache_write_usd
    hour = written if price.cache_write_1h_usd is None else price.cache_write_1h_usd
    for_an_hour = min(usage.cache_write_1h, usage.cache_write)
    usd = usage.uncached_input * full + usage.cache_read * read + for_an_hour * hour
    usd += (usage.cache_write - for_an_hour) * written + usage.output * price.output_usd
    return usd / TOKENS_OF_A_PRICE


class CurrentPrices:
    """The prices of the configuration of the moment, compiled once for each."""

    def __init__(self, current: Callable[[], GatewayConfig]) -> None:
        self._current = current
        self._compiled: tuple[GatewayConfig, CatalogPrices] | None = None

    def __call__(self) -> CatalogPrices:
        """The prices of the configuration of the moment."""
        config = self._current()
        if self._compiled is None or self._compiled[0] is not config:
            self._compiled = config, price_table(config)
        return self._compiled[1]

    def cost_usd(self, model: ModelRef, usage: ir.Usage) -> float | None:
        """The cost of an answer's tokens, US dollars; None if the model's price is unknown."""
        price = self().price(model, usage.all_input)
        return None if price is None else answer_usd(price, usage)


def price_table(config: GatewayConfig) -> CatalogPrices:
    """The table with the prices that a configuration overrides."""
    return CatalogPrices(
        {
            name: CatalogPrice(price.input, price.output, price.cached_input)
            for name, price in config.prices.items()
        }
    )
