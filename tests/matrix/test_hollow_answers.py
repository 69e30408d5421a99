"""Answers that look whole and are not: an error for every client, or the next model's answer."""

from itertools import product
from typing import Any

import pytest

from tests.matrix.cases import DIALECTS, Case
from tests.matrix.conftest import CLIENTS, PATHS, Bench, model_of
from tests.matrix.hollow_transcripts import FAILED, FAILED_LATER, NOTHING, TOLD, WORDS
from tests.matrix.seen import Seen

pytestmark = pytest.mark.parametrize(("client", "upstream"), list(product(DIALECTS, DIALECTS)))


def _send(bench: Bench, client: str, model: str, **asked: Any) -> Any:
    body = bench.body(model, {**CLIENTS[client].request(Case.TEXT), **asked})
    return bench.site.send(body, path=PATHS[client])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "status"), [(NOTHING, 502), (FAILED, 503)])
def test_hollow_answer_is_an_error_status(
    bench: Bench, client: str, upstream: str, name: str, status: int, *, stream: bool
) -> None:
    """It has the provider's words, or says what is missing."""
    answer = _send(bench, client, model_of(upstream, name), stream=stream)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    message = answer.json["error"]["message"]
    if name == FAILED:
        assert WORDS in message
    else:
        assert "the answer holds" in message or "before its first content" in message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [NOTHING, FAILED])
def test_hollow_answer_leaves_the_next_model_to_answer(
    bench: Bench, client: str, upstream: str, name: str, *, stream: bool
) -> None:
    """The client notices nothing but the headers."""
    good = model_of(upstream, Case.TEXT)
    answer = _send(bench, client, model_of(upstream, name), stream=stream, fallbacks=[good])
    assert answer.status == 200, answer.body
    assert answer.headers["x-fingerpost-model"] == good
    assert answer.headers["x-fingerpost-reason"] == "failover"
    assert b"error" not in answer.body.replace(b'"error": null', b"").replace(b'"error":null', b"")


def test_failure_after_content_is_an_error_event(bench: Bench, client: str, upstream: str) -> None:
    """The SDK raises an error in the provider's words, where it would have seen a good end."""
    asked = CLIENTS[client].request(Case.TEXT)
    model = model_of(upstream, FAILED_LATER)
    seen: Seen = bench.ask(client, model, stream=True, **asked)
    assert seen.text == TOLD
    assert seen.error is not None
    assert WORDS in seen.error[0]
    for end in (b"[DONE]", b"message_stop", b"response.completed"):
        assert end not in seen.wire
