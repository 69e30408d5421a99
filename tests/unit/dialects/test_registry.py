"""The registries of dialects."""

import json

import pytest

from serve_app.dialects.fields import Intent
from serve_app.dialects.json_edits import NO_QUIRK, read_document
from serve_app.dialects.protocol import ClientDialect, StreamState
from serve_app.dialects.registry import (
    CLIENT_DIALECTS,
    UPSTREAM_DIALECTS,
    error_dialect,
    pair,
)
from serve_app.errors import InvalidRequest, UpstreamTimeout
from serve_app.exchange import PATHS


def test_client_dialect_has_upstream_dialect() -> None:
    """Every client dialect has an upstream dialect of the same name."""
    assert {dialect.name for dialect in CLIENT_DIALECTS} == set(UPSTREAM_DIALECTS)


def test_dialect_names_and_paths_are_unique() -> None:
    """Names and paths of dialects are unique, because they are metric labels and surfaces."""
    assert len({dialect.name for dialect in CLIENT_DIALECTS}) == len(CLIENT_DIALECTS)
    assert len({dialect.path for dialect in CLIENT_DIALECTS}) == len(CLIENT_DIALECTS)


@pytest.mark.parametrize(
    ("path", "headers", "anthropic"),
    [
        ("/v1/chat/completions", set(), False),
        ("/v1/chat/completions", {b"anthropic-version"}, True),
        ("/v1/messages", set(), True),
        ("/v1/messages/count_tokens", set(), True),
        ("/routing/v1/messages", set(), True),
        ("/v2/messages", set(), False),
        ("/nowhere", {b"x-api-key"}, False),
    ],
)
def test_error_dialect_follows_path_and_header(
    path: str, headers: set[bytes], *, anthropic: bool
) -> None:
    """The dialect of an error follows the path, or a header that only the Anthropic SDK sends."""
    body = json.loads(error_dialect(path, headers).render_error(InvalidRequest("no")))
    assert ("type" in body) is anthropic
    assert body["error"]["message"] == "no"


@pytest.mark.parametrize("client", CLIENT_DIALECTS, ids=lambda client: client.name)
def test_dialect_pair_passes_bodies_errors_and_streams(client: ClientDialect) -> None:
    """A pair of any dialect passes bodies and errors, and ends an incomplete stream with an error
    event.
    """
    dialects = pair(client, ())
    document = read_document(b'{"x": 1, "fallbacks": []}', unique=client.fields.read)
    asked = dialects.ask(document, Intent(), "m", NO_QUIRK)
    assert asked.body == b'{"model": "m", "x": 1}'
    assert asked.dropped == ()
    assert asked.answer(b"[as it is]") == (b"[as it is]", ())
    assert dialects.upstream.address("m", stream=True) == PATHS[dialects.upstream.operation]
    pipe = asked.pipe()
    assert (pipe.state, pipe.error) == (StreamState.PREAMBLE, None)
    assert b"late" in pipe.end(UpstreamTimeout("late"))
