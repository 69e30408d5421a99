"""Lines of both logs as values, checked, so that a damaged one changes no total."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from serve_app.domain import Json
from serve_app.telemetry.access_log import ACCESS
from serve_app.telemetry.decision_log import DECISION

_TOO_MUCH: Final = 1e15
"""No figure of a request is as large; neither infinity nor NaN is smaller."""

_TIME_LENGTH: Final = len("2026-01-31T12:00:00")


class TriedEntry(NamedTuple):
    """One exchange with a provider."""

    provider: str
    outcome: str


class TokenEntry(NamedTuple):
    """Tokens in four classes that do not overlap."""

    input: int
    cache_read: int
    cache_write: int
    output: int


class AccessEntry(NamedTuple):
    """One request; texts are empty where the line has null."""

    at: str
    client: str
    team: str
    route: str
    surface: str
    status: int | None
    error: str
    model: str
    provider: str
    reason: str
    confidence: float | None
    tried: tuple[TriedEntry, ...]
    decide_ms: float | None
    first_token_ms: float | None
    total_ms: float | None
    overhead_ms: float | None
    queued_ms: float | None
    tokens: TokenEntry | None
    usd: float | None
    baseline_usd: float | None
    session: str
    session_hash: str


class DecisionEntry(NamedTuple):
    """One decision by content; texts are empty where the line has null."""

    at: str
    client: str
    team: str
    route: str
    tier: str
    unavailable: str
    """Why the orchestrator did not answer; empty if it did."""
    confidence: float | None
    """The probability of the best route."""
    none: float | None
    lead: float | None
    """That of the best route before the second one or no route; None without probabilities."""
    matched: bool
    cached: bool
    stand_in: str


class WrongLineError(ValueError):
    """Raised for an object that is not a line of a log."""


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which lines count; empty collections take all."""

    since: str = ""
    until: str = ""
    """As lines have times; the first that does not count."""
    clients: Collection[str] = ()
    teams: Collection[str] = ()
    routes: Collection[str] = ()

    def takes(self, entry: AccessEntry | DecisionEntry) -> bool:
        """True if an entry counts."""
        at = entry.at
        return (
            at >= self.since
            and (not self.until or at < self.until)
            and (not self.clients or entry.client in self.clients)
            and (not self.teams or entry.team in self.teams)
            and (not self.routes or entry.route in self.routes)
        )


def read_entry(fields: Mapping[str, Json]) -> AccessEntry | DecisionEntry | None:
    """The entry of a line. Returns None for the routes in a decision log. Raises WrongLineError."""
    kind = fields.get("log")
    if kind == ACCESS:
        return _access(fields)
    if kind != DECISION:
        raise WrongLineError
    return None if "routes" in fields else _decision(fields)


def _access(fields: Mapping[str, Json]) -> AccessEntry:
    ms, status = fields.get("ms"), fields.get("status")
    if not isinstance(ms, dict) or not isinstance(status, int | None):
        raise WrongLineError
    return AccessEntry(
        _time(fields),
        _text(fields, "client"),
        _text(fields, "team"),
        _text(fields, "route"),
        _text(fields, "surface"),
        status,
        _text(fields, "error"),
        _text(fields, "model"),
        _text(fields, "provider"),
        _text(fields, "reason"),
        _number(fields, "confidence"),
        _tried(fields.get("tried")),
        _number(ms, "decide"),
        _number(ms, "first_token"),
        _number(ms, "total"),
        _number(ms, "overhead"),
        _number(ms, "queued"),
        _tokens(fields.get("tokens")),
        _number(fields, "usd"),
        _number(fields, "baseline_usd"),
        _text(fields, "session"),
        _text(fields, "session_hash"),
    )


def _decision(fields: Mapping[str, Json]) -> DecisionEntry:
    confidence, none = _number(fields, "confidence"), _number(fields, "none")
    return DecisionEntry(
        _time(fields),
        _text(fields, "client"),
        _text(fields, "team"),
        _text(fields, "route"),
        _text(fields, "tier"),
        _text(fields, "unavailable"),
        confidence,
        none,
        _lead(fields.get("scores"), none),
        fields.get("matched") is True,
        fields.get("cached") is True,
        _text(fields, "stand_in"),
    )


def _lead(scores: Json, none: float | None) -> float | None:
    """The distance between the two most probable answers, no route included."""
    if not isinstance(scores, dict):
        return None
    values = [_number(scores, name) for name in scores]
    known = sorted(value for value in (*values, none) if value is not None)
    return known[-1] - known[-2] if len(known) > 1 else None


def _tried(value: Json) -> tuple[TriedEntry, ...]:
    if not isinstance(value, list):
        raise WrongLineError
    if not all(isinstance(one, dict) for one in value):
        raise WrongLineError
    return tuple([TriedEntry(_text(one, "provider"), _text(one, "outcome")) for one in value])


def _tokens(value: Json) -> TokenEntry | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise WrongLineError
    counts: list[int] = []
    for name in TokenEntry._fields:
        count = value.get(name)
        if not isinstance(count, int) or not 0 <= count < _TOO_MUCH:
            raise WrongLineError
        counts.append(count)
    return TokenEntry(*counts)


def _time(fields: Mapping[str, Json]) -> str:
    at = fields.get("at")
    if not isinstance(at, str) or len(at) < _TIME_LENGTH or at[10] != "T":
        raise WrongLineError
    return at


def _text(fields: Mapping[str, Json], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise WrongLineError
    return value


def _number(fields: Mapping[str, Json], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < _TOO_MUCH:
        raise WrongLineError
    return value
