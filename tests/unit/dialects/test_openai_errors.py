"""Errors in the form of the OpenAI API, rendered and read."""

import json

import pytest

from serve_app.dialects.openai_errors import (
    OpenAIErrors,
    error_info,
    error_message,
    event_error,
    read_error,
)
from serve_app.dialects.protocol import ErrorInfo
from serve_app.dialects.sse import Event
from serve_app.errors import ReportedError, UpstreamFailed


def test_openai_error_may_hold_any_text() -> None:
    """Half a surrogate pair, which strict parsers refuse, becomes a question mark."""
    body = OpenAIErrors().render_error(ReportedError("a\ud800b", "x"), status=400)
    error = json.loads(body)["error"]
    assert error == {
        "message": "a?b",
        "type": "invalid_request_error",
        "param": None,
        "code": "x",
    }


def test_openai_error_event_is_read_as_it_was_rendered() -> None:
    """What is rendered for a client is read from a provider with the same text."""
    event = OpenAIErrors().render_error_event(UpstreamFailed("no"))
    data = event.removeprefix(b"data: ").strip()
    info = event_error(Event("", data))
    assert info == read_error(data)
    assert info is not None
    assert (info.message, info.status, info.code) == ("no", 502, "upstream_error")


def test_error_that_is_nested_too_deeply_has_a_message() -> None:
    """An error without a message is shown as JSON, unless that is not possible."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in error_message(deep)
    assert error_message({"a": 1}) == '{"a": 1}'


@pytest.mark.parametrize(("statuses", "status"), [({"slow_down": 503}, 503), ({}, 502)])
def test_statuses_are_those_of_the_dialect(statuses: dict[str, int], status: int) -> None:
    """A dialect with other names of errors brings what they mean."""
    assert error_info({"code": "slow_down"}, statuses=statuses).status == status


def test_error_in_a_list_is_read() -> None:
    """Google's compatible API answers so; the body is not for clients as it is."""
    error = read_error(b'[{"error": {"code": 429, "message": "quota", "status": "X"}}]\n')
    assert error == ErrorInfo("quota", 429, None, b"", "X")
    assert read_error(b"[]") is None
    assert read_error(b'[{"a": 1}, {"error": {}}]') is None
