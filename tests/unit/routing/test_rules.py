"""Routing rules: what matches, which rule decides, and what it costs."""

import itertools
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import ModelRef, Reason, Route, RouteDecision
from serve_app.errors import NoModel
from serve_app.routing.policy import Policy
from serve_app.routing.router import ByContent, ModelChoice, by_rule, decide, without_routes
from serve_app.routing.rules import (
    HeaderCondition,
    MatchedRule,
    NameCondition,
    Pattern,
    RequestFacts,
    Rule,
    SizeCondition,
    first_match,
    read_headers_of,
)
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

A, B, C, D = (ModelRef("openai", name) for name in "abcd")
CODE = Route("code", "writing code", (B, C))
NO_FACTS = RequestFacts.of({}, "", 10)


def policy_of(directory: Path, rules: str, more: str = "", default: str = "") -> Policy:
    text = f"{V}model_providers:\n  - {{model: openai/a{default}}}\n" + "".join(
        f"  - model: openai/{name}\n" for name in "bcd"
    )
    aliases = "model_aliases: {claude-auto: {target: auto}, fast: {target: b}}\n"
    return snapshot_of(directory, f"{text}{aliases}{more}routing_rules:\n{rules}").policy


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("main", "main", True),
        ("Main", "mAIN", True),
        (" main ", "main", True),
        ("main", "main2", False),
        ("main", "", False),
        ("*", "x", True),
        ("**", "x", True),
        ("codex*", "codex_cli_rs/0.169.0", True),
        ("codex_cli_rs/*", "Codex_CLI_rs/", True),
        ("codex_cli_rs/*", "x codex_cli_rs/1", False),
        ("*cli*", "claude-cli/2", True),
        ("*/2", "claude-cli/2", True),
        ("*/2", "claude-cli/23", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*a", "aba", True),
        ("ab*bc", "abc", False),
        ("a*bb*b", "abbb", True),
        ("a*bb*b", "abb", False),
        ("a.c", "abc", False),
        ("a?c", "abc", False),
        ("[ab]*", "ab", False),
        ("straße", "STRASSE", True),
    ],
)
def test_pattern_fits_whole_values(pattern: str, value: str, fits: bool) -> None:
    """The star stands for any characters, letter case does not count, nothing else is special."""
    assert Pattern.of(pattern).fits(value.casefold()) is fits


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=10))
def test_pattern_agrees_with_a_regular_expression(pattern: str, value: str) -> None:
    """For any pattern and any value."""
    form = ".*".join(map(re.escape, pattern.split("*")))
    assert Pattern.of(pattern).fits(value) is bool(re.fullmatch(form, value, re.DOTALL))


def test_pattern_with_many_stars_takes_little_time() -> None:
    """On the longest header that a client can send, a regular expression would take hours."""
    started = time.perf_counter()
    assert not Pattern.of("*a" * 30 + "*b").fits("a" * (192 << 10))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("headers", "matched"),
    [
        ({"x-a": "Main"}, ("header x-a: main",)),
        ({"x-a": "  side "}, ("header x-a: Side*",)),
        ({"x-a": ""}, None),
        ({"x-a": " "}, None),
        ({"x-b": "main"}, None),
        ({}, None),
    ],
)
def test_header_condition_reads_one_header(
    headers: dict[str, str], matched: tuple[str, ...] | None
) -> None:
    """Spaces around its value do not count; one that is absent or empty does not match."""
    condition = HeaderCondition("x-a", (Pattern.of("main"), Pattern.of("Side*")))
    assert Rule("r", (condition,), A).match(RequestFacts.of(headers, "", 1)) == matched


@pytest.mark.parametrize(
    ("at_least", "at_most", "size", "matches"),
    [
        (10, None, 9, False), (10, None, 10, True), (None, 10, 10, True), (None, 10, 11, False),
        (5, 10, 7, True), (0, 0, 1, False),
    ],
)  # fmt: skip
def test_size_condition_includes_its_bounds(
    at_least: int | None, at_most: int | None, size: int, *, matches: bool
) -> None:
    """Either bound may be left out."""
    facts = RequestFacts.of({}, "", size)
    expected = f"body_bytes: {size}" if matches else None
    assert SizeCondition(at_least, at_most).holds(facts) == expected


@pytest.mark.parametrize("name", ["", "none", "auto", "AUTO", "None"])
def test_request_without_a_name_asks_for_auto(name: str) -> None:
    """In each way in which a client may leave the choice open."""
    condition = NameCondition(frozenset({"auto"}))
    assert condition.holds(RequestFacts.of({}, name, 1)) == "alias: auto"
    assert condition.holds(RequestFacts.of({}, "claude-auto", 1)) is None


def test_rule_needs_all_its_conditions() -> None:
    """It says what of the request met each of them, in order."""
    conditions = (
        HeaderCondition("x-a", (Pattern.of("*"),)),
        NameCondition(frozenset({"smart"})),
        SizeCondition(10, None),
    )
    rule = Rule("r", conditions, A)
    met = RequestFacts.of({"x-a": "1"}, "smart", 10)
    assert rule.match(met) == ("header x-a: *", "alias: smart", "body_bytes: 10")
    for headers, name, size in ({}, "smart", 10), ({"x-a": "1"}, "", 10), ({"x-a": "1"}, "smart", 9):  # fmt: skip
        assert rule.match(RequestFacts.of(headers, name, size)) is None


def test_first_match_skips_rules_of_other_routes() -> None:
    """A request with routes of its own is decided by rules of these, and by rules of models."""
    always = (SizeCondition(1, None),)
    never = (SizeCondition(100, None),)
    rules = (Rule("n", never, D), Rule("r", always, route="code"), Rule("m", always, A))
    found = first_match(rules, NO_FACTS, (CODE,))
    assert found == MatchedRule(rules[1], (B, C), ("body_bytes: 10",))
    assert first_match(rules, NO_FACTS, (Route("own", "d", (C,)),)) == MatchedRule(
        rules[2], (A,), ("body_bytes: 10",)
    )
    assert first_match(rules[:2], NO_FACTS, ()) is None


def test_rules_are_compiled_in_order(tmp_path: Path) -> None:
    """Each text may be a list, of which any may match; class and agent are headers."""
    rules = """
  - name: housekeeping
    match:
      request_class: [compaction, auxiliary]
      agent_type: Explore
      headers: {User-Agent: "codex/*", x-own: ["b", "A", "a"]}
      alias: [claude-auto, auto]
      body_bytes: {at_least: 2}
    model: b
  - {name: rest, match: {body_bytes: {at_most: 9}}, route: code}
"""
    routes = "routing_preferences: [{name: code, description: d, models: [b, c]}]\n"
    first, second = policy_of(tmp_path, rules, routes).rules
    assert first == Rule(
        "housekeeping",
        (
            HeaderCondition(
                "x-claude-code-request-class",
                (Pattern.of("auxiliary"), Pattern.of("compaction")),
            ),
            HeaderCondition("x-claude-code-agent-type", (Pattern.of("Explore"),)),
            HeaderCondition("user-agent", (Pattern.of("codex/*"),)),
            HeaderCondition("x-own", (Pattern.of("a"), Pattern.of("b"))),
            NameCondition(frozenset({"claude-auto", "auto"})),
            SizeCondition(2, None),
        ),
        B,
    )
    assert second == Rule("rest", (SizeCondition(None, 9),), None, "code")
    assert read_headers_of((first, second)) == {
        b"x-claude-code-request-class", b"x-claude-code-agent-type", b"user-agent", b"x-own",
    }  # fmt: skip


def test_snapshot_reads_the_headers_of_rules(tmp_path: Path) -> None:
    """Besides those of sessions, which it reads without rules, too."""
    text = f"{V}model_providers:\n  - model: openai/a\n"
    rule = "routing_rules: [{name: r, match: {headers: {X-Own: '*'}}, model: a}]\n"
    without, with_rule = snapshot_of(tmp_path, text), snapshot_of(tmp_path, text + rule)
    assert with_rule.deciding_headers - without.deciding_headers == {b"x-own"}
    assert without.policy.rules == ()


ANY = "  - {name: r, match: {body_bytes: {at_least: 0}}, model: c}\n"
ALWAYS = "overrides: {always_route: true}\n"


def test_rules_are_asked_without_routes(tmp_path: Path) -> None:
    """Also without a default model; where no rule matches then, the request cannot be decided."""
    policy = policy_of(tmp_path, ANY)
    for name in (None, "", "auto", "claude-auto"):
        question = decide(policy, ModelChoice(name))
        assert question == ByContent(())
        assert isinstance(question, ByContent)
        found = first_match(policy.rules, NO_FACTS, question.routes)
        assert found is not None
        decision = by_rule(policy, question, found)
        assert decision == RouteDecision((C,), Reason.RULE, rule="r")
    with pytest.raises(NoModel):
        without_routes(policy, ByContent(()))
    policy = policy_of(tmp_path, ANY, default=", default: true")
    assert without_routes(policy, ByContent(())) == RouteDecision((A,), Reason.DEFAULT)


@pytest.mark.parametrize("always", [False, True])
def test_rules_decide_named_requests_with_always_route(tmp_path: Path, *, always: bool) -> None:
    """Else the name decides. The named model with its fallbacks comes after that of the rule."""
    policy = policy_of(tmp_path, ANY, ALWAYS if always else "", ", default: true")
    choice = ModelChoice("fast", None, ("openai/d",))
    named = RouteDecision((B, D), Reason.ALIAS)
    question = decide(policy, choice)
    assert question == (ByContent((), named) if always else named)
    if isinstance(question, ByContent):
        found = first_match(policy.rules, NO_FACTS, question.routes)
        assert found is not None
        assert by_rule(policy, question, found).candidates == (C, B, D, A)
        assert without_routes(policy, question) == named


def test_candidates_of_a_route_are_its_models_and_the_default(tmp_path: Path) -> None:
    """Each once, and the decision has the route's name."""
    routes = "routing_preferences: [{name: code, description: d, models: [b, a, c]}]\n"
    rules = "  - {name: r é, match: {alias: auto}, route: code}\n"
    policy = policy_of(tmp_path, rules, routes, ", default: true")
    question = decide(policy, ModelChoice(None))
    assert isinstance(question, ByContent)
    found = first_match(policy.rules, NO_FACTS, question.routes)
    assert found is not None
    expected = RouteDecision((B, A, C), Reason.RULE, "code", rule="r é")
    assert by_rule(policy, question, found) == expected


def test_order_of_lists_does_not_distinguish_conditions(tmp_path: Path) -> None:
    """Nor does their letter case, so that identical rules are found."""
    texts = itertools.permutations(["a*", "B", "b"])
    compiled = {
        policy_of(tmp_path, f"  - {{name: r, match: {{agent_type: {list(t)}}}, model: a}}\n").rules
        for t in texts
    }
    assert len(compiled) == 1
