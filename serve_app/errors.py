"""Every error that the gateway itself answers with, as one tree.

::

    GatewayError                    500 internal_error
    ├── InvalidRequest              400 invalid_request
    │   ├── InvalidJson             400 invalid_json
    │   ├── ResponseNotFound        400 previous_response_not_found
    │   ├── AnswerNotFound          404 response_not_found
    │   ├── ConversationNotFound    404 conversation_not_found
    │   ├── PageRefused             403 page_refused
    │   ├── ThreadUnsupported       400 thread_unsupported_request
    │   └── ThreadNotFound          404 thread_not_found
    ├── DuplicateKey                400 duplicate_key
    ├── NestingTooDeep              400 nesting_too_deep
    ├── NoModel                     400 no_model
    ├── InvalidClientKey            401 invalid_api_key
    ├── AnonymousRefused            403 anonymous_refused
    ├── UnknownPath                 404 unknown_path
    ├── UnknownModel                404 model_not_found
    ├── MethodNotAllowed            405 method_not_allowed
    ├── BodyTimeout                 408 request_timeout
    ├── BodyTooLarge                413 body_too_large
    ├── UnsupportedEncoding         415 unsupported_encoding
    ├── WebSocketUnsupported        426 websocket_unsupported
    ├── SpendingCapReached          429 spending_cap_reached
    ├── GatewayBusy                 429 gateway_busy
    ├── PageBusy                    429 page_busy
    ├── HeadersTooLarge             431 headers_too_large
    ├── StateUnavailable            503 state_unavailable
    ├── OrchestratorUnavailable     503 orchestrator_unavailable
    ├── ReportedError               502 upstream_error
    └── UpstreamFailed              502 upstream_error
        ├── HopTooSmall             413 body_too_large
        ├── KeyMissing              503 provider_key_missing
        ├── NotSupported            501 not_supported
        └── UpstreamTimeout         504 upstream_timeout

Status and code are class data; an instance holds what its text is made of, survives pickling
whatever its constructor takes, and is rendered by dialects only.
"""

import copyreg
from dataclasses import dataclass
from typing import Final

from serve_app.domain import SpentCap

_TWICE: Final = "/v1/v1/"
"""Part of paths where base URL and client both add ``/v1``."""


class GatewayError(Exception):
    """The root: its text, status and code go to the client."""

    status: int = 500
    code: str = "internal_error"
    is_final: bool = False
    """True if the same request can't succeed later, so that SDKs must not send it again."""
    param: str | None = None
    text: str = "the gateway failed; see its log for the reason"
    """What errors without fields say."""

    def __reduce__(self) -> tuple[object, ...]:
        return copyreg.__newobj__, (type(self),), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return self.text


@dataclass(eq=False)
class InvalidRequest(GatewayError):
    """The request is not valid; the message names the place and the reason."""

    status = 400
    code = "invalid_request"
    message: str
    param: str | None = None

    def __str__(self) -> str:
        return self.message


class InvalidJson(InvalidRequest):
    """The body is not one JSON object."""

    code = "invalid_json"


class ResponseNotFound(InvalidRequest):
    """The request continues an answer or a conversation that is not kept."""

    code = "previous_response_not_found"


class AnswerNotFound(InvalidRequest):
    """The path names an answer that is not kept for this client."""

    status = 404
    code = "response_not_found"


class ConversationNotFound(InvalidRequest):
    """The path names a conversation that is not kept for this client."""

    status = 404
    code = "conversation_not_found"


class ThreadUnsupported(InvalidRequest):
    """The client wants to begin a thread at a provider that keeps none."""

    code = "thread_unsupported_request"


class ThreadNotFound(InvalidRequest):
    """The client continues a thread that this provider does not have."""

    status = 404
    code = "thread_not_found"


@dataclass(eq=False)
class DuplicateKey(GatewayError):
    """The gateway reads a top-level key that the body holds twice, or in another case."""

    status = 400
    code = "duplicate_key"
    param: str | None

    def __str__(self) -> str:
        return f"duplicate key {self.param!r} (compared without case); send it once, in lower case"


class NestingTooDeep(GatewayError):
    """The body is nested deeper than the parser can read."""

    status = 400
    code = "nesting_too_deep"
    text = "the body is nested too deeply; flatten it"


class NoModel(GatewayError):
    """The request names no model, and the configuration has neither a default nor routes."""

    status = 400
    code = "no_model"
    param = "model"
    text = (
        "the request names no model, and the gateway has neither a default model nor routes; "
        "name one of the models that GET /v1/models lists, or mark one with `default: true`"
    )


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
class UnknownPath(GatewayError):
    """The path is not one that the gateway serves."""

    status = 404
    code = "unknown_path"
    path: str
    served: tuple[str, ...] = ()

    def __str__(self) -> str:
        if _TWICE in self.path:
            once = self.path.replace(_TWICE, "/v1/", 1)
            return (
                f"unknown path {self.path!r}: the client adds /v1 to its base URL by itself; use "
                f"{once!r}, and a base URL (such as ANTHROPIC_BASE_URL) that does not end in /v1"
            )
        return f"unknown path {self.path!r}; use {' or '.join(self.served) or 'another one'}"


@dataclass(eq=False)
class UnknownModel(GatewayError):
    """The name is neither a model nor an alias."""

    status = 404
    code = "model_not_found"
    model: str
    nearest: tuple[str, ...] = ()
    param: str | None = "model"

    def __str__(self) -> str:
        text = f"the model {self.model!r} does not exist here"
        if self.nearest:
            return f"{text}; did you mean {' or '.join(map(repr, self.nearest))}?"
        return f"{text}; GET /v1/models lists the names"


@dataclass(eq=False)
class MethodNotAllowed(GatewayError):
    """The path exists, but not with this method."""

    status = 405
    code = "method_not_allowed"
    method: str
    path: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.path} does not support {self.method}; use {self.allowed}"


class BodyTimeout(GatewayError):
    """The client paused for too long while it sent its body."""

    status = 408
    code = "request_timeout"
    text = "the request body did not arrive in time; send it without long pauses"


@dataclass(eq=False)
class BodyTooLarge(GatewayError):
    """The body is over ``limits.body_bytes``."""

    status = 413
    code = "body_too_large"
    limit: int

    def __str__(self) -> str:
        return f"the request body is larger than {self.limit} bytes; send less, or raise limits.body_bytes"


@dataclass(eq=False)
class UnsupportedEncoding(GatewayError):
    """The body is packed in a way that the gateway does not unpack."""

    status = 415
    code = "unsupported_encoding"
    encoding: str
    supported: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"content-encoding {self.encoding!r} is not supported; "
            f"use {' or '.join(self.supported)}, or send the body uncompressed"
        )


@dataclass(eq=False)
class WebSocketUnsupported(GatewayError):
    """The client opened a WebSocket; this status makes Codex go on over HTTP at once."""

    status = 426
    code = "websocket_unsupported"
    is_final = True
    path: str

    def __str__(self) -> str:
        return (
            f"{self.path} does not support WebSocket; send each request as a POST over HTTP, and "
            "set `supports_websockets = false` in the configuration of Codex"
        )


@dataclass(eq=False)
class SpendingCapReached(GatewayError):
    """The client has spent its cap, and the gateway does not ask a provider."""

    status = 429
    code = "spending_cap_reached"
    is_final = True
    cap: SpentCap

    def __str__(self) -> str:
        return self.cap.message


@dataclass(eq=False)
class GatewayBusy(GatewayError):
    """The limits of all endpoints that may answer are used up, and the request could not wait."""

    status = 429
    code = "gateway_busy"
    detail: str
    retry_after_s: int

    def __str__(self) -> str:
        return (
            "all models that may answer are at the `limits` of their entries in model_providers, "
            f"and {self.detail}; retry in {self.retry_after_s} s"
        )


class PageBusy(GatewayError):
    """The page at ``/ui`` is open too often at once."""

    status = 429
    code = "page_busy"
    text = "the page is open too often at once; close another tab, or retry in a minute"


@dataclass(eq=False)
class HeadersTooLarge(GatewayError):
    """The headers together are over ``limits.header_bytes``."""

    status = 431
    code = "headers_too_large"
    limit: int

    def __str__(self) -> str:
        return f"the request headers are larger than {self.limit} bytes; send fewer, or raise limits.header_bytes"


class StateUnavailable(GatewayError):
    """The request continues an earlier answer, and the store of those is unavailable."""

    status = 503
    code = "state_unavailable"
    text = (
        "the store of earlier answers is unavailable, so the conversation can't be continued "
        "now; try again, or send the whole conversation"
    )


@dataclass(eq=False)
class OrchestratorUnavailable(GatewayError):
    """The gateway's own orchestrator was to answer, and could not."""

    status = 503
    code = "orchestrator_unavailable"
    detail: str

    def __str__(self) -> str:
        return f"the orchestrator did not answer: {self.detail}; retry, or see GET /healthz"


@dataclass(eq=False)
class ReportedError(GatewayError):
    """A provider's error, in its own words."""

    status = 502
    code = "upstream_error"
    message: str
    reported_code: str | None = None
    """The provider's own code, if it has one; it replaces that of the class."""
    reported_status: int | None = None
    """The status that the error means, if the provider says; it replaces that of the class."""

    def __post_init__(self) -> None:
        self.code = self.reported_code or self.code
        self.status = self.reported_status or self.status

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False)
class UpstreamFailed(GatewayError):
    """No candidate answered, and the last one did not even send an error of its own."""

    status = 502
    code = "upstream_error"
    message: str

    def __str__(self) -> str:
        return self.message


class UpstreamTimeout(UpstreamFailed):
    """The last candidate did not answer in time."""

    status = 504
    code = "upstream_timeout"


class HopTooSmall(UpstreamFailed):
    """The body does not fit through the hop as Serve was started."""

    status = 413
    code = "body_too_large"


class NotSupported(UpstreamFailed):
    """The model's provider does not have what the client asks for."""

    status = 501
    code = "not_supported"
    is_final = True


class KeyMissing(UpstreamFailed):
    """The provider's key is not set where the gateway runs."""

    status = 503
    code = "provider_key_missing"
