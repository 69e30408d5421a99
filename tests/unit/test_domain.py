"""The values that everything else speaks in."""

import dataclasses
import pickle

import pytest

from serve_app.domain import AUTO_NAMES, ModelRef, Reason, RouteDecision
from serve_app.exchange import FaultKind, StreamBrokenError, UpstreamFault


@pytest.mark.parametrize(
    ("text", "provider", "name"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("ollama/library/llama3:8b", "ollama", "library/llama3:8b"),
        ("a//b", "a", "/b"),
        ("a/b/", "a", "b/"),
        ("vllm/*", "vllm", "*"),
    ],
)
def test_a_model_is_its_provider_and_its_name(text: str, provider: str, name: str) -> None:
    """The first slash separates; the text comes back as it was."""
    model = ModelRef.parse(text)
    assert (model.provider, model.name, str(model)) == (provider, name, text)


@pytest.mark.parametrize("text", ["", "/", "gpt-4o", "openai/", "/gpt-4o"])
def test_a_model_needs_both(text: str) -> None:
    """Without provider or name there is no model."""
    with pytest.raises(ValueError, match="a model is written provider/name"):
        ModelRef.parse(text)


def test_a_provider_has_no_slash() -> None:
    """Else its text would be read as another model."""
    with pytest.raises(ValueError, match="a model is written provider/name"):
        ModelRef("a/b", "c")


def test_models_are_values() -> None:
    """Equal ones are one, they have an order, and nobody changes them."""
    model = ModelRef("a", "b")
    assert len({model, ModelRef("a", "b"), ModelRef("a", "c")}) == 2
    assert min(ModelRef("b", "a"), ModelRef("a", "z")) == ModelRef("a", "z")
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "c"  # type: ignore[misc]


def test_a_decision_has_a_candidate() -> None:
    """There is no decision for nobody."""
    with pytest.raises(ValueError, match="a decision needs at least one candidate"):
        RouteDecision((), Reason.DEFAULT)


def test_the_reasons_are_a_closed_set() -> None:
    """Clients may switch on these thirteen words; a new one is a change of the interface."""
    assert {reason.value for reason in Reason} == {
        "explicit",
        "alias",
        "route",
        "affinity",
        "no_match",
        "default",
        "cached",
        "always_route",
        "failover",
        "orchestrator_timeout",
        "orchestrator_error",
        "orchestrator_busy",
        "breaker_open",
    }


def test_auto_has_three_names() -> None:
    """Compared in lower case."""
    assert {"", "none", "auto"} == AUTO_NAMES


def test_a_broken_stream_crosses_processes() -> None:
    """Its fault arrives with it."""
    error = StreamBrokenError(UpstreamFault(FaultKind.TIMEOUT, "late"))
    same = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert same.fault == error.fault
