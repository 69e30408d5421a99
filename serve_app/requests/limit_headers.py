"""Headers that say how much of a client's limits and budget is left, in its dialect.

Source: OpenAI API reference, "Rate limits"; Anthropic API reference, "Rate limits"; Claude Code,
"LLM gateway protocol".
"""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from typing import Final

from serve_app.access.limiter import Hold
from serve_app.access.terms import LimitRule, window_of
from serve_app.access_errors import LimitKind, LimitReached
from serve_app.domain import Headers

OWN_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
"""Headers of a provider that a client with limits of its own does not get: they are not about it."""

_WARNINGS: Final = (0.95, 0.75)
_MOST: Final = 0.99
_SHOWN: Final = (LimitKind.REQUESTS, LimitKind.TOKENS)


def standing_headers(
    hold: Hold, *, anthropic: bool, good: bool, now: Callable[[], float] = time.time
) -> Headers:
    """What is left of each kind of limit, and, for a good message, the standing of the budget.

    Of several limits of a kind the one with the least left is shown.
    """
    tightest: dict[LimitKind, tuple[int, LimitRule, float]] = {}
    spent: tuple[float, LimitRule] | None = None
    for rule, charge, standing in zip(hold.rules, hold.charges, hold.standings, strict=True):
        if rule.kind is LimitKind.USD:
            share = standing.used / charge.limit
            spent = max(spent, (share, rule)) if spent is not None else (share, rule)
            continue
        left = max(0, charge.limit - standing.used)
        known = tightest.get(rule.kind)
        if known is None or left < known[0]:
            tightest[rule.kind] = left, rule._replace(limit=charge.limit), standing.reset_s
    pairs = [
        pair
        for kind in _SHOWN
        if kind in tightest
        for pair in _of_kind(kind, *tightest[kind], anthropic, now)
    ]
    if spent is not None and anthropic and good:
        pairs += _budget(*spent, now())
    return tuple(pairs)


def refusal_headers(
    error: LimitReached, *, anthropic: bool, now: Callable[[], float] = time.time
) -> Headers:
    """The same of the limit that refuses a request."""
    if error.kind not in _SHOWN:
        return ()
    rule = LimitRule("", error.kind, error.limit, error.whose)
    return tuple(_of_kind(error.kind, 0, rule, error.retry_after_s, anthropic, now))


def _of_kind(
    kind: LimitKind,
    left: int,
    rule: LimitRule,
    reset_s: float,
    anthropic: bool,  # noqa: FBT001 - as above
    now: Callable[[], float],
) -> Iterator[tuple[str, str]]:
    if anthropic:
        reset = dt.datetime.fromtimestamp(now() + reset_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield f"anthropic-ratelimit-{kind.value}-limit", str(rule.limit)
        yield f"anthropic-ratelimit-{kind.value}-remaining", str(left)
        yield f"anthropic-ratelimit-{kind.value}-reset", reset
        return
    yield f"x-ratelimit-limit-{kind.value}", str(rule.limit)
    yield f"x-ratelimit-remaining-{kind.value}", str(left)
    yield f"x-ratelimit-reset-{kind.value}", _duration(reset_s)


def _duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: ``1m5s``, ``12s``, ``250ms``."""
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}h' if hours else ''}{f'{minutes}m' if hours or minutes else ''}{rest}s"


def _budget(share: float, rule: LimitRule, now: float) -> Iterator[tuple[str, str]]:
    """How much of a cap is spent; the threshold is what makes Claude Code show a notice."""
    utilization = min(share, _MOST)
    passed = next((threshold for threshold in _WARNINGS if share >= threshold), None)
    status = "allowed" if passed is None else "allowed_warning"
    resets_at = str(int(window_of(rule.window or "month", now)[1]))
    unified = {
        "status": status,
        "representative-claim": "overage",
        "overage-status": status,
        "overage-utilization": f"{utilization:.2f}",
        "reset": resets_at,
        "overage-reset": resets_at,
    }
    if passed is not None:
        unified["overage-surpassed-threshold"] = f"{passed:g}"
    for name, value in unified.items():
        yield f"anthropic-ratelimit-unified-{name}", value
