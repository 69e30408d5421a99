"""Examples that are added to the text of a configuration."""

import json
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve_app.config.locations import ConfigError
from serve_app.config.yaml_examples import CannotEditError, add_examples, fragment
from serve_app.evaluation.suggested import clean
from tests.unit.config_texts import ONE_MODEL

HARD: Final = [
    'it\'s: "so" # not a comment',
    "- dash",
    "née 😀 日本語",
    "yes",
    "[a, b]: {c}",
    "*x & !y %z",
    "1e3",
    "a, b",
    "? q",
    "@home `x`",
    "null",
    "  spaces ",
    "two\nlines",
]
"""Texts that YAML reads as something else unless they are quoted."""

A: Final = '  - name: a\n    description: "d"\n    models: [openai/gpt-4o]\n'
B: Final = "  - name: b\n    description: e\n    models: [openai/gpt-4o]\n"
JSON: Final = """\
{"version": "v0.4.0", "model_providers": [{"model": "openai/gpt-4o"}],
  "routing_preferences": [
    {"name": "a", "description": "d", "models": ["openai/gpt-4o"]},
    {"name": "b", "description": "e", "models": ["openai/gpt-4o"], "examples": []}]}
"""
FORMS: Final = {
    "block": ONE_MODEL + "routing_preferences:\n" + A + B,
    "dashes below the key": (
        "version: v0.4.0\nrouting_preferences:\n- name: a\n  description: d\n  models:\n  - openai/gpt-4o\n"
        "- name: b\n  models:\n  - openai/gpt-4o\n  examples:\n  - one\n  description: e\nmodel_providers:\n- model: openai/gpt-4o"
    ),
    "braces": (
        ONE_MODEL + "routing_preferences:\n  - {name: a, description: d, models: [openai/gpt-4o]}  # c\n"
        '  - {name: b, description: e, models: [openai/gpt-4o], examples: [one, "two",]}\n'
        "no_route_examples: [hi]\n"
    ),
    "empty brackets": ONE_MODEL + "no_route_examples: []\nrouting_preferences:\n" + A + B + "    examples: [ ]  # none\n",
    "json": JSON,
    "block scalars": (
        ONE_MODEL + "routing_preferences:\n" + A + "    examples:\n      - |\n        long\n\n        text\n\n"
        "      - >-\n        folded\n        text\n\n  - models: [openai/gpt-4o]\n    name: b\n    description: |+\n"
        "      kept\n\n\n"
    ),
    "a block scalar at the end": (
        ONE_MODEL + "routing_preferences:\n" + A + "  - name: b\n    models: [openai/gpt-4o]\n    description: >+  # + all\n      kept\n"
    ),
    "no end of line": ONE_MODEL + "routing_preferences:\n" + A + B.rstrip("\n"),
    "routes in brackets": (
        ONE_MODEL + "routing_preferences: [{name: a, description: d, models: [openai/gpt-4o]},\n"
        "  {models: [openai/gpt-4o], description: e, name: b}]\nprices: {}\n"
    ),
    "own anchors": (
        ONE_MODEL + "routing_preferences:\n  - &x\n    name: a\n    description: d\n    models: &m [openai/gpt-4o]\n    examples: &e\n      - one\n"
        "  - <<: *x\n    name: b\n    models: *m\n"
    ),
    "older version": "version: v0.3.0\nllm_providers:\n  - model: openai/gpt-4o\nrouting_preferences:\n" + A + B,
}  # fmt: skip


def values_of(text: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def checked(text: str, examples: dict[str, list[str]], no_route: list[str]) -> str:
    """The changed text, in which nothing but the examples differs."""
    new = add_examples(text, "gateway.yaml", examples, no_route)
    before, after = values_of(text), values_of(new)
    for route in before["routing_preferences"]:
        if route["name"] in examples:
            route["examples"] = [*route.get("examples", []), *examples[route["name"]]]
    before["no_route_examples"] = [*before.get("no_route_examples", []), *no_route]
    assert after == before
    return new


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_examples_are_added_in_every_style(form: str, newline: str) -> None:
    """Quotes, colons, other scripts and words that YAML reads in another way stay texts."""
    text = FORMS[form].replace("\n", newline)
    new = checked(text, {"a": HARD, "b": HARD[::-1]}, HARD)
    assert new.count("\n") - new.count("\r\n") == (new.count("\n") if newline == "\n" else 0)


MESSAGES: Final = st.lists(st.text().map(clean).filter(bool), max_size=3, unique=True)


@given(st.sampled_from(sorted(FORMS.keys() - {"own anchors"})), MESSAGES, MESSAGES, MESSAGES)
def test_any_message_is_added_as_it_is(
    form: str, own: list[str], other: list[str], none: list[str]
) -> None:
    """Whatever a model writes."""
    new = add_examples(FORMS[form], "f", {"a": own, "b": other}, none)
    routes = values_of(new)["routing_preferences"]
    assert set(own) <= set(routes[0].get("examples", ()))
    assert set(other) <= set(routes[1].get("examples", ()))
    assert set(none) <= set(values_of(new).get("no_route_examples", ()))


def test_json_stays_json() -> None:
    """A file in JSON is one afterwards."""
    assert json.loads(checked(JSON, {"a": HARD, "b": HARD}, HARD))


BEFORE: Final = """
routing_preferences:
  # the first
  - name: a
    description: d  # why
    models: [openai/gpt-4o]   # here
    # of the first
      # deeper

  # the second
  - name: b
    examples:
      - 'one'   # its own
      # between
    description: |
      long

    models:
      - openai/gpt-4o
  # at the end

# next
timeouts: {total_s: 9}
"""
AFTER: Final = """
routing_preferences:
  # the first
  - name: a
    description: d  # why
    models: [openai/gpt-4o]   # here
    # of the first
      # deeper
    examples:
      - 'x: y'

  # the second
  - name: b
    examples:
      - 'one'   # its own
      # between
      - two
    description: |
      long

    models:
      - openai/gpt-4o
  # at the end

no_route_examples:
  - hi

# next
timeouts: {total_s: 9}
"""


def test_everything_else_stays_as_it_is() -> None:
    """Comments, order, blank lines and styles."""
    new = checked(ONE_MODEL + BEFORE, {"a": ["x: y"], "b": ["two"]}, ["hi"])
    assert new == ONE_MODEL + AFTER


def test_existing_examples_are_kept_and_not_repeated() -> None:
    """Also within the new ones, and the list ends at the maximum of the configuration."""
    text = ONE_MODEL + "routing_preferences:\n" + A + "    examples: [one]\n" + B
    new = add_examples(text, "f", {"a": ["one", "two", "two"], "b": []})
    assert values_of(new)["routing_preferences"][0]["examples"] == ["one", "two"]
    assert "examples" not in values_of(new)["routing_preferences"][1]
    many = add_examples(text, "f", {"a": [f"text {number}" for number in range(99)]})
    assert len(values_of(many)["routing_preferences"][0]["examples"]) == 64
    assert add_examples(text, "f", {"a": ["one"], "unknown": ["x"]}) == text


def test_route_under_a_model_is_not_changed() -> None:
    """The older format has no examples; the message names the line and the command that helps."""
    text = "version: v0.3.0\nllm_providers:\n  - model: openai/a\n    routing_preferences:\n      - {name: a, description: d}\n"
    with pytest.raises(CannotEditError) as caught:
        add_examples(text, "plano.yaml", {"a": ["x"]})
    assert str(caught.value) == (
        "plano.yaml has 1 problem:\n  line 5: llm_providers[0].routing_preferences[0]: a route "
        "under a model cannot have examples; move it to the top level with `fingerpost migrate --write`"
    )


ANCHORS: Final = {
    "examples of another route": (
        A + "    examples: &e [one]\n" + B + "    examples: *e\n", {"b": ["x"]},
    ),
    "examples that another route uses": (
        A + "    examples: &e [one]\n" + B + "    examples: *e\n", {"a": ["x"]},
    ),
    "a scalar that ends with the file": (
        A + "  - name: b\n    models: [openai/gpt-4o]\n    description: |\n      f", {"b": ["x"]},
    ),
    "all routes": ("  *r\n", {"a": ["x"]}),
    "a whole route": ("  - &s {name: a, description: d, models: [openai/gpt-4o]}\n  - *s\n", {"a": ["x"]}),
}  # fmt: skip


@pytest.mark.parametrize("case", ANCHORS)
def test_what_anchors_share_is_not_changed(case: str) -> None:
    """The examples would be added to something else, too."""
    routes, examples = ANCHORS[case]
    with pytest.raises(CannotEditError, match="without a change of other values"):
        add_examples(
            f"prompt_targets: &r\n{A}{ONE_MODEL}routing_preferences:\n{routes}", "f", examples
        )


def test_invalid_text_is_a_problem() -> None:
    """As when the file is read."""
    with pytest.raises(ConfigError, match="invalid YAML"):
        add_examples("a: [", "f", {"a": ["x"]})


def test_result_that_means_something_else_is_not_used() -> None:
    """Line ends of an old Mac are found by YAML only, so the places are not those that are meant."""
    text = ONE_MODEL + "routing_preferences:\n" + A + B
    for rest in ("", "timeouts: {total_s: 9}\n"):
        with pytest.raises(CannotEditError):
            add_examples((text + rest).replace("\n", "\r"), "f", {"a": ["x"]})


def test_fragment_can_be_pasted() -> None:
    """It contains the names of the routes and all of their examples."""
    text = fragment({"a: b": HARD, "c": ["x"]}, ["hi", "no: route"])
    assert values_of(text) == {
        "routing_preferences": [
            {"name": "a: b", "examples": HARD},
            {"name": "c", "examples": ["x"]},
        ],
        "no_route_examples": ["hi", "no: route"],
    }
    assert fragment({}, ["hi"]) == "no_route_examples:\n  - hi"
    assert values_of(fragment({"a": ["x"]}, ())) == {
        "routing_preferences": [{"name": "a", "examples": ["x"]}]
    }
