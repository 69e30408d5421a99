"""Records of requests for tests of logs and of reports."""

from typing import Any, Final

from serve_app.dialects import ir
from serve_app.domain import Question, Route, Scores, Turn
from serve_app.telemetry.record import RequestRecord, TriedRecord

ROUTES: Final = (
    Route("code", "writing and debugging code", (), examples=("why does it loop?",)),
    Route("travel", "trips and hotels", ()),
)
AT: Final = 1_790_000_000.123
"""2026-09-21T14:13:20.123Z."""

SECRET_TEXT: Final = "my password is hunter2"


def question(text: str = SECRET_TEXT, **changes: Any) -> Question:
    """What the orchestrator is asked about a text."""
    fields = {"turns": (Turn("user", text),), "routes": ROUTES, "key": "k", **changes}
    return Question(**fields)


def record(**changes: Any) -> RequestRecord:
    """A streamed request that was decided by content and answered by its second candidate."""
    fields: dict[str, Any] = {
        "surface": "chat",
        "status": 200,
        "reason": "failover",
        "route": "code",
        "confidence": 0.98765,
        "session": "hit",
        "policy": "0123456789ab",
        "provider": "openai",
        "model": "openai/gpt-4o",
        "attempts": 2,
        "seconds": 1.5,
        "overhead_s": 0.002,
        "id": "request-1",
        "at": AT,
        "client": "ada",
        "team": "blue",
        "asked": "auto",
        "stream": True,
        "decided_s": 0.001,
        "first_token_s": 0.4,
        "tried": (
            TriedRecord("vllm", "vllm/llama", "connect", 0.001, 0.01),
            TriedRecord("openai", "openai/gpt-4o", "ok", 0.011, 0.389),
        ),
        "usage": ir.Usage(100, 20, 3, 40),
        "usd": 0.00125,
        "baseline_usd": 0.0025,
        "session_hash": "abc",
        "candidates": ("vllm/llama", "openai/gpt-4o"),
        "question": question(),
        "scores": Scores({"code": 0.98765, "travel": 0.0023}, 0.2, "code", none=0.01),
        "tier": "embedding",
        "trace": "00-1-2-01",
    }
    return RequestRecord(**{**fields, **changes})
