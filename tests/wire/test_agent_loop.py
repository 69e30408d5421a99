"""A coding agent's turns in a session: the model stays in a loop of tools, and moves between tasks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.matrix import vendor
from tests.matrix.cases import DIALECTS, TOLD, TOOL, Case
from tests.matrix.conftest import CLIENTS, NAMES, Bench, bench_of, entries_of
from tests.matrix.seen import Seen
from tests.matrix.sent import read
from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script
from tests.site import PROMPTS, ROUTES, SECRET
from tests.wire.conftest import serve_api

_RESULT: Final = "def sort(items): ..."
_STEPS: Final = {0: Case.PARALLEL_TOOLS, 2: Case.ONE_TOOL, 3: Case.TEXT}
"""What the model says after that number of results of tools."""
_PAIRS: Final = list(zip(DIALECTS, (*DIALECTS[1:], DIALECTS[0]), strict=True))
"""The dialects of the models of code and of verse."""


def _script(model: str) -> Script:
    """The script of an agent's model: two calls at once, one more, then an answer.

    ``dying`` fails after its first calls.
    """
    name, _, kind = model.rpartition(":")

    async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
        dialect = vendor.PATHS[exchange.path.partition("?")[0]]
        results = len(read(dialect, request).results)
        case = vendor.BROKEN if results and kind == "dying" else _STEPS[results]
        await vendor.script(f"{name}:{case}")(line, exchange, request)

    return play


def _model(dialect: str, route: str) -> str:
    return f"up-{dialect}/{NAMES[dialect]}:{route}"


@contextmanager
def _agent_bench(folder: Path, *, pair: tuple[str, str], follows_user: bool) -> Iterator[Bench]:
    """A gateway with a model for code and one for verse, of these dialects."""
    code, verse = pair
    with ScriptedProvider(find=_script) as provider:
        config = {
            "version": "v0.4.0",
            "model_providers": entries_of(provider),
            "routing_preferences": [
                {**ROUTES[0], "models": [_model(code, "code")]},
                {**ROUTES[1], "models": [_model(verse, "verse")]},
                {**ROUTES[2], "models": [_model(verse, "dying"), _model(code, "code")]},
            ],
            "routing": {"route_on_user_only": follows_user},
            "orchestrator": {"min_confidence": 0.2, "deadline_ms": 2000},
        }
        file = folder / "gateway.yaml"
        file.write_text(json.dumps(config))
        with (
            serve_api(file, {"vendor": provider}, {"FINGERPOST_TEST_KEY": SECRET}) as site,
            bench_of(site, provider) as bench,
        ):
            yield bench


@pytest.fixture(scope="module", params=list(product(_PAIRS, (False, True))), ids=str)
def loop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bench, tuple[str, str], bool]]:
    """A gateway, the dialects of its two models, and whether sessions follow the user."""
    pair, follows_user = request.param
    folder = tmp_path_factory.mktemp("loop")
    with _agent_bench(folder, pair=pair, follows_user=follows_user) as bench:
        yield bench, pair, follows_user


def _with_text(asked: dict[str, Any], text: str) -> dict[str, Any]:
    """The request with another text in its last message."""
    key = "input" if "input" in asked else "messages"
    return {**asked, key: [*asked[key][:-1], {"role": "user", "content": text}]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", DIALECTS)
def test_agent_keeps_model_in_loop_of_tools(
    loop: tuple[Bench, tuple[str, str], bool], client: str, stream: bool
) -> None:
    """The turns that bring results stay on the model that made the calls; the user's next task may
    move the session, and the new model gets all of the conversation.
    """
    bench, (code, verse), follows_user = loop
    module = CLIENTS[client]
    headers = {"extra_headers": {"x-model-affinity": uuid4().hex}}
    told: list[Seen] = []

    def ask(asked: dict[str, Any]) -> tuple[str, str]:
        told.append(bench.ask(client, "auto", stream=stream, **asked, **headers))
        shown = told[-1].headers
        return shown["x-fingerpost-model"], shown["x-fingerpost-affinity"]

    asked = _with_text(module.request(Case.TOOL_RESULT), PROMPTS["code"])
    assert ask(asked) == (_model(code, "code"), "miss")
    assert [call.name for call in told[-1].calls] == [TOOL, TOOL]
    for calls in (1, 0):
        asked = module.go_on(asked, told[-1], _RESULT)
        assert ask(asked) == (_model(code, "code"), "hit")
        assert len(told[-1].calls) == calls
    assert told[-1].text == TOLD[Case.TEXT].text

    asked = _with_text(module.go_on(asked, told[-1], None), PROMPTS["poems and songs"])
    now, dialect = (_model(verse, "verse"), verse) if follows_user else (_model(code, "code"), code)
    assert ask(asked) == (now, "hit")
    sent = bench.sent(client, dialect)
    assert sent.said == [PROMPTS["code"], PROMPTS["poems and songs"]]
    assert [result for _, result in sent.results] == [_RESULT] * 3
    assert [call for call, _, _ in sent.calls] == [call for call, _ in sent.results]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", DIALECTS)
def test_agent_goes_on_when_its_model_fails_in_loop(
    loop: tuple[Bench, tuple[str, str], bool], client: str, stream: bool
) -> None:
    """The next model of the route gets the calls and their results, and keeps the session."""
    bench, (code, verse), _ = loop
    module = CLIENTS[client]
    headers = {"extra_headers": {"x-model-affinity": uuid4().hex}}
    asked = _with_text(module.request(Case.TOOL_RESULT), PROMPTS["translation"])
    seen: Seen = bench.ask(client, "auto", stream=stream, **asked, **headers)
    assert seen.headers["x-fingerpost-model"] == _model(verse, "dying")
    for reason in ("failover", "affinity"):
        asked = module.go_on(asked, seen, _RESULT)
        seen = bench.ask(client, "auto", stream=stream, **asked, **headers)
        assert seen.headers["x-fingerpost-model"] == _model(code, "code")
        assert seen.headers["x-fingerpost-reason"] == reason
    assert seen.text == TOLD[Case.TEXT].text
    assert len(bench.sent(client, code).results) == 3
