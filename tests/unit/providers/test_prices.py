"""Prices of models."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import ModelRef, TokenUsage
from serve_app.providers.prices import (
    MAX_LOOKUPS,
    MAX_NAME,
    VENDORS,
    CatalogPrice,
    CatalogPrices,
    CurrentPrices,
    cost_usd,
)

OWN = CatalogPrice(1.0, 2.0, 0.1)


def at(hour: int) -> Callable[[], float]:
    """A clock of a day on which DeepSeek was cheaper at night."""
    return lambda: datetime(2025, 3, 15, hour, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def table() -> CatalogPrices:
    return CatalogPrices({"openai/own": OWN, "vllm/llama": OWN}, clock=at(12))


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("openai/gpt-4o", CatalogPrice(2.5, 10.0, 1.25)),
        ("openai/GPT-4o", CatalogPrice(2.5, 10.0, 1.25)),
        ("openai/gpt-4o-2024-08-06", CatalogPrice(2.5, 10.0, 1.25)),
        ("azure_openai/gpt-4o", CatalogPrice(2.5, 10.0, 1.25)),
        ("anthropic/claude-3-5-sonnet-20241022", CatalogPrice(3.0, 15.0, 0.3, 3.75, 6.0)),
        (
            "amazon_bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0",
            CatalogPrice(3.0, 15.0, 0.3, 3.75),
        ),
        ("openai/text-embedding-3-small", CatalogPrice(0.02, 0.0)),
        ("deepseek/deepseek-chat", CatalogPrice(0.27, 1.1, 0.07)),
        ("openai/own", OWN),
        ("vllm/llama", OWN),
    ],
)
def test_known_model_has_a_price(name: str, price: CatalogPrice, table: CatalogPrices) -> None:
    """It is the provider's price per million tokens, unless it is overridden."""
    assert table.price(ModelRef.parse(name)) == price


@pytest.mark.parametrize(
    "name",
    [
        "mistral/mistral-large-latest",
        "groq/llama-3.3-70b-versatile",
        "gemini/gemini-2.5-pro",
        "xai/grok-4.3",
        "moonshotai/kimi-k2-0711-preview",
        "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "minimax/minimax-m3",
        "openrouter/openai/gpt-4o",
        "perplexity/sonar",
    ],
)
def test_provider_is_found_by_gateways_name(name: str, table: CatalogPrices) -> None:
    """The package's name of it does not matter."""
    price = table.price(ModelRef.parse(name))
    assert price is not None
    assert price.output_usd >= price.input_usd > (price.cached_input_usd or 0.0)


@pytest.mark.parametrize(
    "name",
    [
        "openai/nope",
        "openai/my-gpt-4o",
        "openai/whisper-1",
        "openai/dall-e-3",
        "openrouter/gpt-4o",
        "vllm/gpt-4o",
        "ollama/llama3",
        "chatgpt/gpt-4o",
        "google/gemini-2.5-pro",
        f"openai/gpt-4o{' ' * MAX_NAME}",
        f"openai/{'a-' * 1_000_000}",
    ],
    ids=lambda name: name[:24],
)
def test_unknown_model_has_no_price(name: str, table: CatalogPrices) -> None:
    """Neither have models that are not paid by the token, and self-hosted servers."""
    assert table.price(ModelRef.parse(name)) is None


def test_every_vendor_is_in_the_package() -> None:
    """A vendor that the package renames is noticed here."""
    from genai_prices.data import providers  # noqa: PLC0415 - as late as the table does it

    assert set(VENDORS.values()) <= {provider.id for provider in providers}


def test_override_replaces_catalog_price(table: CatalogPrices) -> None:
    """It applies to its full name only."""
    model = ModelRef.parse("openai/gpt-4o")
    assert CatalogPrices({"openai/gpt-4o": OWN}).price(model) == OWN
    assert CatalogPrices({"gpt-4o": OWN}, clock=at(12)).price(model) == table.price(model) != OWN


def test_long_prompts_may_cost_more(table: CatalogPrices) -> None:
    """A tier applies to all tokens of a prompt that is longer than its start."""
    model = ModelRef.parse("gemini/gemini-2.5-pro")
    assert table.price(model) == table.price(model, 200_000) == CatalogPrice(1.25, 10.0, 0.125)
    assert table.price(model, 200_001) == CatalogPrice(2.5, 15.0, 0.25)
    assert table.price(ModelRef.parse("vllm/llama"), 10**9) == OWN


def test_price_depends_on_the_hour() -> None:
    """It does so although the model was looked up before."""
    moments = iter([at(12)(), at(18)()])
    table = CatalogPrices(clock=moments.__next__)
    model = ModelRef.parse("deepseek/deepseek-chat")
    assert table.price(model) == CatalogPrice(0.27, 1.1, 0.07)
    assert table.price(model) == CatalogPrice(0.135, 0.55, 0.035)


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (CatalogPrice(2.0, 10.0, 0.5), TokenUsage(1_000_000), 2.0),
        (CatalogPrice(2.0, 10.0, 0.5), TokenUsage(0, 1_000_000), 10.0),
        (CatalogPrice(2.0, 10.0, 0.5), TokenUsage(1000, 100, cached_tokens=400), 2.4e-3),
        (CatalogPrice(2.0, 10.0), TokenUsage(1000, 100, cached_tokens=400), 3e-3),
        (CatalogPrice(2.0, 10.0, 0.5), TokenUsage(10, cached_tokens=99), 5e-6),
        (CatalogPrice(0.0, 0.0), TokenUsage(1000, 100), 0.0),
    ],
)
def test_cost_follows_the_kind_of_tokens(
    price: CatalogPrice, usage: TokenUsage, usd: float
) -> None:
    """Cached input is cheaper where its price is known, and never more than all input."""
    assert cost_usd(price, usage) == pytest.approx(usd)


def test_current_prices_are_compiled_once_for_each_configuration() -> None:
    """A reload brings another table."""
    configs = [GatewayConfig(version="v0.4.0")]
    prices = CurrentPrices(lambda: configs[-1])
    first = prices()
    assert prices() is first
    configs.append(GatewayConfig(version="v0.4.0"))
    assert prices() is not first


def test_cached_lookups_are_bounded() -> None:
    """Clients may name any model of a wildcard."""
    table = CatalogPrices({"openai/own": OWN})
    assert repr(table) == f"<CatalogPrices 1 overrides, 0/{MAX_LOOKUPS} lookups>"
    for index in range(MAX_LOOKUPS + 5):
        table.price(ModelRef("vllm", f"m{index}"))
    assert repr(table) == f"<CatalogPrices 1 overrides, {MAX_LOOKUPS}/{MAX_LOOKUPS} lookups>"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("openai/gpt-4o", 128_000),
        ("openai/own", None),
        ("openai/davinci", None),
        ("vllm/gpt-4o", None),
        ("openai/" + "gpt-4o" * 100, None),
    ],
)
def test_known_model_has_a_context_window(
    name: str, tokens: int | None, table: CatalogPrices
) -> None:
    """Other models, those without one, and those of self-hosted servers have None."""
    assert table.context_window(ModelRef.parse(name)) == tokens


def test_overrides_are_copied() -> None:
    """Later changes of the mapping do not matter."""
    overrides = {"vllm/a": OWN}
    table = CatalogPrices(overrides)
    overrides.clear()
    assert table.price(ModelRef("vllm", "a")) == OWN


@pytest.mark.parametrize("usd", [-0.01, float("inf"), float("nan")])
def test_price_must_be_finite_and_not_negative(usd: float) -> None:
    """It applies to each of the three prices."""
    for prices in [(usd, 1.0, 1.0), (1.0, usd, 1.0), (1.0, 1.0, usd)]:
        with pytest.raises(ValueError, match="a price must be a finite number of at least 0"):
            CatalogPrice(*prices)


def test_import_does_not_load_price_list() -> None:
    """The package is imported with the first table."""
    code = "import sys, serve_app.providers.prices; print('genai_prices' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout == b"False\n"


@given(st.sampled_from([*VENDORS, "vllm"]), st.text(min_size=1, max_size=40), st.integers(0, 10**7))
def test_any_name_has_a_price_or_none(provider: str, name: str, tokens: int) -> None:
    """No name raises."""
    price = CatalogPrices().price(ModelRef(provider, name), tokens)
    assert price is None or price.input_usd >= 0
