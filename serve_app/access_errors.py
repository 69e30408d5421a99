"""The errors about who may ask, for which models, and how much.

::

    GatewayError                    500 internal_error
    ├── InvalidClientKey            401 invalid_api_key
    ├── AnonymousRefused            403 anonymous_refused
    ├── InvalidRequest              400 invalid_request
    │   └── PageRefused             403 page_refused
    ├── ModelNotAllowed             403 model_not_allowed
    ├── ModelUnpriced               403 model_without_price
    ├── LimitReached                429 rate_limit_exceeded
    ├── SpendingCapReached          429 spending_cap_reached
    └── LimitsUnavailable           503 limits_unavailable
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from serve_app.domain import SpentCap
from serve_app.errors import GatewayError, InvalidRequest

_MOST_NAMES: Final = 20
"""Allowed names that a message lists."""
_SPANS: Final = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}


class LimitKind(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"
    """Requests under way at once."""
    USD = "usd"
    """Money of a budget, in billionths of a US dollar."""


class InvalidClientKey(GatewayError):
    """The gateway requires a client key, and the request has none that it knows."""

    status = 401
    code = "invalid_api_key"
    is_final = True
    text = (
        "this gateway requires a client key; send one of its client_keys as "
        "`Authorization: Bearer ...`, `x-api-key: ...` or `x-fingerpost-key: ...`"
    )


class AnonymousRefused(GatewayError):
    """A gateway without client keys was called from another machine, or by a web page."""

    status = 403
    code = "anonymous_refused"
    text = (
        "this gateway has no client_keys and answers programs on this machine only, at localhost; "
        "configure client_keys, allow_anonymous: true, or cors.allow_origins for a web page"
    )


class PageRefused(InvalidRequest):
    """The page at ``/ui`` was called from elsewhere than the page, or from another machine."""

    status = 403
    code = "page_refused"


@dataclass(eq=False)
class ModelNotAllowed(GatewayError):
    """The client key may not use the model that the request names, or any that it could get."""

    status = 403
    code = "model_not_allowed"
    is_final = True
    model: str
    """What the request names; empty where it leaves the model open."""
    allowed: tuple[str, ...]
    param: str | None = "model"

    def __str__(self) -> str:
        what = f"the model {self.model!r}" if self.model else "a model that the gateway chooses"
        named = ", ".join(self.allowed[:_MOST_NAMES])
        more = len(self.allowed) - _MOST_NAMES
        rest = f" and {more} more, which GET /v1/models lists" if more > 0 else ""
        return f"this client key may not use {what}; use one of: {named}{rest}"


@dataclass(eq=False)
class ModelUnpriced(GatewayError):
    """The client has a budget, and the price of the model is unknown."""

    status = 403
    code = "model_without_price"
    is_final = True
    model: str
    param: str | None = "model"

    def __str__(self) -> str:
        return (
            f"the price of {self.model!r} is unknown, and this client key has a budget; name another "
            "model, or set the price under `prices` of the gateway"
        )


@dataclass(eq=False)
class LimitReached(GatewayError):
    """A limit of the client, its team or the model is used up for now."""

    status = 429
    code = "rate_limit_exceeded"
    whose: str
    """What has the limit, such as ``client key 'ide'``."""
    kind: LimitKind
    limit: int
    span_s: float
    """The length of its window, seconds; 0 for a limit of requests at once."""
    retry_after_s: int
    reset_s: float = 0.0
    """Seconds until nothing of the limit is used; 0 where that is unknown."""

    def __str__(self) -> str:
        return (
            f"the {self.whose} is at its limit of {self.limit} {self._unit}; "
            f"retry in {self.retry_after_s} s"
        )

    @property
    def _unit(self) -> str:
        if self.kind is LimitKind.CONCURRENT:
            return f"request{'' if self.limit == 1 else 's'} at once"
        span = _SPANS.get(self.span_s, f"{self.span_s:g} s")
        return f"{self.kind.value} per {span}"


@dataclass(eq=False)
class SpendingCapReached(GatewayError):
    """The client has spent its cap, and the gateway does not ask a provider."""

    status = 429
    code = "spending_cap_reached"
    is_final = True
    cap: SpentCap

    def __str__(self) -> str:
        return self.cap.message


class LimitsUnavailable(GatewayError):
    """The client has limits, and the store that counts is unavailable."""

    status = 503
    code = "limits_unavailable"
    text = (
        "the store that counts requests, tokens and budgets is unavailable, so that this client "
        "key can't be used now; try again"
    )
