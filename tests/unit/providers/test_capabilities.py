"""What models cost, and what they do not take."""

from pathlib import Path
from typing import Final

import pytest

from serve_app.domain import ModelRef, Need
from serve_app.providers import capabilities
from serve_app.providers.capabilities import PRICE_AGE_S, Capabilities, Capability
from serve_app.providers.model_facts import known_to_lack
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, snapshot_of

TEXT: Final = f"""{V}
model_providers:
  - {{model: openai/gpt-4o}}
  - {{model: openai/gpt-4}}
  - {{model: openai/own, max_input_tokens: 1000, lacks: [tools]}}
  - {{model: openai/own, base_url: "http://h:2", max_input_tokens: 900, lacks: [images]}}
  - {{model: vllm/*, base_url: "http://h:1", max_input_tokens: 5, lacks: [structured_output]}}
prices:
  openai/own: {{input: 1, output: 2}}
"""


@pytest.fixture
def known(tmp_path: Path) -> Capabilities:
    return Capabilities(snapshot_of(tmp_path, TEXT).config, FakeClock())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-4o", Capability(None, 128_000)),
        (
            "openai/gpt-4",
            Capability(None, 8192, frozenset({Need.IMAGES, Need.STRUCTURED_OUTPUT})),
        ),
        ("openai/own", Capability(900, None, frozenset({Need.TOOLS, Need.IMAGES}))),
        ("vllm/any", Capability(5, None, frozenset({Need.STRUCTURED_OUTPUT}))),
        ("other/any", Capability()),
    ],
)
def test_capability_is_configured_or_known(
    known: Capabilities, model: str, expected: Capability
) -> None:
    """Of several entries for a model the least counts; those of a wildcard count for its models."""
    assert known.of(ModelRef.parse(model)) == expected


def test_price_is_the_sum_of_both_directions(known: Capabilities) -> None:
    """A million tokens of input and a million of output."""
    assert known.usd(ModelRef.parse("openai/own")) == 3
    assert known.usd(ModelRef.parse("openai/gpt-4o")) == 12.5
    assert known.usd(ModelRef.parse("vllm/any")) is None


def test_prices_are_read_anew(tmp_path: Path) -> None:
    """Some depend on the time of day, so each is kept for some minutes only."""
    clock = FakeClock()
    known = Capabilities(snapshot_of(tmp_path, TEXT).config, clock)
    model = ModelRef.parse("openai/own")
    assert known.usd(model) == 3
    known._catalog._overrides.clear()
    assert known.usd(model) == 3
    clock.now += PRICE_AGE_S
    assert known.usd(model) is None


def test_capabilities_are_bounded(known: Capabilities, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of wildcards do not fill the memory."""
    monkeypatch.setattr(capabilities, "MAX_MODELS", 4)
    for number in range(20):
        known.of(ModelRef("vllm", str(number)))
        known.usd(ModelRef("vllm", str(number)))
        assert max(len(known._known), len(known._usd)) <= 4


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("gpt-3.5-turbo", {Need.IMAGES, Need.STRUCTURED_OUTPUT}),
        ("gpt-3.5-turbo-0125", {Need.IMAGES, Need.STRUCTURED_OUTPUT}),
        ("gpt-4-0613", {Need.IMAGES, Need.STRUCTURED_OUTPUT}),
        ("gpt-4-turbo", set()),
        ("gpt-4o", set()),
        ("o1-mini-2024-09-12", set(Need)),
        ("o1", set()),
        ("o3-mini", {Need.IMAGES}),
        ("o3", set()),
        ("deepseek/deepseek-chat", {Need.IMAGES}),
        ("deepseek-chat-v3", set()),
    ],
)
def test_few_models_are_known_to_lack_something(name: str, lacks: set[Need]) -> None:
    """Only what their makers say, and only of the very models."""
    assert known_to_lack(name) == lacks
