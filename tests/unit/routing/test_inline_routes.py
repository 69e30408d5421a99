"""Routes that a request brings along."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.fields import PREFERENCES
from serve_app.domain import Json, ModelRef, Prefer, Route
from serve_app.errors import InvalidRequest
from serve_app.routing.inline_routes import (
    MAX_PREFERENCES,
    MAX_ROUTE_CHARACTERS,
    MAX_ROUTES,
    read_preferences,
)
from serve_app.snapshot import Snapshot
from tests.unit.fakes import snapshot_of
from tests.unit.requests.test_decide import TEXT, A, B, X, call_of, entry


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot_of(tmp_path_factory.mktemp("snapshot"), TEXT % ", default: true")


def inline(snapshot: Snapshot, value: Json, *, known_only: bool = True) -> tuple[Route, ...] | None:
    document = call_of(snapshot, {PREFERENCES: value}).document
    return read_preferences(document, snapshot.policy, known_only=known_only)


def refusal(snapshot: Snapshot, value: Json, *, known_only: bool = True) -> InvalidRequest:
    """Why these preferences are refused; the text begins with the field or names it."""
    with pytest.raises(InvalidRequest) as caught:
        inline(snapshot, value, known_only=known_only)
    assert str(caught.value).startswith(str(caught.value.param))
    return caught.value


def test_request_contains_its_routes(snapshot: Snapshot) -> None:
    """They are in its order, with full names for every form of a model's name."""
    value = [
        entry(models=["openai/a", "b", "fast", "ollama/x"][::2], examples=["one", "two"]),
        entry(name="é 写", models=["gpt-4o", "ollama/x"], selection_policy={"prefer": "cheapest"}),
        entry(name="again", models=["a", "openai/a"], selection_policy=None),
    ]
    assert inline(snapshot, value) == (
        Route("r", "d", (A, B), Prefer.NONE, ("one", "two")),
        Route("é 写", "d", (ModelRef("openai", "gpt-4o"), X), Prefer.CHEAPEST),
        Route("again", "d", (A, A)),
    )


def test_empty_list_differs_from_absent_routes(snapshot: Snapshot) -> None:
    """An empty list removes the configured routes; null and absence keep them."""
    assert inline(snapshot, []) == ()
    assert inline(snapshot, None) is None
    document = call_of(snapshot, {}).document
    assert read_preferences(document, snapshot.policy, known_only=True) is None


MALFORMED: list[tuple[Json, str, str]] = [
    ("code", "", "must be a list, not 'code'"),
    ({"code": 1}, "", "must be a list, not a mapping"),
    (1, "", "must be a list, not 1"),
    (False, "", "must be a list, not False"),
    ("x" * 99, "", "must be a list, not a string"),
    (["code"], "[0]", "must be a mapping of keys, not 'code'"),
    ([None], "[0]", "must be a mapping of keys, not null"),
    ([[]], "[0]", "must be a mapping of keys, not a list"),
    ([entry(), 1], "[1]", "must be a mapping of keys, not 1"),
    ([{}], "[0].name", "missing; add `name:`"),
    ([{"name": "x", "models": ["a"]}], "[0].description", "missing; add `description:`"),
    ([{"name": "x", "description": "d"}], "[0].models", "missing; add `models:`"),
    ([entry(name="")], "[0].name", "must not be empty"),
    ([entry(name=None)], "[0].name", "must be a string, not null"),
    ([entry(description=["d"])], "[0].description", "must be a string, not a list"),
    ([entry(description="")], "[0].description", "must not be empty"),
    ([entry(models=[])], "[0].models", "must not be empty"),
    ([entry(models="a")], "[0].models", "must be a list, not 'a'"),
    ([entry(models={"a": 1})], "[0].models", "must be a list, not a mapping"),
    ([entry(models=["a", 1])], "[0].models[1]", "must be a string, not 1"),
    ([entry(models=["a", ""])], "[0].models[1]", "must not be empty"),
    ([entry(exampels=["x"])], "[0].exampels", "unknown key; did you mean 'examples'?"),
    ([entry(weight=1)], "[0].weight", "known keys: name, description, models"),
    ([entry(examples="x")], "[0].examples", "must be a list, not 'x'"),
    ([entry(examples=None)], "[0].examples", "must be a list, not null"),
    ([entry(examples=["x", 1])], "[0].examples[1]", "must be a string, not 1"),
    ([entry(examples=[""])], "[0].examples[0]", "must not be empty"),
    ([entry(examples=["x"] * 65)], "[0].examples", "at most 64"),
    ([entry(selection_policy="cheapest")], "[0].selection_policy", "must be a mapping of keys"),
    ([entry(selection_policy={})], "[0].selection_policy.prefer", "missing"),
    ([entry(selection_policy={"prefer": "best"})], "[0].selection_policy.prefer", "must be 'none', 'cheapest' or 'fastest', not 'best'"),
    ([entry(selection_policy={"prefer": 1})], "[0].selection_policy.prefer", "not 1"),
    ([entry(), entry()], "[1].name", "duplicate route 'r'; keep one"),
    ([entry(name="a"), entry(name="b"), entry(name="a")], "[2].name", "duplicate route 'a'; keep one"),
    ([entry(models=["gpt-4x"])], "[0].models[0]", "'gpt-4x'; did you mean 'gpt-4o'?"),
    ([entry(), entry(name="s", models=["a", "openai/aa"])], "[1].models[1]", "did you mean 'openai/a'?"),
    ([entry(models=["zzzzzz"])], "[0].models[0]", "add it to model_providers"),
    ([entry(models=["b"])], "[0].models[0]", "is ambiguous; use openai/b or vllm/b"),
    ([entry(models=["smart"])], "[0].models[0]", "is an alias; name the model itself"),
    ([entry(models=["auto"])], "[0].models[0]", "no entry of model_providers is named 'auto'"),
    ([entry(models=["ollama/*"])], "[0].models[0]", "is named 'ollama/*'"),
    ([entry(name="a\n")], "[0].name", "must be a printable name"),
    ([entry(name="x" * 401)], "[0].name", "of at most 400 characters"),
    ([entry(models=["a\n"])], "[0].models[0]", "must be a printable name"),
    ([entry(models=["a", "ollama/" + "x" * 400])], "[0].models[1]", "of at most 400 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "path", "text"), MALFORMED)
def test_malformed_routes_are_refused(
    snapshot: Snapshot, value: Json, path: str, text: str
) -> None:
    """The error has the path of the field, what is wrong, and the fix."""
    error = refusal(snapshot, value)
    assert error.param == PREFERENCES + path
    assert text in error.message


@pytest.mark.parametrize("name", ["any/model", "nobody/x/y", "openai/zzz", "x/*"])
def test_decision_api_accepts_any_model(snapshot: Snapshot, name: str) -> None:
    """Models may be served elsewhere."""
    routes = inline(snapshot, [entry(models=[name, "fast", "a"])], known_only=False)
    assert routes == (Route("r", "d", (ModelRef.parse(name), B, A)),)
    assert refusal(snapshot, [entry(models=[name])]).param == f"{PREFERENCES}[0].models[0]"


@pytest.mark.parametrize("name", ["gpt-4x", "b", "/x", "x/", "smart", "auto"])
def test_bare_name_must_be_known(snapshot: Snapshot, name: str) -> None:
    """Its provider is unknown otherwise."""
    error = refusal(snapshot, [entry(models=[name])], known_only=False)
    assert error.param == f"{PREFERENCES}[0].models[0]"


def test_routes_of_a_request_are_bounded(snapshot: Snapshot) -> None:
    """Their number, their texts and their JSON have limits."""
    most = [entry(name=f"r{number}") for number in range(MAX_ROUTES)]
    assert len(inline(snapshot, most) or ()) == MAX_ROUTES
    assert refusal(snapshot, [*most, entry()]).message.endswith(
        ": has more than 128 routes; send fewer"
    )
    room = MAX_ROUTE_CHARACTERS - len("rd" + "xyz")
    assert inline(snapshot, [entry(description="d" * (1 + room), examples=["x", "yz"])])
    for long in (entry(description="d" * (2 + room), examples=["x", "yz"]),
                 entry(name="r" * 400, description="d" * (MAX_ROUTE_CHARACTERS - 399))):  # fmt: skip
        assert refusal(snapshot, [long]).message.endswith(
            ": has more than 65536 characters of text; shorten it"
        )


@pytest.mark.parametrize(
    "value",
    [
        [entry(models=[1] * MAX_PREFERENCES)],
        [entry(**{f"key{number}": 1 for number in range(MAX_PREFERENCES // 8)})],
        {"x" * MAX_PREFERENCES: 1},
        [entry(models=["a"] * (MAX_PREFERENCES // 4))],
    ],
    ids=["models", "keys", "mapping", "known models"],
)
def test_huge_preferences_are_not_validated(snapshot: Snapshot, value: Json) -> None:
    """Each invalid element would cost time and memory, and block other requests."""
    error = refusal(snapshot, value)
    assert error.param == PREFERENCES
    limit = f"longer than {MAX_PREFERENCES} characters of JSON"
    assert error.message == f"{PREFERENCES}: is {limit}; shorten it"


TREES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["a", "openai/b", "", "cheapest", 1, 0.5, True, None]) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*entry(), "selection_policy", "prefer", "examples", "x"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=15,
)
ENTRIES = st.fixed_dictionaries(
    {"name": st.text(max_size=2), "description": TREES, "models": st.lists(TREES, max_size=2)},
    optional={"selection_policy": TREES, "examples": TREES, "x": TREES},
)


@given(TREES | st.lists(ENTRIES, max_size=3), st.booleans())
def test_any_preferences_are_routes_or_refused(
    snapshot: Snapshot, value: Any, known_only: bool
) -> None:
    """Any value is either read, or refused with the path of the wrong field."""
    try:
        routes = inline(snapshot, value, known_only=known_only)
    except InvalidRequest as error:
        path = str(error.param)
    else:
        path = PREFERENCES
        assert (routes is None) == (value is None)
        assert all(route.name and route.description and route.models for route in routes or ())
    assert path.startswith(PREFERENCES)
