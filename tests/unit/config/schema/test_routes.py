"""Models of routes with a reasoning effort, in the configuration and in requests."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.config.docs.reference import reference
from serve_app.config.locations import ConfigError
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.dialects.json_edits import read_document
from serve_app.domain import Effort, ModelRef, Prefer, Route
from serve_app.errors import InvalidRequest
from serve_app.routing.inline_routes import read_preferences
from serve_app.routing.policy import Policy
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

MODELS: Final = f"{V}model_providers:\n  - {{model: openai/a}}\n  - {{model: openai/b}}\n"
A, B = ModelRef("openai", "a"), ModelRef("openai", "b")


def text_of(models: str) -> str:
    return f"{MODELS}routing_preferences:\n  - name: r\n    description: d\n    models: {models}\n"


def test_models_may_have_an_effort(tmp_path: Path) -> None:
    """A list may hold names and mappings; a bare name works in both."""
    route = snapshot_of(tmp_path, text_of("[{model: a, effort: high}, b]")).policy.routes[0]
    assert (route.models, route.prefer) == ((A, B), Prefer.NONE)
    assert route.efforts == ((A, Effort.HIGH),)
    plain = snapshot_of(tmp_path, text_of("[{model: a}, openai/b]")).policy.routes[0]
    assert (plain.models, plain.efforts) == ((A, B), ())


@pytest.mark.parametrize(
    ("models", "key", "message"),
    [
        ("[1]", "models[0]", "must be a string, not 1"),
        ("['']", "models[0]", "must not be empty"),
        ("[[a]]", "models[0]", "must be a string, not a list"),
        ("[a, {model: ''}]", "models[1].model", "must not be empty"),
        ("[{effort: low}]", "models[0].model", "missing; add `model:`"),
        ("[{model: a, efort: low}]", "models[0].efort", "unknown key; did you mean 'effort'?"),
        (
            "[{model: a, effort: huge}]",
            "models[0].effort",
            "must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max', not 'huge'",
        ),
        (
            "[{model: c}]",
            "models[0].model",
            "no entry of model_providers is named 'c'; add it to model_providers",
        ),
        (
            "[a, {model: openai/a, effort: low}]",
            "models[1].model",
            "duplicate model 'openai/a'; keep one entry, with one effort",
        ),
        (
            "[{model: a, effort: low}, {model: a, effort: high}]",
            "models[1].model",
            "duplicate model 'openai/a'; keep one entry, with one effort",
        ),
        (
            "[{model: a, effort: low}, a]",
            "models[1]",
            "duplicate model 'openai/a'; keep one entry, with one effort",
        ),
    ],
)
def test_faults_of_models_are_named(tmp_path: Path, models: str, key: str, message: str) -> None:
    """In a file and in a request alike."""
    with pytest.raises(ConfigError) as caught:
        snapshot_of(tmp_path, text_of(models))
    problem = next(one for one in caught.value.problems if one.path.endswith(key))
    assert (problem.path, problem.message) == (f"routing_preferences[0].{key}", message)


def read(policy: Policy, models: list[Any], *, known_only: bool = True) -> tuple[Route, ...]:
    route = {"name": "r", "description": "d", "models": models}
    document = read_document(
        json.dumps({"routing_preferences": [route]}).encode(), unique=frozenset()
    )
    return read_preferences(document, policy, known_only=known_only) or ()


@pytest.mark.parametrize(
    ("models", "param"),
    [
        ([{"model": "a", "effort": "huge"}], "models[0].effort"),
        ([{"model": 1}], "models[0].model"),
        (["a", {"model": "zzz"}], "models[1].model"),
        (["a", {"model": "openai/a", "effort": "low"}], "models[1].model"),
        ([{"model": "a", "effort": "low"}, "a"], "models[1]"),
    ],
)
def test_faults_of_a_requests_models_are_named(
    tmp_path: Path, models: list[Any], param: str
) -> None:
    """By the path of the field."""
    policy = snapshot_of(tmp_path, MODELS).policy
    with pytest.raises(InvalidRequest) as caught:
        read(policy, models)
    assert caught.value.param == f"routing_preferences[0].{param}"
    assert str(caught.value).startswith(f"routing_preferences[0].{param}: ")


def test_routes_of_a_request_have_efforts(tmp_path: Path) -> None:
    """Models that the gateway does not serve may have one, too, where they are allowed."""
    policy = snapshot_of(tmp_path, MODELS).policy
    models = ["a", {"model": "x/y", "effort": "none"}]
    (route,) = read(policy, models, known_only=False)
    assert (route.models, route.efforts) == (
        (A, ModelRef("x", "y")),
        ((ModelRef("x", "y"), Effort.NONE),),
    )
    assert read(policy, ["a", "openai/a"])[0].models == (A, A)


def test_reference_shows_both_forms() -> None:
    """The page links the section, and lists its keys."""
    page = reference(GatewayConfig)
    assert "list of strings or mappings, see [`routing_preferences[].models[]`]" in page
    assert "| `effort` |" in page


def test_what_a_model_lacks_is_checked(tmp_path: Path) -> None:
    """Other words are refused with the known ones."""
    with pytest.raises(ConfigError) as caught:
        snapshot_of(tmp_path, f"{V}model_providers:\n  - {{model: openai/a, lacks: [video]}}\n")
    assert [(one.path, one.message) for one in caught.value.problems] == [
        (
            "model_providers[0].lacks[0]",
            "must be 'images', 'tools' or 'structured_output', not 'video'",
        )
    ]
