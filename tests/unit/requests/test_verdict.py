"""The verdict on an upstream's reply or fault."""

import pytest

from serve_app.dialects.protocol import ErrorInfo
from serve_app.exchange import FaultKind, UpstreamFault
from serve_app.requests.verdict import (
    Action,
    Meaning,
    Rests,
    Verdict,
    judge_fault,
    judge_status,
    meaning_of,
    of_clients_key,
    retry_after,
)

OCTOBER = 1_792_569_600.0
"""Wed, 21 Oct 2026 08:00:00 GMT."""


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        (range(200, 300), Meaning.OK),
        ([*range(300, 401), 405, 406, 407, 409, 422, 100, 199, 600, 999], Meaning.INVALID),
        ([401], Meaning.BAD_KEY),
        ([402], Meaning.NO_FUNDS),
        ([403], Meaning.NO_ACCESS),
        ([404], Meaning.UNKNOWN_MODEL),
        ([408, 504], Meaning.TIMED_OUT),
        ([413], Meaning.TOO_LARGE),
        ([429], Meaning.RATE_LIMITED),
        ([503, 529], Meaning.OVERLOADED),
        ([500, 501, 502, 520, 599], Meaning.SERVER_ERROR),
    ],
)
def test_status_has_a_meaning(statuses: range | list[int], meaning: Meaning) -> None:
    """Without an error in the body, the status alone says what it means."""
    assert {judge_status(status).meaning for status in statuses} == {meaning}


@pytest.mark.parametrize(
    ("meaning", "action", "rests", "is_passing"),
    [
        (Meaning.BAD_KEY, Action.NEXT, Rests.KEY, False),
        (Meaning.NO_FUNDS, Action.NEXT, Rests.KEY, False),
        (Meaning.NO_ACCESS, Action.NEXT, Rests.MODEL, False),
        (Meaning.UNKNOWN_MODEL, Action.NEXT, Rests.MODEL, False),
        (Meaning.TOO_LONG, Action.OTHER_MODEL, Rests.NOTHING, True),
        (Meaning.TOO_LARGE, Action.OTHER_MODEL, Rests.NOTHING, True),
        (Meaning.RATE_LIMITED, Action.LATER, Rests.MODEL, True),
        (Meaning.OVERLOADED, Action.LATER, Rests.MODEL, True),
        (Meaning.SERVER_ERROR, Action.LATER, Rests.MODEL, True),
        (Meaning.TIMED_OUT, Action.NEXT, Rests.MODEL, True),
        (Meaning.FILTERED, Action.FINAL, Rests.NOTHING, True),
        (Meaning.INVALID, Action.FINAL, Rests.NOTHING, True),
    ],
)
def test_meaning_has_one_action(
    meaning: Meaning, action: Action, rests: Rests, is_passing: bool
) -> None:
    """What is to be done follows from the meaning alone."""
    examples = {
        Meaning.BAD_KEY: 401, Meaning.NO_FUNDS: 402, Meaning.NO_ACCESS: 403,
        Meaning.UNKNOWN_MODEL: 404, Meaning.TOO_LARGE: 413, Meaning.RATE_LIMITED: 429,
        Meaning.OVERLOADED: 529, Meaning.SERVER_ERROR: 500, Meaning.TIMED_OUT: 504,
        Meaning.INVALID: 400,
    }  # fmt: skip
    codes = {Meaning.TOO_LONG: "context_length_exceeded", Meaning.FILTERED: "content_filter"}
    error = ErrorInfo("", code=codes[meaning]) if meaning in codes else None
    verdict = judge_status(examples.get(meaning, 400), (), error)
    assert verdict == Verdict(action, rests, None, meaning, is_passing)


@pytest.mark.parametrize(
    ("status", "message", "code", "kind", "meaning"),
    [
        # OpenAI, Azure, and servers that speak its dialect
        (401, "Incorrect API key provided: sk-***.", "invalid_api_key", "invalid_request_error", Meaning.BAD_KEY),
        (429, "You exceeded your current quota, please check your plan", "insufficient_quota", "insufficient_quota", Meaning.NO_FUNDS),
        (429, "Rate limit reached for gpt-4o in organization", "rate_limit_exceeded", "tokens", Meaning.RATE_LIMITED),
        (400, "This model's maximum context length is 8192 tokens. However, you requested 9000", "context_length_exceeded", "invalid_request_error", Meaning.TOO_LONG),
        (404, "The model `gpt-9` does not exist or you do not have access to it.", "model_not_found", "invalid_request_error", Meaning.UNKNOWN_MODEL),
        (400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "content_filter", None, Meaning.FILTERED),
        (404, "The API deployment for this resource does not exist.", "DeploymentNotFound", None, Meaning.UNKNOWN_MODEL),
        (403, "Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden", Meaning.NO_ACCESS),
        (400, "Invalid value: 'x'. Supported values are: 'auto'", "invalid_value", "invalid_request_error", Meaning.INVALID),
        (400, "The model `o1` does not support the parameter `temperature`", "unsupported_parameter", None, Meaning.INVALID),
        # Anthropic
        (401, "invalid x-api-key", None, "authentication_error", Meaning.BAD_KEY),
        (400, "Your credit balance is too low to access the Anthropic API.", None, "invalid_request_error", Meaning.NO_FUNDS),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", None, "invalid_request_error", Meaning.TOO_LONG),
        (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", None, "invalid_request_error", Meaning.TOO_LONG),
        (404, "model: claude-9", None, "not_found_error", Meaning.UNKNOWN_MODEL),
        (529, "Overloaded", None, "overloaded_error", Meaning.OVERLOADED),
        (200, "Overloaded", None, "overloaded_error", Meaning.OVERLOADED),
        (413, "Request exceeds the maximum size", None, "request_too_large", Meaning.TOO_LARGE),
        (403, "Your API key does not have permission", None, "permission_error", Meaning.NO_ACCESS),
        (400, "messages: text content blocks must be non-empty", None, "invalid_request_error", Meaning.INVALID),
        # Gemini: a bad key is a 400
        (400, "API key not valid. Please pass a valid API key.", None, "INVALID_ARGUMENT", Meaning.BAD_KEY),
        (429, "Resource has been exhausted (e.g. check quota).", None, "RESOURCE_EXHAUSTED", Meaning.RATE_LIMITED),
        (429, "You exceeded your current quota, please check your plan and billing details.", None, "RESOURCE_EXHAUSTED", Meaning.NO_FUNDS),
        (503, "The model is overloaded. Please try again later.", None, "UNAVAILABLE", Meaning.OVERLOADED),
        (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", None, "INVALID_ARGUMENT", Meaning.TOO_LONG),
        # DeepSeek, OpenRouter, Mistral, Groq, xAI, Moonshot, Zhipu, Qwen, vLLM, llama.cpp
        (402, "Insufficient Balance", "invalid_request_error", "unknown_error", Meaning.NO_FUNDS),
        (402, "This request requires more credits, or fewer max_tokens.", None, None, Meaning.NO_FUNDS),
        (404, "No endpoints found for x/y.", None, None, Meaning.UNKNOWN_MODEL),
        (400, "Invalid model: mistral-9", "1500", "invalid_model", Meaning.UNKNOWN_MODEL),
        (498, "capacity exceeded", None, "capacity_exceeded", Meaning.OVERLOADED),
        (400, "Incorrect API key provided: xai-***", "Client specified an invalid argument", None, Meaning.BAD_KEY),
        (429, "Your account is suspended due to insufficient balance", None, "exceeded_current_quota_error", Meaning.NO_FUNDS),
        (429, "The engine is currently overloaded, please try again later", None, "engine_overloaded_error", Meaning.OVERLOADED),
        (400, "Your request exceeded model token limit: 131072", None, "invalid_request_error", Meaning.TOO_LONG),
        (429, "no balance", "1113", None, Meaning.NO_FUNDS),
        (429, "too many", "1302", None, Meaning.RATE_LIMITED),
        (400, "Range of input length should be [1, 30720]", "InvalidParameter", None, Meaning.TOO_LONG),
        (400, "Access denied, please make sure your account is in good standing.", "Arrearage", None, Meaning.NO_FUNDS),
        (400, "This model's maximum context length is 4096 tokens", None, "BadRequestError", Meaning.TOO_LONG),
        (400, "the request exceeds the available context size. try increasing the context size", None, "exceed_context_size_error", Meaning.TOO_LONG),
        (500, "the model does not exist in the cache of this worker", None, None, Meaning.SERVER_ERROR),
        (503, "model m at capacity", None, None, Meaning.OVERLOADED),
    ],
)  # fmt: skip
def test_errors_of_vendors_have_their_meaning(
    status: int, message: str, code: str | None, kind: str | None, meaning: Meaning
) -> None:
    """Code and type count before words, and words before the status."""
    error = ErrorInfo(message, status, code, kind=kind)
    assert meaning_of(status, error) is meaning


@pytest.mark.parametrize(
    ("kind", "action", "rests"),
    [
        (FaultKind.CONNECT, Action.LATER, Rests.ENDPOINT),
        (FaultKind.RESET, Action.AGAIN, Rests.ENDPOINT),
        (FaultKind.TIMEOUT, Action.NEXT, Rests.MODEL),
        (FaultKind.BROKEN, Action.NEXT, Rests.MODEL),
        (FaultKind.BAD_ANSWER, Action.NEXT, Rests.MODEL),
        (FaultKind.NO_KEY, Action.NEXT, Rests.NOTHING),
        (FaultKind.STALE_POLICY, Action.NEXT, Rests.NOTHING),
        (FaultKind.UNSUPPORTED, Action.OTHER_MODEL, Rests.NOTHING),
        (FaultKind.TOO_LARGE, Action.OTHER_MODEL, Rests.NOTHING),
        (FaultKind.HOP, Action.NEXT, Rests.NOTHING),
    ],
)
def test_faults_have_one_action(kind: FaultKind, action: Action, rests: Rests) -> None:
    """Only a connection that closed without a byte is tried again at once."""
    verdict = judge_fault(UpstreamFault(kind, "x"))
    assert (verdict.action, verdict.rests) == (action, rests)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_what_is_wrong_with_a_clients_key_is_final(status: int) -> None:
    """Where the client's own key was sent, it has to know, and nothing of ours rests."""
    verdict = of_clients_key(judge_status(status))
    assert (verdict.action, verdict.rests) == (Action.FINAL, Rests.NOTHING)
    assert of_clients_key(judge_status(500)) == judge_status(500)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2026 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1" * 40}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_a_date_or_milliseconds(
    headers: dict[str, str], seconds: float | None
) -> None:
    """A value of another form counts as absent."""
    assert retry_after(tuple(headers.items()), OCTOBER) == seconds


@pytest.mark.parametrize(("status", "seconds"), [(429, 7.0), (503, 7.0), (400, None), (200, None)])
def test_verdict_says_when_to_come_back(status: int, seconds: float | None) -> None:
    """Only of failures that another attempt may mend."""
    assert judge_status(status, (("retry-after", "7"),)).retry_after_s == seconds
