"""The tables of dialects."""

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


def test_each_client_dialect_has_an_upstream_dialect() -> None:
    """A client of any dialect can be answered by a provider of the same one."""
    assert {dialect.name for dialect in CLIENT_DIALECTS} == set(UPSTREAM_DIALECTS)


def test_names_and_paths_of_dialects_are_unique() -> None:
    """They are labels of metrics, and surfaces."""
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
def test_errors_have_the_shape_that_the_client_reads(
    path: str, headers: set[bytes], *, anthropic: bool
) -> None:
    """By the path that it calls, or by a header that only its SDK sends."""
    body = json.loads(error_dialect(path, headers).render_error(InvalidRequest("no")))
    assert ("type" in body) is anthropic
    assert body["error"]["message"] == "no"


@pytest.mark.parametrize("client", CLIENT_DIALECTS, ids=lambda client: client.name)
def test_a_pair_passes_bodies_errors_and_streams(client: ClientDialect) -> None:
    """Whatever the dialect: an empty stream is not complete, and its end is an error event."""
    dialects = pair(client, ())
    document = read_document(b'{"x": 1, "fallbacks": []}', unique=client.fields.read)
    assert dialects.request_body(document, "m", NO_QUIRK) == b'{"model": "m", "x": 1}'
    assert dialects.upstream.address("m", stream=True) == PATHS[dialects.upstream.operation]
    assert dialects.error_body(b"no error") is None
    pipe = dialects.pipe(Intent())
    assert (pipe.state, pipe.error) == (StreamState.PREAMBLE, None)
    assert b"late" in pipe.end(UpstreamTimeout("late"))
