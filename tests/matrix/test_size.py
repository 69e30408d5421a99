"""Large and long streams go through every translation in linear time."""

import json
import time
from typing import Any, Final

import pytest

from tests.matrix.cases import DIALECTS, Case
from tests.matrix.conftest import CLIENTS, PATHS, Bench, model_of
from tests.matrix.framing import check_framing, events_of
from tests.matrix.single_parts import ARGUMENTS, LARGE, LONG

_WITHIN_S: Final = 8.0
"""CPU time of provider, gateway and client, which are all in this process: about 1 s."""

_PAIRS: Final = [(one, other) for one in DIALECTS for other in DIALECTS if one != other]


def _deltas(client: str, body: str) -> str:
    """What all deltas of a stream say."""
    texts: list[str] = []
    for _, data in events_of(body):
        if data == "[DONE]":
            continue
        event: dict[str, Any] = json.loads(data)
        if client == "chat":
            for choice in event["choices"]:
                delta = choice["delta"]
                texts.append(delta.get("content") or "")
                texts += [call["function"]["arguments"] for call in delta.get("tool_calls") or ()]
        elif client == "messages" and event["type"] == "content_block_delta":
            delta = event["delta"]
            texts.append(delta.get("text") or delta.get("partial_json") or "")
        elif event["type"].endswith(".delta"):
            texts.append(event["delta"])
    return "".join(texts)


@pytest.mark.parametrize(
    ("name", "text"), [("large", LARGE), ("long", LONG), ("large-call", ARGUMENTS)]
)
@pytest.mark.parametrize(("client", "upstream"), _PAIRS)
def test_time_is_linear(bench: Bench, client: str, upstream: str, name: str, text: str) -> None:
    """2 MB in one event, and 10,000 events, arrive whole and soon."""
    asked = CLIENTS[client].request(Case.ONE_TOOL)
    if client == "chat":
        asked["stream_options"] = {"include_usage": True}
    body = bench.body(model_of(upstream, name), {**asked, "stream": True})
    started = time.process_time()
    answer = bench.site.send(body, path=PATHS[client])
    took_s = time.process_time() - started
    assert answer.status == 200, answer.body[:300]
    whole = answer.body.decode()
    check_framing(client, whole)
    assert _deltas(client, whole) == text
    assert took_s < _WITHIN_S
