"""The value types that all layers share."""

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
def test_model_ref_splits_at_first_slash(text: str, provider: str, name: str) -> None:
    """A model reference is split at its first slash and renders as the original text."""
    model = ModelRef.parse(text)
    assert (model.provider, model.name, str(model)) == (provider, name, text)


@pytest.mark.parametrize("text", ["", "/", "gpt-4o", "openai/", "/gpt-4o"])
def test_model_ref_rejects_missing_part(text: str) -> None:
    """A text without a provider or without a name is rejected."""
    with pytest.raises(ValueError, match="a model is written provider/name"):
        ModelRef.parse(text)


def test_model_ref_rejects_slash_in_provider() -> None:
    """A provider name with a slash is rejected, because the reference would parse differently."""
    with pytest.raises(ValueError, match="a model is written provider/name"):
        ModelRef("a/b", "c")


def test_model_refs_are_frozen_ordered_values() -> None:
    """Model references are frozen, and are compared, ordered and hashed by value."""
    model = ModelRef("a", "b")
    assert len({model, ModelRef("a", "b"), ModelRef("a", "c")}) == 2
    assert min(ModelRef("b", "a"), ModelRef("a", "z")) == ModelRef("a", "z")
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.name = "c"  # type: ignore[misc]


def test_decision_requires_candidate() -> None:
    """A decision without candidates is rejected."""
    with pytest.raises(ValueError, match="a decision needs at least one candidate"):
        RouteDecision((), Reason.DEFAULT)


def test_reasons_are_a_closed_set() -> None:
    """The reasons are these fifteen words; clients may depend on them, so a new one changes the
    interface.
    """
    assert {reason.value for reason in Reason} == {
        "explicit",
        "alias",
        "route",
        "affinity",
        "no_match",
        "default",
        "rule",
        "state",
        "cached",
        "always_route",
        "escalation",
        "failover",
        "orchestrator_timeout",
        "orchestrator_error",
        "orchestrator_busy",
        "breaker_open",
    }


def test_auto_has_three_lower_case_names() -> None:
    """The empty name, `none` and `auto` mean automatic routing and are compared in lower case."""
    assert {"", "none", "auto"} == AUTO_NAMES


def test_stream_broken_error_survives_pickling() -> None:
    """A StreamBrokenError keeps its fault when it is pickled."""
    error = StreamBrokenError(UpstreamFault(FaultKind.TIMEOUT, "late"))
    same = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here
    assert same.fault == error.fault
