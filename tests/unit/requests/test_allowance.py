"""Which models a client key may use, on every surface, through the whole API between fakes."""

from pathlib import Path

import pytest

from serve_app.domain import Scores
from tests.unit.access.answering import Provider, error_of, keyed
from tests.unit.access.api_rig import CHAT, MESSAGES, RESPONSES, ask_chat, rig_of

ALLOWED = [
    ("openai/gpt-4o", 200),
    ("gpt-4o", 200),
    ("fast", 200),
    ("openai/gpt-4o-mini", 200),
    ("vllm/own", 403),
    ("own", 403),
    ("auto", 403),
    ("smart", 403),
    (None, 403),
    ("nothing", 404),
]


@pytest.mark.parametrize(("model", "status"), ALLOWED)
async def test_allow_decides_about_names(model: str | None, status: int, tmp_path: Path) -> None:
    """A name that is not allowed is refused with the allowed ones, and asks no provider."""
    provider = Provider()
    rig = rig_of(tmp_path, keyed("allow: [openai/gpt-4o, fast]"), provider)
    got = await rig.ask(ask_chat(model))
    assert got.status == status
    assert len(provider.asked) == (status == 200)
    if status == 403:
        assert error_of(got)[1:] == ("permission_error", "model_not_allowed")
        assert "openai/gpt-4o, fast" in got.json["error"]["message"]
        assert got.headers["x-should-retry"] == "false"
    other = await rig.ask(ask_chat(model), key="fp-batch")
    assert other.status == (404 if status == 404 else 200)


async def test_unknown_name_suggests_allowed_names_only(tmp_path: Path) -> None:
    """The nearest names are those of the key, not those that others may use."""
    rig = rig_of(tmp_path, keyed("allow: [fast]"), Provider())
    got = await rig.ask(ask_chat("openai/gpt-4oo"))
    assert got.status == 404
    assert "gpt-4o-mini" not in got.json["error"]["message"]
    assert "'fast'" in (await rig.ask(ask_chat("fas"))).json["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, "/v1/embeddings", "/v1/route"])
async def test_allow_holds_on_every_surface(path: str, tmp_path: Path) -> None:
    """Each surface refuses a model that is not allowed, in its own dialect."""
    rig = rig_of(tmp_path, keyed("allow: [fast]"), Provider())
    fields = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
    body = fields if path in {CHAT, MESSAGES, "/v1/route"} else {"input": "x"}
    got = await rig.ask({"model": "openai/gpt-4o", **body}, path=path)
    assert got.status == 403
    assert got.json["error"]["type"] == "permission_error"
    assert ("type" in got.json) is (path == MESSAGES)
    hint = {"x-arch-llm-provider-hint": "openai/gpt-4o"}
    assert (await rig.ask({"model": "fast", **body}, path=path, headers=hint)).status == 403


async def test_allow_leaves_candidates_out(tmp_path: Path) -> None:
    """Of a route only the allowed models are asked, also when the first one fails."""
    won = Scores({"code": 0.9}, 0.2, "code")
    provider = Provider()
    text = keyed("allow: [auto, openai/gpt-4o-mini, openai/gpt-4o]")
    rig = rig_of(tmp_path, text, provider, scores=won)
    provider.failing = {"openai/gpt-4o-mini"}
    got = await rig.ask(ask_chat(None))
    assert got.status == 200
    assert "anthropic/claude-sonnet-4-20250514" not in provider.asked
    assert got.headers["x-fingerpost-model"] == "openai/gpt-4o"
    provider.asked.clear()
    provider.failing.add("openai/gpt-4o")
    await rig.ask(ask_chat(None), key="fp-batch")
    assert "anthropic/claude-sonnet-4-20250514" in provider.asked


async def test_allow_without_a_candidate_left_is_refused(tmp_path: Path) -> None:
    """A route none of whose models is allowed answers 403, before a session is bound."""
    won = Scores({"code": 0.9}, 0.2, "code")
    rig = rig_of(tmp_path, keyed("allow: [auto, vllm/own]"), Provider(), scores=won)
    for path in (CHAT, "/routing/v1/chat/completions", "/v1/route"):
        got = await rig.ask(ask_chat(None), path=path, headers={"x-model-affinity": "s"})
        assert got.status == 403, path
        assert "auto, vllm/own" in got.json["error"]["message"]
    assert rig.store.bindings == {}


@pytest.mark.parametrize(
    ("allow", "models"),
    [
        ("[auto]", ["smart", "auto"]),
        (
            "[code, openai/gpt-4o]",
            [
                "openai/gpt-4o",
                "openai/gpt-4o-mini",
                "anthropic/claude-sonnet-4-20250514",
                "fast",
                "smart",
                "auto",
            ],
        ),
        ("['openai/*']", ["openai/gpt-4o", "openai/gpt-4o-mini", "fast"]),
        ("[fast]", ["openai/gpt-4o-mini", "fast"]),
    ],
)
async def test_models_lists_what_the_key_may_use(
    allow: str, models: list[str], tmp_path: Path
) -> None:
    """The list has exactly the names that a request of the key may name."""
    rig = rig_of(tmp_path, keyed(f"allow: {allow}"), Provider())
    got = await rig.ask(path="/v1/models")
    assert [one["id"] for one in got.json["data"]] == models
    for name in ("openai/gpt-4o", "openai/gpt-4o-mini", "vllm/own", "fast", "auto"):
        shown = await rig.ask(path=f"/v1/models/{name}")
        answered = await rig.ask(ask_chat(name))
        assert (shown.status == 200) is (name in models) is (answered.status == 200), name


async def test_fallbacks_must_be_allowed(tmp_path: Path) -> None:
    """A fallback that the client names is held to the same rule."""
    rig = rig_of(tmp_path, keyed("allow: [fast, openai/gpt-4o]"), Provider())
    assert (await rig.ask(ask_chat("fast", fallbacks=["openai/gpt-4o"]))).status == 200
    assert (await rig.ask(ask_chat("fast", fallbacks=["vllm/own"]))).status == 403


async def test_sessions_of_two_keys_do_not_meet(tmp_path: Path) -> None:
    """Two clients that name one session have two; a shared tenant, or a header, joins them."""
    won = Scores({"code": 0.9}, 0.2, "code")
    named = {"x-model-affinity": "s"}
    rig = rig_of(tmp_path, keyed("limits: {concurrent: 9}"), Provider(), scores=won)
    for key in ("fp-ide", "fp-batch"):
        got = await rig.ask(ask_chat(None), key=key, headers=named)
        assert got.headers["x-fingerpost-affinity"] == "miss"
    assert set(rig.store.bindings) == {"ide:s", "batch:s"}
    text = (
        "client_keys: [{key: $IDE, name: ide, tenant: both}, {key: $BATCH, name: batch, tenant: both}]\n"
        "routing: {session_cache: {tenant_header: X-Tenant}}\n"
    )
    rig = rig_of(tmp_path, text, Provider(), scores=won)
    states = [
        (await rig.ask(ask_chat(None), key=key, headers={**named, **more})).headers[
            "x-fingerpost-affinity"
        ]
        for key, more in (("fp-ide", {}), ("fp-batch", {}), ("fp-batch", {"x-tenant": "own"}))
    ]
    assert states == ["miss", "hit", "miss"]
    assert set(rig.store.bindings) == {"both:s", "own:s"}


async def test_own_orchestrator_is_a_model_to_allow(tmp_path: Path) -> None:
    """Typed questions for the gateway itself need auto, or its name, in the allowance."""
    body = {
        "model": "fingerpost/route",
        "input": "x",
        "questions": [{"question": "q", "options": [{"name": "a", "description": "a"}]}],
    }
    rig = rig_of(tmp_path, keyed("allow: [fast]"), Provider())
    assert (await rig.ask(body, path="/v1/decisions")).status == 403
    for allow in ("[auto]", "[fingerpost/route]"):
        rig = rig_of(tmp_path, keyed(f"allow: {allow}"), Provider())
        assert (await rig.ask(body, path="/v1/decisions")).status != 403
