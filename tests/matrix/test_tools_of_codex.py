"""Tools that only the responses dialect has, at providers that have plain functions."""

import json
from typing import Any

import pytest

from tests.matrix.cases import ABOUT_TOOL, RESULT, SCHEMA, TOOL, Case, call_id
from tests.matrix.conftest import CLIENTS, Bench, model_of
from tests.matrix.framing import check_framing
from tests.matrix.seen import Seen
from tests.matrix.single_parts import CUSTOM_INPUT, NAMESPACE


def _asked(tool: dict[str, Any]) -> dict[str, Any]:
    asked: dict[str, Any] = CLIENTS["responses"].request(Case.TEXT)
    return {**asked, "tools": [tool]}


def _ask(bench: Bench, upstream: str, case: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The one item of the streamed answer, as a client sends it back."""
    seen: Seen = bench.ask("responses", model_of(upstream, case), stream=True, **asked)
    check_framing("responses", seen.wire.decode())
    (item,) = seen.turn
    return dict(item)


def _go_on(
    bench: Bench, upstream: str, asked: dict[str, Any], item: dict[str, Any]
) -> tuple[Any, Any]:
    """What the provider gets of the call and of its result in the next turn."""
    result = {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": RESULT}
    more = {**asked, "input": [*asked["input"], item, result]}
    bench.ask("responses", model_of(upstream, Case.TEXT), stream=False, **more)
    sent = bench.sent("responses", upstream)
    return sent.calls, sent.results


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_custom_tool(bench: Bench, upstream: str) -> None:
    """A tool that takes any text is a function of one string there, and a custom call here."""
    asked = _asked({"type": "custom", "name": TOOL, "description": ABOUT_TOOL})
    item = _ask(bench, upstream, "custom", asked)
    assert list(bench.sent("responses", upstream).tools) == [TOOL]
    assert (item["type"], item["name"]) == ("custom_tool_call", TOOL)
    assert item["input"] == CUSTOM_INPUT
    calls, results = _go_on(bench, upstream, asked, item)
    own = call_id(upstream, 0)
    assert calls == [(own, TOOL, {"input": CUSTOM_INPUT})]
    assert results == [(own, RESULT)]


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_namespace(bench: Bench, upstream: str) -> None:
    """A tool of a namespace has both names in one there, and two here."""
    function = {"type": "function", "name": TOOL, "parameters": SCHEMA, "strict": False}
    space = {"type": "namespace", "name": NAMESPACE, "description": "Files", "tools": [function]}
    asked = _asked(space)
    item = _ask(bench, upstream, "namespace", asked)
    name = f"{NAMESPACE}__{TOOL}"
    assert bench.sent("responses", upstream).tools == {name: SCHEMA}
    assert (item["type"], item["namespace"], item["name"]) == ("function_call", NAMESPACE, TOOL)
    assert json.loads(item["arguments"]) == {"city": "Paris"}
    calls, results = _go_on(bench, upstream, asked, item)
    own = call_id(upstream, 0)
    assert calls == [(own, name, {"city": "Paris"})]
    assert results == [(own, RESULT)]
