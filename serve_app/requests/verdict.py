"""What an upstream's failure means for the request: the tables here decide.

An error is known by its code and type, then by its words, then by its status: providers send the
same error under different statuses. Sources: the API references of the providers in
providers/table.py, "Errors" or "Error codes".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from time import time
from types import MappingProxyType
from typing import Final

from serve_app.dialects.protocol import ErrorInfo
from serve_app.domain import Headers
from serve_app.exchange import FaultKind, UpstreamFault

_SERVER_ERRORS = range(500, 600)
_SUCCESS = range(200, 300)


class Action(StrEnum):
    """What to do next."""

    GOOD = "good"
    AGAIN = "again"
    """Ask the same endpoint once more, at once: the provider cannot have worked on the request."""
    LATER = "later"
    """Ask the next one, and this one once more at the end, after a pause."""
    NEXT = "next"
    """Ask the next endpoint of the candidate, else the next candidate."""
    OTHER_MODEL = "other_model"
    """Ask the next candidate: all endpoints of this one would say the same."""
    FINAL = "final"
    """The client's own mistake, or an answer that no other candidate would improve."""


class Rests(StrEnum):
    """What is left alone for a while after a failure."""

    NOTHING = "nothing"
    MODEL = "model"
    """The model at this endpoint."""
    KEY = "key"
    """Everything at this endpoint, because of its key."""
    ENDPOINT = "endpoint"
    """Everything at this endpoint, because it cannot be reached."""


class Meaning(StrEnum):
    """What a failure is; a label of metrics."""

    OK = "ok"
    BAD_KEY = "bad_key"
    NO_ACCESS = "no_access"
    NO_FUNDS = "no_funds"
    UNKNOWN_MODEL = "unknown_model"
    TOO_LONG = "context_too_long"
    TOO_LARGE = "body_too_large"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TIMED_OUT = "timed_out"
    FILTERED = "content_filter"
    INVALID = "invalid_request"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    BAD_ANSWER = "bad_answer"
    UNSUPPORTED = "unsupported"
    NOT_ASKED = "not_asked"
    """The gateway could not send the request: a missing key, a hop that failed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means, what to do next, and what rests."""

    action: Action
    rests: Rests = Rests.NOTHING
    retry_after_s: float | None = None
    """How long the provider asks to be left alone."""
    meaning: Meaning = Meaning.SERVER_ERROR
    is_passing: bool = True
    """It may be over by itself; False for a key or an access that has to be mended by hand."""


GOOD: Final = Verdict(Action.GOOD, meaning=Meaning.OK)
FINAL: Final = Verdict(Action.FINAL, meaning=Meaning.INVALID)
NEXT: Final = Verdict(Action.NEXT)
ELSEWHERE: Final = Verdict(Action.NEXT, meaning=Meaning.INVALID)
"""What the client refers to is not at this endpoint, and may be at another one."""
BROKEN_OFF: Final = Verdict(Action.FINAL, Rests.MODEL, meaning=Meaning.BAD_ANSWER)
"""A stream that stopped after its commit."""

_VERDICTS: Final[Mapping[Meaning, Verdict]] = MappingProxyType(
    {
        verdict.meaning: verdict
        for verdict in (
            Verdict(Action.NEXT, Rests.KEY, meaning=Meaning.BAD_KEY, is_passing=False),
            Verdict(Action.NEXT, Rests.MODEL, meaning=Meaning.NO_ACCESS, is_passing=False),
            Verdict(Action.NEXT, Rests.KEY, meaning=Meaning.NO_FUNDS, is_passing=False),
            Verdict(Action.NEXT, Rests.MODEL, meaning=Meaning.UNKNOWN_MODEL, is_passing=False),
            Verdict(Action.OTHER_MODEL, meaning=Meaning.TOO_LONG),
            Verdict(Action.OTHER_MODEL, meaning=Meaning.TOO_LARGE),
            Verdict(Action.LATER, Rests.MODEL, meaning=Meaning.RATE_LIMITED),
            Verdict(Action.LATER, Rests.MODEL, meaning=Meaning.OVERLOADED),
            Verdict(Action.LATER, Rests.MODEL, meaning=Meaning.SERVER_ERROR),
            Verdict(Action.NEXT, Rests.MODEL, meaning=Meaning.TIMED_OUT),
            Verdict(Action.FINAL, meaning=Meaning.FILTERED),
            FINAL,
            Verdict(Action.LATER, Rests.ENDPOINT, meaning=Meaning.UNREACHABLE),
            Verdict(Action.AGAIN, Rests.ENDPOINT, meaning=Meaning.RESET),
            Verdict(Action.NEXT, Rests.MODEL, meaning=Meaning.BAD_ANSWER),
            Verdict(Action.OTHER_MODEL, meaning=Meaning.UNSUPPORTED),
            Verdict(Action.NEXT, meaning=Meaning.NOT_ASKED),
        )
    }
)

_OF_CODE: Final[Mapping[str, Meaning]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("invalid_api_key", "authentication_error", "invalid_authentication_error"),
                *("unauthenticated", "unauthorized", "incorrect_api_key", "invalid_token"),
                *("token_expired", "account_deactivated", "1000", "1001", "1002", "1003", "1004"),
            ),
            Meaning.BAD_KEY,
        ),
        **dict.fromkeys(
            (
                *("permission_error", "permission_denied", "permission_denied_error"),
                *("access_denied", "forbidden", "accessdeniedexception", "region_not_supported"),
                *("unsupported_country_region_territory", "model_access_denied"),
            ),
            Meaning.NO_ACCESS,
        ),
        **dict.fromkeys(
            (
                *("insufficient_quota", "billing_error", "billing_hard_limit_reached"),
                *("billing_not_active", "insufficient_balance", "insufficient_balance_error"),
                *("insufficient_credits", "credit_balance_too_low", "payment_required"),
                *("exceeded_current_quota_error", "arrearage", "quota_exceeded", "1113"),
            ),
            Meaning.NO_FUNDS,
        ),
        **dict.fromkeys(
            (
                *("model_not_found", "deploymentnotfound", "model_not_exist", "model_not_exists"),
                *("unknown_model", "invalid_model", "model_not_available", "1211"),
                "resource_not_found_error",
            ),
            Meaning.UNKNOWN_MODEL,
        ),
        **dict.fromkeys(
            ("context_length_exceeded", "context_window_exceeded", "string_above_max_length"),
            Meaning.TOO_LONG,
        ),
        **dict.fromkeys(("request_too_large", "payload_too_large"), Meaning.TOO_LARGE),
        **dict.fromkeys(
            (
                *("rate_limit_error", "rate_limit_exceeded", "rate_limited", "throttlingexception"),
                *("rate_limit_reached_error", "too_many_requests", "requests_limit_exceeded"),
                *("resource_exhausted", "throttling", "throttling.ratequota", "1302", "1303"),
            ),
            Meaning.RATE_LIMITED,
        ),
        **dict.fromkeys(
            (
                *("overloaded_error", "engine_overloaded", "engine_overloaded_error"),
                *("server_overloaded", "server_is_overloaded", "service_unavailable", "slow_down"),
                *("model_overloaded", "unavailable", "capacity_exceeded", "1305", "1312"),
            ),
            Meaning.OVERLOADED,
        ),
        **dict.fromkeys(
            (
                *("content_filter", "content_policy_violation", "responsibleaipolicyviolation"),
                *("data_inspection_failed", "datainspectionfailed", "content_filtered", "1301"),
                "sensitive_content_detected",
            ),
            Meaning.FILTERED,
        ),
        **dict.fromkeys(("timeout", "timeout_error", "deadline_exceeded"), Meaning.TIMED_OUT),
    }
)
"""By an error's code or type, in lower case. Numbers are those of Zhipu."""

_OF_WORDS: Final[tuple[tuple[re.Pattern[str], Meaning], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (
            r"api key not valid|(invalid|incorrect|expired|no) (x-)?api[ _-]?key|invalid token\b",
            Meaning.BAD_KEY,
        ),
        (
            (
                r"credit balance is too low|insufficient (balance|credits?|quota|funds)"
                r"|exceeded your current quota|requires more credits|out of credits"
                r"|account is (overdue|in arrears)"
            ),
            Meaning.NO_FUNDS,
        ),
        (
            (
                r"(prompt|input|request) is too long|maximum context l(ength|imit)"
                r"|context[ _]window|context length|too many (input )?tokens|token limit"
                r"|exceeds? (the )?(maximum|max)\b.{0,40}tokens|range of input length"
                r"|maximum (number of tokens allowed|prompt length|model length)"
                r"|available context size|input length and `max_tokens` exceed"
                r"|reduce the length of (the|your) (messages|prompt|input)"
            ),
            Meaning.TOO_LONG,
        ),
        (
            (
                r"\bmodel\b.{0,80}(does ?n[o']t exist|not found|is not available|not supported"
                r"|no longer available|has been deprecated)|no such model|unknown model"
                r"|not a valid model|no endpoints found|no allowed providers"
            ),
            Meaning.UNKNOWN_MODEL,
        ),
        (r"overloaded|at capacity|capacity exceeded|too busy", Meaning.OVERLOADED),
        (r"content (management )?(policy|filter)|safety (system|policy)", Meaning.FILTERED),
    )
)
"""Words of errors whose code says less than they do."""

_WORDED: Final = frozenset({400, 401, 403, 404, 413, 422, 429, 500, 503})
"""Statuses under which the words of an error may mean something else than the status."""
_ONLY_CLIENTS: Final = frozenset({Meaning.TOO_LONG, Meaning.UNKNOWN_MODEL, Meaning.FILTERED})
"""Meanings that words have only under a status of the client's."""

_OF_STATUS: Final[Mapping[int, Meaning]] = MappingProxyType(
    {
        401: Meaning.BAD_KEY,
        402: Meaning.NO_FUNDS,
        403: Meaning.NO_ACCESS,
        404: Meaning.UNKNOWN_MODEL,
        408: Meaning.TIMED_OUT,
        413: Meaning.TOO_LARGE,
        429: Meaning.RATE_LIMITED,
        503: Meaning.OVERLOADED,
        504: Meaning.TIMED_OUT,
        529: Meaning.OVERLOADED,
    }
)

_OF_FAULT: Final[Mapping[FaultKind, Meaning]] = MappingProxyType(
    {
        FaultKind.CONNECT: Meaning.UNREACHABLE,
        FaultKind.RESET: Meaning.RESET,
        FaultKind.TIMEOUT: Meaning.TIMED_OUT,
        FaultKind.BROKEN: Meaning.BAD_ANSWER,
        FaultKind.BAD_ANSWER: Meaning.BAD_ANSWER,
        FaultKind.NO_KEY: Meaning.NOT_ASKED,
        FaultKind.STALE_POLICY: Meaning.NOT_ASKED,
        FaultKind.UNSUPPORTED: Meaning.UNSUPPORTED,
        FaultKind.TOO_LARGE: Meaning.TOO_LARGE,
        FaultKind.HOP: Meaning.NOT_ASKED,
    }
)

_CLIENTS_OWN: Final = frozenset({Meaning.BAD_KEY, Meaning.NO_ACCESS, Meaning.NO_FUNDS})
"""The client's affair where its own key is sent."""


def judge_status(
    status: int,
    headers: Headers = (),
    error: ErrorInfo | None = None,
    now: float | None = None,
) -> Verdict:
    """The verdict on a complete answer with this status, and the error that it holds, if any.

    ``now``: seconds since the epoch.
    """
    if status in _SUCCESS and error is None:
        return GOOD
    verdict = _VERDICTS[meaning_of(status, error)]
    retry_after_s = retry_after(headers, time() if now is None else now)
    if retry_after_s is None or verdict.action is Action.FINAL:
        return verdict
    return Verdict(
        verdict.action, verdict.rests, retry_after_s, verdict.meaning, verdict.is_passing
    )


def verdict_of(meaning: Meaning) -> Verdict:
    """The verdict on any failure with this meaning."""
    return _VERDICTS[meaning]


def judge_fault(fault: UpstreamFault) -> Verdict:
    """The verdict on an exchange without an answer.

    A connection that closed without a byte is most often a kept one that the provider gave up
    while it was idle. It is tried once more, on a new connection, because other idle ones are as
    likely to be dead.
    """
    return _VERDICTS[_OF_FAULT.get(fault.kind, Meaning.NOT_ASKED)]


def of_clients_key(verdict: Verdict) -> Verdict:
    """The verdict where the client's own key was sent: what is wrong with that is its affair."""
    if verdict.meaning in _CLIENTS_OWN:
        return Verdict(Action.FINAL, meaning=verdict.meaning)
    return verdict


def meaning_of(status: int, error: ErrorInfo | None) -> Meaning:
    """What an answer with this status and this error means."""
    by_status = _OF_STATUS.get(status)
    if by_status is None:
        by_status = Meaning.SERVER_ERROR if status in _SERVER_ERRORS else Meaning.INVALID
    if error is None:
        return by_status
    for name in (error.code, error.kind):
        meaning = _OF_CODE.get(name.lower()) if name else None
        if meaning is not None and not _is_vague(meaning, error):
            return meaning
    if status in _WORDED:
        for pattern, meaning in _OF_WORDS:
            if pattern.search(error.message) and _may_mean(status, meaning):
                return meaning
    return by_status


def _is_vague(meaning: Meaning, error: ErrorInfo) -> bool:
    """True for a rate limit whose words say that money has run out."""
    words = _OF_WORDS[1][0]
    return meaning is Meaning.RATE_LIMITED and words.search(error.message) is not None


def _may_mean(status: int, meaning: Meaning) -> bool:
    if meaning in _ONLY_CLIENTS:
        return status not in _SERVER_ERRORS and status not in (401, 429)
    return True


def retry_after(headers: Headers, now: float) -> float | None:
    """Seconds that a provider asks to be left alone for; None if it does not say.

    ``retry-after-ms`` counts before ``retry-after``, which is seconds or a date (RFC 9110,
    section 10.2.3).
    """
    values = dict(headers)
    milliseconds = _number(values.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1e3
    value = values.get("retry-after", "")
    seconds = _number(value)
    if seconds is not None or not value:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else None
