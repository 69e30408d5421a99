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
def test_a_name_stands_for_a_model(policy: Policy, name: str, model: str, reason: Reason) -> None:
    """A configured model first, then an alias, a bare name, and a wildcard."""
    assert policy.resolve(name) == (ModelRef.parse(model), reason)


@pytest.mark.parametrize(
    "name",
    ["", "x", "gpt-4o-mini", "GPT-4o", "openai/x", "ollama", "ollama/", "/gpt-4o", "openai/gpt-4o ", "main", "code"],
)  # fmt: skip
def test_other_names_stand_for_nothing(policy: Policy, name: str) -> None:
    """Unknown, ambiguous, of another case, or the name of something else."""
    assert policy.resolve(name) is None


def test_a_wildcard_itself_is_no_model(policy: Policy) -> None:
    """`provider/*` is how the configuration writes it; no provider has a model of that name."""
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
def test_a_hint_stands_for_a_model(policy: Policy, hint: str, model: str) -> None:
    """The name of an entry first, then any name of a model."""
    assert policy.resolve_hint(hint) == ModelRef.parse(model)


def test_an_unknown_hint_stands_for_nothing(policy: Policy) -> None:
    """As with any other name."""
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
def test_the_nearest_names_are_known(policy: Policy, name: str, nearest: tuple[str, ...]) -> None:
    """An ambiguous name shows its full forms, an unknown one what is like it."""
    assert policy.nearest(name)[: len(nearest)] == nearest
    assert len(policy.nearest(name)) <= 3


def test_all_nearest_names_resolve(policy: Policy) -> None:
    """What is proposed can be used."""
    for name in ("gpt-4o-mini", "gpt", "llama", "fas", "openai/gpt-4", "x"):
        assert all(policy.resolve(proposed) for proposed in policy.nearest(name))


def test_names_are_shown_in_order(policy: Policy) -> None:
    """Models and then aliases, as they stand in the file; wildcards are no names."""
    assert policy.names() == [
        *("openai/gpt-4o", "openai/gpt-4o-mini", "vllm/gpt-4o-mini", "vllm/llama/3", "vllm/openai"),
        *("fast", "llama/3", "small", "ollama/best"),
        "auto",  # there are routes
    ]


def test_routes_are_compiled_in_order(policy: Policy) -> None:
    """With full names, and how their models are ordered."""
    code = (ModelRef("openai", "gpt-4o"), ModelRef("ollama", "coder"))
    assert policy.routes == (
        Route("code", "writing code", code, Prefer.CHEAPEST),
        Route("talk", "small talk", (ModelRef("openai", "gpt-4o-mini"),)),
    )


def test_the_default_is_known(policy: Policy) -> None:
    """The entry that says so."""
    assert policy.default == ModelRef("openai", "gpt-4o")


def test_an_empty_configuration_is_an_empty_policy(tmp_path: Path) -> None:
    """Nothing is configured, nothing is known, and nothing fails."""
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
def test_names_leave_the_choice_open(
    smart: Policy, name: str, leaves_open: bool, knows: bool
) -> None:
    """Those that mean nothing in any case, and aliases of auto as they are written."""
    assert (smart.leaves_open(name), smart.knows(name)) == (leaves_open, knows)
    assert (smart.resolve(name) is not None) == (knows and not leaves_open)


def test_an_alias_of_auto_is_shown(smart: Policy) -> None:
    """Where it stands in the file; it is no model, and can be proposed."""
    assert smart.names()[5:8] == ["smart", "Best", "talker"]
    assert (smart.aliases["smart"], smart.resolve_hint("smart")) == (None, None)
    assert smart.nearest("smrt")[0] == "smart"
    assert all(map(smart.knows, [*smart.names(), *smart.nearest("talk"), *smart.nearest("bets")]))


def test_a_model_may_be_called_auto(tmp_path: Path) -> None:
    """An alias reaches it; as a bare name the word keeps its meaning."""
    text = f"{V}model_providers: [{{model: openai/auto}}]\nmodel_aliases: {{x: {{target: auto}}}}\n"
    policy = snapshot_of(tmp_path, text).policy
    assert policy.resolve("x") == (ModelRef("openai", "auto"), Reason.ALIAS)
    assert (policy.leaves_open("x"), policy.leaves_open("auto")) == (False, True)


@pytest.mark.parametrize(("text", "always"), [("", False), ("overrides: {}\n", False), ("overrides: {always_route: true}\n", True)])  # fmt: skip
def test_names_decide_unless_it_says_otherwise(text: str, always: bool, tmp_path: Path) -> None:
    """Plano's switch."""
    assert snapshot_of(tmp_path, TEXT + text).policy.always_route is always


def test_examples_belong_to_their_route(tmp_path: Path) -> None:
    """In their order."""
    text = TEXT.replace(
        "description: small talk", "description: d\n    examples: [hi, how are you]"
    )
    code, talk = snapshot_of(tmp_path, text).policy.routes
    assert (code.examples, talk.examples) == ((), ("hi", "how are you"))


@pytest.mark.parametrize("attribute", ["models", "bare", "hints", "aliases"])
def test_a_policy_can_not_be_changed(policy: Policy, attribute: str) -> None:
    """A request keeps the one that it took; nobody alters it behind its back."""
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


def test_a_model_may_have_several_endpoints(tmp_path: Path) -> None:
    """It is one model, so its bare name is no riddle, and there is one default."""
    policy, problems = compiled(tmp_path, V + TWO_ENDPOINTS)
    assert problems == []
    assert policy.names() == ["openai/a", "openai/b", "fast"]
    assert policy.resolve("a") == (ModelRef("openai", "a"), Reason.EXPLICIT)
    assert (policy.default, policy.hints["second"]) == (ModelRef("openai", "a"),) * 2


def test_two_models_can_not_both_be_the_default(tmp_path: Path) -> None:
    """The second one is named, where it was written."""
    text = f"version: v0.1\nllm_{TWO_ENDPOINTS[6:]}".replace("http://b", "http://b, default: true")
    assert compiled(tmp_path, text)[1] == [
        "line 5: llm_providers[2].default: 'openai/a' is the default already"
    ]


def test_two_providers_may_have_a_model_of_one_name(tmp_path: Path) -> None:
    """A bare name then stands for neither, and the problem names both."""
    text = f"{V}{TWO_ENDPOINTS}routing_preferences: [{{name: x, description: d, models: [a]}}]\n"
    policy, problems = compiled(tmp_path, text.replace("openai/b", "ollama/a"))
    assert policy.resolve("a") is None
    assert problems == [
        "line 6: model_aliases.fast.target: 'a' could be openai/a or ollama/a; name one of them",
        "line 7: routing_preferences[0].models[0]: 'a' could be openai/a or ollama/a; name one of them",
    ]


def test_a_route_is_matched_by_its_name_where_it_has_no_description(tmp_path: Path) -> None:
    """An empty text would be near to everything."""
    text = f"{V}{TWO_ENDPOINTS}routing_preferences: [{{name: x, description: '', models: [b]}}]\n"
    assert compiled(tmp_path, text)[0].routes[0].description == "x"
