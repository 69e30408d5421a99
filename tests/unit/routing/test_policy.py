"""What the names that clients use stand for."""

from pathlib import Path

import pytest

from serve_app.config.load import load
from serve_app.domain import ModelRef, Prefer, Reason, Route
from serve_app.routing.policy import Policy, compile_policy
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/gpt-4o, name: main, default: true}}
  - {{model: openai/gpt-4o-mini}}
  - {{model: vllm/gpt-4o-mini, base_url: "http://h:1"}}
  - {{model: vllm/llama/3, base_url: "http://h:1", name: openai/gpt-4o-mini}}
  - {{model: vllm/openai, base_url: "http://h:1"}}
  - {{model: ollama/*, base_url: "http://h:2"}}
model_aliases:
  fast: {{target: openai/gpt-4o-mini}}
  llama/3: {{target: gpt-4o}}
  small: {{target: ollama/qwen}}
  ollama/best: {{target: vllm/openai}}
routing_preferences:
  - name: code
    description: writing code
    models: [gpt-4o, ollama/coder]
    selection_policy: {{prefer: cheapest}}
  - name: talk
    description: small talk
    models: [openai/gpt-4o-mini]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return snapshot_of(tmp_path, TEXT).policy


@pytest.mark.parametrize(
    ("name", "model", "reason"),
    [
        ("openai/gpt-4o", "openai/gpt-4o", Reason.EXPLICIT),
        ("vllm/llama/3", "vllm/llama/3", Reason.EXPLICIT),
        ("fast", "openai/gpt-4o-mini", Reason.ALIAS),
        ("llama/3", "openai/gpt-4o", Reason.ALIAS),
        ("small", "ollama/qwen", Reason.ALIAS),
        ("ollama/best", "vllm/openai", Reason.ALIAS),
        ("gpt-4o", "openai/gpt-4o", Reason.EXPLICIT),
        ("openai", "vllm/openai", Reason.EXPLICIT),
        ("ollama/anything:8b", "ollama/anything:8b", Reason.EXPLICIT),
        ("ollama/a/b", "ollama/a/b", Reason.EXPLICIT),
    ],
)
def test_name_resolves_to_a_model(policy: Policy, name: str, model: str, reason: Reason) -> None:
    """A configured model has precedence, then an alias, a bare name, and a wildcard."""
    assert policy.resolve(name) == (ModelRef.parse(model), reason)


@pytest.mark.parametrize(
    "name",
    ["", "x", "gpt-4o-mini", "GPT-4o", "openai/x", "ollama", "ollama/", "/gpt-4o", "openai/gpt-4o ", "main", "code"],
)  # fmt: skip
def test_other_names_do_not_resolve(policy: Policy, name: str) -> None:
    """They are unknown, ambiguous, in another case, or names of something else."""
    assert policy.resolve(name) is None


def test_wildcard_is_not_a_model(policy: Policy) -> None:
    """`provider/*` exists only in the configuration."""
    assert policy.resolve("ollama/*") is None


@pytest.mark.parametrize(
    ("hint", "model"),
    [
        ("main", "openai/gpt-4o"),
        ("openai/gpt-4o-mini", "vllm/llama/3"),
        ("fast", "openai/gpt-4o-mini"),
        ("gpt-4o", "openai/gpt-4o"),
        ("ollama/x", "ollama/x"),
    ],
)
def test_hint_resolves_to_a_model(policy: Policy, hint: str, model: str) -> None:
    """The name of an entry has precedence, then any name of a model."""
    assert policy.resolve_hint(hint) == ModelRef.parse(model)


def test_unknown_hint_does_not_resolve(policy: Policy) -> None:
    """It is like any other name."""
    assert policy.resolve_hint("x") is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gpt-4o-mini", ("openai/gpt-4o-mini", "vllm/gpt-4o-mini")),
        ("openai/gpt-4", ("openai/gpt-4o", "openai/gpt-4o-mini")),
        ("fasd", ("fast", "ollama/fasd")),
        ("zzzzzzzz", ("ollama/zzzzzzzz",)),
        ("zzzzzzzz/y", ()),
    ],
)
def test_nearest_names_are_suggested(policy: Policy, name: str, nearest: tuple[str, ...]) -> None:
    """They are the full forms of an ambiguous name, or names similar to an unknown one."""
    assert policy.nearest(name)[: len(nearest)] == nearest
    assert len(policy.nearest(name)) <= 3


def test_suggested_names_resolve(policy: Policy) -> None:
    """Every suggestion can be used."""
    for name in ("gpt-4o-mini", "gpt", "llama", "fas", "openai/gpt-4", "x"):
        assert all(policy.resolve(proposed) for proposed in policy.nearest(name))


def test_names_are_listed_in_order(policy: Policy) -> None:
    """Models come first and then aliases, in the order of the file, without wildcards."""
    assert policy.names() == [
        *("openai/gpt-4o", "openai/gpt-4o-mini", "vllm/gpt-4o-mini", "vllm/llama/3", "vllm/openai"),
        *("fast", "llama/3", "small", "ollama/best"),
        "auto",  # there are routes
    ]


def test_routes_are_compiled_in_order(policy: Policy) -> None:
    """They have full names, and the order of their models."""
    code = (ModelRef("openai", "gpt-4o"), ModelRef("ollama", "coder"))
    assert policy.routes == (
        Route("code", "writing code", code, Prefer.CHEAPEST),
        Route("talk", "small talk", (ModelRef("openai", "gpt-4o-mini"),)),
    )


def test_default_is_compiled(policy: Policy) -> None:
    """It is the entry with `default: true`."""
    assert policy.default == ModelRef("openai", "gpt-4o")


def test_empty_configuration_is_an_empty_policy(tmp_path: Path) -> None:
    """It has no names, and nothing raises."""
    policy = snapshot_of(tmp_path, V).policy
    assert (policy.names(), policy.routes, policy.default) == ([], (), None)
    assert (policy.resolve("x"), policy.nearest("x")) == (None, ())


@pytest.fixture
def smart(tmp_path: Path) -> Policy:
    """With aliases by which clients leave the choice to the gateway."""
    added = "model_aliases:\n  smart: {target: auto}\n  Best: {target: AUTO}\n  talker: {target: Auto}\n"
    return snapshot_of(tmp_path, TEXT.replace("model_aliases:\n", added)).policy


@pytest.mark.parametrize(
    ("name", "leaves_open", "knows"),
    [
        *[(name, True, True) for name in ("", "none", "auto", "NONE", "Auto")],
        *[(name, True, True) for name in ("smart", "Best", "talker")],
        *[(name, False, True) for name in ("openai/gpt-4o", "gpt-4o", "fast", "ollama/x")],
        *[(name, False, False) for name in ("Smart", "best", " auto", "ollama/*", "main", "code")],
    ],
)
def test_reserved_names_leave_the_choice_open(
    smart: Policy, name: str, leaves_open: bool, knows: bool
) -> None:
    """They do so in any case of letters; aliases of auto only as they are written."""
    assert (smart.leaves_open(name), smart.knows(name)) == (leaves_open, knows)
    assert (smart.resolve(name) is not None) == (knows and not leaves_open)


def test_alias_of_auto_is_listed(smart: Policy) -> None:
    """It is in the order of the file; it is not a model, but can be suggested."""
    assert smart.names()[5:8] == ["smart", "Best", "talker"]
    assert (smart.aliases["smart"], smart.resolve_hint("smart")) == (None, None)
    assert smart.nearest("smrt")[0] == "smart"
    assert all(map(smart.knows, [*smart.names(), *smart.nearest("talk"), *smart.nearest("bets")]))


def test_model_may_be_named_auto(tmp_path: Path) -> None:
    """An alias reaches it; the bare name keeps its reserved meaning."""
    text = f"{V}model_providers: [{{model: openai/auto}}]\nmodel_aliases: {{x: {{target: auto}}}}\n"
    policy = snapshot_of(tmp_path, text).policy
    assert policy.resolve("x") == (ModelRef("openai", "auto"), Reason.ALIAS)
    assert (policy.leaves_open("x"), policy.leaves_open("auto")) == (False, True)


@pytest.mark.parametrize(("text", "always"), [("", False), ("overrides: {}\n", False), ("overrides: {always_route: true}\n", True)])  # fmt: skip
def test_always_route_is_off_by_default(text: str, always: bool, tmp_path: Path) -> None:
    """The switch is Plano's."""
    assert snapshot_of(tmp_path, TEXT + text).policy.always_route is always


def test_examples_belong_to_their_route(tmp_path: Path) -> None:
    """They are in their order."""
    text = TEXT.replace(
        "description: small talk", "description: d\n    examples: [hi, how are you]"
    )
    code, talk = snapshot_of(tmp_path, text).policy.routes
    assert (code.examples, talk.examples) == ((), ("hi", "how are you"))


def test_examples_of_no_route_belong_to_the_policy(policy: Policy, tmp_path: Path) -> None:
    """They are in their order, empty without the key, and another version if they change."""
    assert policy.no_route_examples == ()
    some, other = (
        snapshot_of(tmp_path, f"{TEXT}no_route_examples: {texts}\n").policy
        for texts in ("[hi, how are you]", "[hi]")
    )
    assert (some.no_route_examples, other.no_route_examples) == (("hi", "how are you"), ("hi",))
    assert len({policy.version, some.version, other.version}) == 3


@pytest.mark.parametrize("attribute", ["models", "bare", "hints", "aliases"])
def test_policy_is_immutable(policy: Policy, attribute: str) -> None:
    """A request keeps the policy with which it began."""
    with pytest.raises(TypeError):
        getattr(policy, attribute)["x"] = 1


TWO_ENDPOINTS = """model_providers:
  - {model: openai/a, access_key: $A, default: true}
  - {model: openai/a, access_key: $B, default: true, name: second}
  - {model: openai/b, base_url: http://b}
model_aliases: {fast: {target: a}}
"""


def compiled(directory: Path, text: str) -> tuple[Policy, list[str]]:
    """The policy of a file, whatever else would be said about the file."""
    file = directory / "gateway.yaml"
    file.write_text(text, "utf-8")
    policy, problems = compile_policy(load(file))
    return policy, [str(problem) for problem in problems]


def test_model_with_several_endpoints_is_one_model(tmp_path: Path) -> None:
    """Its bare name is not ambiguous, and there is one default."""
    policy, problems = compiled(tmp_path, V + TWO_ENDPOINTS)
    assert problems == []
    assert policy.names() == ["openai/a", "openai/b", "fast"]
    assert policy.resolve("a") == (ModelRef("openai", "a"), Reason.EXPLICIT)
    assert (policy.default, policy.hints["second"]) == (ModelRef("openai", "a"),) * 2


def test_second_default_is_a_problem(tmp_path: Path) -> None:
    """It is located where it is written."""
    text = f"version: v0.1\nllm_{TWO_ENDPOINTS[6:]}".replace("http://b", "http://b, default: true")
    assert compiled(tmp_path, text)[1] == [
        "line 5: llm_providers[2].default: 'openai/a' is already the default; keep one"
    ]


def test_bare_name_of_two_providers_is_ambiguous(tmp_path: Path) -> None:
    """The problem names both models."""
    text = f"{V}{TWO_ENDPOINTS}routing_preferences: [{{name: x, description: d, models: [a]}}]\n"
    policy, problems = compiled(tmp_path, text.replace("openai/b", "ollama/a"))
    assert policy.resolve("a") is None
    assert problems == [
        "line 6: model_aliases.fast.target: 'a' is ambiguous; use openai/a or ollama/a",
        "line 7: routing_preferences[0].models[0]: 'a' is ambiguous; use openai/a or ollama/a",
    ]


def test_name_replaces_missing_description(tmp_path: Path) -> None:
    """An empty text would be similar to everything."""
    text = f"{V}{TWO_ENDPOINTS}routing_preferences: [{{name: x, description: '', models: [b]}}]\n"
    assert compiled(tmp_path, text)[0].routes[0].description == "x"
