"""The section ``routing_rules``: its problems, each with its line and a way out."""

from pathlib import Path
from typing import Final

import pytest

from serve_app.config.locations import ConfigError
from serve_app.snapshot import compile_snapshot
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

HEAD: Final = f"""{VERSION}model_providers:
  - model: openai/gpt-4o
  - model: openai/gpt-4o-mini
model_aliases:
  claude-auto: {{target: auto}}
  fast: {{target: gpt-4o-mini}}
routing_preferences:
  - {{name: cheap, description: small talk, models: [gpt-4o-mini]}}
  - {{name: fine, description: code, models: [gpt-4o]}}
"""
RULE: Final = "routing_rules:\n  - name: r\n    match: {alias: auto}\n"
OPEN: Final = (
    "{} names a model, so requests for it are not decided by rules; name an alias whose target "
    "is auto, or set `overrides.always_route: true`"
)
CREDENTIAL: Final = "holds a credential, which rules do not read; match another header"


def problems_of(folder: Path, text: str) -> list[tuple[str, str, str]]:
    """The line, the path and the message of each problem."""
    file = folder / "gateway.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as raised:
        compile_snapshot(file)
    lines = text.splitlines()
    return [
        (lines[problem.line - 1].strip(), problem.path.partition(".")[2], problem.message)
        for problem in raised.value.problems
    ]


def match_of(keys: str) -> str:
    return f"routing_rules:\n  - name: r\n    model: gpt-4o\n    match:\n{keys}"


@pytest.mark.parametrize(
    ("text", "line", "path", "message"),
    [
        (RULE, "- name: r", "", "names neither a model nor a route; add `model:` or `route:`"),
        (RULE + "    model: gpt-4o\n    route: fine\n", "route: fine", "route", "conflicts with model; keep one of them"),
        (RULE + "    model: gpt-4x\n", "model: gpt-4x", "model", "no entry of model_providers is named 'gpt-4x'; did you mean 'gpt-4o'?"),
        (RULE + "    model: fast\n", "model: fast", "model", "'fast' is an alias; name the model itself"),
        (RULE + "    route: cheep\n", "route: cheep", "route", "no entry of routing_preferences is named 'cheep'; did you mean 'cheap'?"),
        (RULE + "    route: zzz\n", "route: zzz", "route", "no entry of routing_preferences is named 'zzz'; add it to routing_preferences"),
        (RULE.replace("alias: auto", "") + "    route: fine\n", "match: {}", "match", "must not be empty; add a condition, such as `request_class: compaction`"),
        (match_of("      body_bytes: {}\n"), "body_bytes: {}", "match.body_bytes", "must not be empty; add `at_least:` or `at_most:`"),
        (match_of("      body_bytes:\n        at_least: 9\n        at_most: 8\n"), "at_most: 8", "match.body_bytes.at_most", "must be at least at_least, 9"),
        (match_of("      body_bytes: {at_least: -1}\n"), "body_bytes: {at_least: -1}", "match.body_bytes.at_least", "must be at least 0"),
        (match_of("      body_bytes: {at_last: 1}\n"), "body_bytes: {at_last: 1}", "match.body_bytes.at_last", "unknown key; did you mean 'at_least'?"),
        (match_of("      headers: {}\n"), "headers: {}", "match.headers", "must not be empty; add an entry"),
        (match_of("      headers:\n        Authorization: '*'\n"), "Authorization: '*'", "match.headers.Authorization", CREDENTIAL),
        (match_of("      headers:\n        x-api-key: '*'\n"), "x-api-key: '*'", "match.headers.x-api-key", CREDENTIAL),
        (match_of("      headers:\n        X-Fingerpost-Key: '*'\n"), "X-Fingerpost-Key: '*'", "match.headers.X-Fingerpost-Key", CREDENTIAL),
        (match_of("      headers:\n        cookie: '*'\n"), "cookie: '*'", "match.headers.cookie", CREDENTIAL),
        (match_of("      headers:\n        x y: '*'\n"), "x y: '*'", "match.headers.x y", "is not a valid header name"),
        (match_of("      headers:\n        x-on: true\n"), "x-on: true", "match.headers.x-on[0]", "must be a string, not true or false"),
        (match_of("      headers:\n        x-on: ''\n"), "x-on: ''", "match.headers.x-on[0]", "must not be empty"),
        (match_of("      request_class: []\n"), "request_class: []", "match.request_class", "must not be empty; add an entry"),
        (match_of("      agent_type: {a: b}\n"), "agent_type: {a: b}", "match.agent_type[0]", "must be a string, not a mapping"),
        (match_of("      agent_types: a\n"), "agent_types: a", "match.agent_types", "unknown key; did you mean 'agent_type'?"),
        (match_of("      alias: fast\n"), "alias: fast", "match.alias[0]", OPEN.format("'fast'")),
        (match_of("      alias: [auto, gpt-4o]\n"), "alias: [auto, gpt-4o]", "match.alias[1]", OPEN.format("'gpt-4o'")),
        (match_of("      alias: claude-aut\n"), "alias: claude-aut", "match.alias[0]", "no entry of model_aliases is named 'claude-aut'; did you mean 'claude-auto'?"),
        (match_of("      alias: zzz\n"), "alias: zzz", "match.alias[0]", "no entry of model_aliases is named 'zzz'; add it with target auto"),
        ("routing_rules:\n  - {name: r, match: {alias: auto}, model: gpt-4o}\n  - {name: r, match: {agent_type: x}, model: gpt-4o}\n", "- {name: r, match: {agent_type: x}, model: gpt-4o}", "name", "duplicate rule 'r'; keep one"),
    ],
)  # fmt: skip
def test_problem_has_its_line_and_a_way_out(
    text: str, line: str, path: str, message: str, tmp_path: Path
) -> None:
    """Each is the only problem of its file."""
    assert problems_of(tmp_path, HEAD + text) == [(line, path, message)]


FIRST, SECOND = "{request_class: [a, B]}", "{headers: {X-Claude-Code-Request-Class: [b, A]}}"
SAME: Final = "same conditions as rule 'one', which is asked first; change or remove one"


@pytest.mark.parametrize(
    ("first", "second", "is_problem"),
    [
        (f"{FIRST}, model: gpt-4o", f"{SECOND}, model: gpt-4o-mini", True),
        (f"{FIRST}, model: gpt-4o", f"{SECOND}, route: cheap", True),
        (f"{FIRST}, route: cheap", f"{SECOND}, route: fine", True),
        (f"{FIRST}, route: cheap", f"{SECOND}, model: gpt-4o", False),
        (f"{FIRST}, model: gpt-4o", "{request_class: [a]}, model: gpt-4o", False),
    ],
)
def test_rule_with_conditions_of_an_earlier_one_is_a_problem(
    first: str, second: str, tmp_path: Path, *, is_problem: bool
) -> None:
    """It would never decide, unless the earlier one is skipped for routes of the request."""
    rules = f"  - {{name: one, match: {first}}}\n  - {{name: two, match: {second}}}\n"
    text = f"{HEAD}routing_rules:\n{rules}"
    if is_problem:
        assert problems_of(tmp_path, text) == [(rules.splitlines()[1].strip(), "match", SAME)]
    else:
        assert len(snapshot_of(tmp_path, text).policy.rules) == 2


def test_rules_may_match_every_name_with_always_route(tmp_path: Path) -> None:
    """Because requests that name a model are decided by rules then."""
    text = match_of("      alias: [fast, gpt-4o, openai/gpt-4o-mini, claude-auto]\n")
    policy = snapshot_of(tmp_path, f"{HEAD}{text}overrides: {{always_route: true}}\n").policy
    assert len(policy.rules) == 1


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ("model_providers:\n  - {model: openai/a, zzz: 1}\n", "{name: r, match: {alias: auto}, model: openai/a}"),
        ("routing_preferences:\n  - {name: code, zzz: 1, description: d, models: [openai/b]}\nmodel_providers: [{model: openai/b}]\n", "{name: r, match: {alias: auto}, route: code}"),
        ("model_aliases:\n  smart: {target: auto, zzz: 1}\nmodel_providers: [{model: openai/b}]\n", "{name: r, match: {alias: smart}, model: openai/b}"),
    ],
)  # fmt: skip
def test_entry_with_a_problem_is_not_unknown_to_rules(
    broken: str, rule: str, tmp_path: Path
) -> None:
    """A rule that names it adds no second problem."""
    problems = problems_of(tmp_path, f"{VERSION}{broken}routing_rules:\n  - {rule}\n")
    assert [message.partition(";")[0] for _, _, message in problems] == ["unknown key"]


@pytest.mark.parametrize("section", ["routing_preferences: 5", "model_aliases: 5"])
def test_section_of_another_type_is_one_problem(section: str, tmp_path: Path) -> None:
    """Rules find names in it as in an empty one."""
    rule = "{name: r, match: {alias: smart}, route: code}"
    text = f"{VERSION}{section}\nrouting_rules:\n  - {rule}\n"
    assert any("must be a" in message for _, _, message in problems_of(tmp_path, text))


def test_faulty_rule_is_left_out_of_other_checks(tmp_path: Path) -> None:
    """The problems of the rules behind it keep their places."""
    rules = "  - {name: a, match: {alias: auto}, modell: gpt-4o}\n  - {name: b, match: {alias: auto}, model: zzz}\n"
    file = tmp_path / "gateway.yaml"
    file.write_text(f"{HEAD}routing_rules:\n{rules}", "utf-8")
    with pytest.raises(ConfigError) as raised:
        compile_snapshot(file)
    assert [problem.path for problem in raised.value.problems] == [
        "routing_rules[0].modell",
        "routing_rules[1].model",
    ]
