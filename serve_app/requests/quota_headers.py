"""Reads from an answer's headers until when the quota behind it is spent.

Sources: OpenAI API reference, "Rate limits" (``x-ratelimit-remaining-requests`` and others, also
of Groq, Azure and Cerebras); Anthropic API reference, "Rate limits"
(``anthropic-ratelimit-requests-remaining`` and others); OpenRouter, "API limits"
(``x-ratelimit-remaining``).
"""

import re
from datetime import datetime
from typing import Final

from serve_app.domain import Headers

_OPENAIS: Final = "x-ratelimit-remaining"
_ANTHROPICS: Final = ("anthropic-ratelimit-", "-remaining")
_NOTHING: Final = re.compile(r"0+(\.0+)?")
_NUMBER: Final = re.compile(r"\d{1,15}(\.\d{1,9})?")
_DURATION: Final = re.compile(
    r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?"
)
_UNITS_S: Final = (86400.0, 3600.0, 60.0, 1.0, 1e-3)
_EPOCH_S: Final = 1e9
"""Larger numbers are a time in seconds since the epoch, not a duration."""
_EPOCH_MS: Final = 1e11
"""Larger numbers are such a time in milliseconds."""


def spent_until(headers: Headers, now: float) -> float | None:
    """When the last of the used-up quotas is filled again, in seconds since the epoch.

    Returns None if no quota is used up, or if the provider does not say until when. ``now``: in
    seconds since the epoch.
    """
    resets = [name for name, value in headers if _NOTHING.fullmatch(value) and _reset_of(name)]
    if not resets:
        return None
    values = dict(headers)
    times = [_time(values.get(_reset_of(name), ""), now) for name in resets]
    return max((time for time in times if time is not None and time > now), default=None)


def _reset_of(name: str) -> str:
    """The header with the end of the quota that this header has the rest of; empty for others."""
    if name.startswith(_OPENAIS):
        return f"x-ratelimit-reset{name.removeprefix(_OPENAIS)}"
    begin, end = _ANTHROPICS
    if name.startswith(begin) and name.endswith(end):
        return f"{name.removesuffix(end)}-reset"
    return ""


def _time(text: str, now: float) -> float | None:
    """A duration ("6m0s", "120ms"), a number, or a time of RFC 3339, as seconds since the epoch."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _EPOCH_MS:
            return number / 1e3
        return number if number >= _EPOCH_S else now + number
    duration = _DURATION.fullmatch(text)
    if text and duration is not None:
        amounts = zip(duration.groups(), _UNITS_S, strict=True)
        return now + sum(float(amount) * unit for amount, unit in amounts if amount)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time.timestamp()
