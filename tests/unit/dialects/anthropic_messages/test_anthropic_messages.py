"""The error envelopes that Anthropic clients expect, and those that providers send."""

import json

import pytest
from anthropic.types import ErrorResponse

from serve_app.access_errors import AnonymousRefused, InvalidClientKey
from serve_app.dialects.anthropic_messages.errors import MessagesErrors, read_error
from serve_app.domain import Json
from serve_app.errors import (
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    ReportedError,
    UnknownModel,
    UpstreamFailed,
    UpstreamTimeout,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("é"), "invalid_request_error"),
        (InvalidClientKey(), "authentication_error"),
        (AnonymousRefused(), "permission_error"),
        (UnknownModel("x"), "not_found_error"),
        (MethodNotAllowed("GET", "/", "POST"), "invalid_request_error"),
        (BodyTooLarge(1), "request_too_large"),
        (UpstreamFailed("no"), "api_error"),
        (UpstreamTimeout("late"), "timeout_error"),
        (GatewayError(), "api_error"),
    ],
)
def test_messages_error_has_anthropic_shape(error: GatewayError, kind: str) -> None:
    """An error has the outer type `error`, and inside it the type of the status and the message."""
    body = json.loads(MessagesErrors().render_error(error))
    assert body == {"type": "error", "error": {"type": kind, "message": str(error)}}


def test_messages_error_event_names_its_type() -> None:
    """The error of a stream is an event of type error with the same body."""
    event = MessagesErrors().render_error_event(UpstreamFailed("no"))
    head, data, end = event.split(b"\n", 2)
    assert (head, end) == (b"event: error", b"\n")
    assert json.loads(data.removeprefix(b"data: "))["error"]["message"] == "no"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (402, "billing_error"),
        (409, "conflict_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (501, "not_supported"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_messages_error_has_type_of_another_status(status: int, kind: str) -> None:
    """The type follows the status that the client gets."""
    body = MessagesErrors().render_error(UpstreamFailed("no"), status=status)
    assert json.loads(body)["error"]["type"] == kind
    assert read_error(body) is not None


def test_messages_error_validates_with_the_sdk() -> None:
    """The official SDK reads the body as it reads Anthropic's own errors."""
    body = MessagesErrors().render_error(UpstreamTimeout("late"))
    assert ErrorResponse.model_validate_json(body).error.type == "timeout_error"


@pytest.mark.parametrize("code", ["thread_not_found", "thread_unsupported_request"])
def test_messages_error_of_threads_has_its_code(code: str) -> None:
    """The SDKs leave threads by the code in the details, and send the whole conversation."""
    body = json.loads(MessagesErrors().render_error(ReportedError("no", code), status=404))
    assert body["error"]["details"] == {"error_code": code}


def test_messages_error_may_hold_any_text() -> None:
    """Half a surrogate pair, which strict parsers refuse, becomes a question mark."""
    body = MessagesErrors().render_error(ReportedError("a\ud800\n\nb"))
    assert json.loads(body)["error"]["message"] == "a?\n\nb"


LONG = "This model's maximum context length is 8192 tokens."


@pytest.mark.parametrize(
    ("message", "code", "status", "is_too_long"),
    [
        ("no", "context_length_exceeded", None, True),
        (LONG, None, 400, True),
        (LONG, None, 413, True),
        (LONG, None, 502, False),
        (LONG, None, None, False),
        ("Your input exceeds the CONTEXT WINDOW of this model.", "x", 400, True),
        ("too many tokens: 9 > 8", None, 400, True),
        ("Too many tokens, please wait before you try again.", None, 429, False),
        ("9 exceeds the maximum number of tokens allowed (8).", None, 400, True),
        ("This model's maximum prompt length is 8", None, 400, True),
        ("the request exceeds the available context size", None, 400, True),
        ("max_tokens is too large", None, 400, False),
        ("30 is longer than the maximum model length of 8", None, 400, True),
        ("Prompt exceeds max length", None, 400, True),
        (
            f"{LONG} However, you requested 9001 tokens (9000 in the messages, 1 in the completion).",
            None,
            400,
            True,
        ),
    ],
)
def test_messages_error_says_that_the_prompt_is_too_long(
    message: str, code: str | None, status: int | None, is_too_long: bool
) -> None:
    """Agents shorten their conversation by Anthropic's words; the provider's follow unchanged."""
    error = ReportedError(message, code, status)
    shown = f"prompt is too long: {message}" if is_too_long else message
    body = MessagesErrors().render_error(error)
    assert json.loads(body)["error"]["message"] == shown
    event = MessagesErrors().render_error_event(error)
    assert event == b"event: error\ndata: " + body + b"\n\n"


ANSWER = "max_tokens: 9 > 8, which is the maximum allowed number of output tokens for this model"
VLLM = (
    "'max_tokens' or 'max_completion_tokens' is too large: 9. This model's maximum context "
    "length is 8 tokens and your request has 5 input tokens (9 > 8 - 5)."
)
REQUESTED = (
    "This model's maximum context length is 8 tokens. However, you requested 14 tokens "
    "(5 in the messages, 9 in the completion). Please reduce the length."
)
TOGETHER = "input length and `max_tokens` exceed context limit: 5 + 9 > 8"


@pytest.mark.parametrize(
    ("message", "status", "known"),
    [
        (
            "max_tokens is too large: 9. This model supports at most 8 completion tokens",
            400,
            ANSWER,
        ),
        ("max_tokens is too large: 9. This model supports at most 8 completion tokens", 429, ""),
        (VLLM, 400, TOGETHER),
        (REQUESTED, 413, TOGETHER),
    ],
)
def test_messages_error_says_that_max_tokens_is_too_large(
    message: str, status: int, known: str
) -> None:
    """Agents ask for a shorter answer by Anthropic's words, and do not shorten the conversation."""
    body = MessagesErrors().render_error(ReportedError(message, None, status))
    shown = f"{known}: {message}" if known else message
    assert json.loads(body)["error"]["message"] == shown


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("insufficient_quota", 429, "billing_error"),
        ("rate_limit_exceeded", 429, "rate_limit_error"),
        (None, 402, "billing_error"),
    ],
)
def test_messages_error_of_billing_has_its_type(code: str | None, status: int, kind: str) -> None:
    """A quota that is used up needs money, whatever the status."""
    body = MessagesErrors().render_error(ReportedError("no", code, status))
    assert json.loads(body)["error"]["type"] == kind


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 9 tokens > 8 maximum",
        "Prompt is too long",
        "Input is too long for requested model.",
        f"{TOGETHER}, decrease input length",
        ANSWER,
    ],
)
def test_messages_error_says_it_once(message: str) -> None:
    """Words that begin as Anthropic's stay as they are."""
    body = MessagesErrors().render_error(ReportedError(message, "context_length_exceeded", 400))
    assert json.loads(body)["error"]["message"] == message


def test_messages_error_of_the_gateway_keeps_its_words() -> None:
    """Only a provider can say that a prompt is too long."""
    body = MessagesErrors().render_error(InvalidRequest(LONG))
    assert json.loads(body)["error"]["message"] == LONG


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"type": "invalid_request_error", "message": "no"}, 400, "invalid_request_error"),
        ({"type": "authentication_error", "message": "no"}, 401, "authentication_error"),
        ({"type": "billing_error", "message": "no"}, 402, "billing_error"),
        ({"type": "not_found_error", "message": "no"}, 404, "not_found_error"),
        ({"type": "request_too_large", "message": "no"}, 413, "request_too_large"),
        ({"type": "timeout_error", "message": "no"}, 504, "timeout_error"),
        ({"type": "new", "message": "no", "details": None}, 502, "new"),
        ({"type": "api_error", "message": "no", "details": {"error_code": "x"}}, 500, "x"),
        ({"type": ["x"], "message": "no", "details": {"error_code": 7}}, 502, None),
    ],
)
def test_read_error_reads_own_errors(error: Json, status: int, code: str | None) -> None:
    """An error of this dialect has its status by its type, and goes to clients as it is."""
    body = json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()
    info = read_error(body)
    assert info is not None
    assert (info.message, info.status, info.code, info.body) == ("no", status, code, body)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"message": "no", "type": "rate_limit_error", "code": None}, 429, None),
        ({"message": "no", "type": "overloaded_error"}, 529, None),
        ({"message": "no", "code": "insufficient_quota"}, 429, "insufficient_quota"),
        ({"message": "no", "code": 404}, 404, None),
        ({"message": "no"}, 502, None),
    ],
)
def test_read_error_reads_errors_of_openai(error: Json, status: int, code: str | None) -> None:
    """An error of another form is read, but does not go to clients as it is."""
    info = read_error(json.dumps({"error": error}).encode())
    assert info is not None
    assert (info.message, info.status, info.code, info.body) == ("no", status, code, b"")


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"{}", b'{"type": "error"}', b'{"error": "no"}']
)
def test_read_error_leaves_other_bodies(body: bytes) -> None:
    """Only an error object is an error of the dialect."""
    assert read_error(body) is None
