"""The decision log: one line of JSON for each decision by content, as ``fingerpost eval`` reads it.

A file begins with a line that has the routes, and has another one wherever they change. A line of
a decision names its routes by ``set``. Without texts it is for ``fingerpost report`` alone.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final
from zlib import crc32

from serve_app.domain import Json, Question, Route, Scores, Unavailable
from serve_app.telemetry.log_lines import line_of, number, short, time_text
from serve_app.telemetry.log_writer import LogWriter
from serve_app.telemetry.record import AttemptRecord, DecisionRecord, RequestRecord

DECISION: Final = "decision"
"""The value of ``log`` in its lines."""

EXPLAINED: Final = "route"
"""The surface that only says what would be decided; its questions are not traffic."""

_SET_DIGITS: Final = 12
_CHANCES: Final = 1 << 32


class DecisionLog:
    """Writes a line for each request about which the orchestrator was asked."""

    def __init__(self, writer: LogWriter, *, texts: bool, sample: float) -> None:
        """``sample``: the share of the requests that are written, by their ids."""
        self._writer = writer
        self._texts = texts
        self._below = sample * _CHANCES
        self._routes: tuple[Route, ...] = ()
        self._head = b""
        self._set = ""
        self._has_lines = False

    @property
    def head(self) -> bytes:
        """The line of the routes in use; empty before the first decision."""
        return self._head

    def decided(self, decision: DecisionRecord) -> None:
        """Ignored: the record of the request has the scores."""

    def attempted(self, attempt: AttemptRecord) -> None:
        """Ignored: what was tried is in the access log."""

    def session_changed(self, event: str) -> None:
        """Ignored: the record of the request has its session."""

    def ended(self, request: RequestRecord) -> None:
        """Writes the line of a request, if the orchestrator was asked and it is in the sample."""
        question = request.question
        if question is None or request.surface == EXPLAINED or not self._is_sampled(request.id):
            return
        if not question.is_inline and question.routes is not self._routes:
            self._begin(question)
        routes = None if question.is_inline else self._set
        self._has_lines = True
        self._writer.put(line_of(decision_fields(request, question, routes, texts=self._texts)))

    def _is_sampled(self, request_id: str) -> bool:
        """Chooses by the id, so that the same requests are in the log of every replica."""
        return crc32(request_id.encode("utf-8", "replace")) < self._below

    def _begin(self, question: Question) -> None:
        """Writes the routes from now on in use."""
        self._routes = question.routes
        head = head_of(question.routes, question.no_route_examples, texts=self._texts)
        if head != self._head:
            self._head = head
            self._set = json.loads(head)["set"]
            if self._has_lines:  # else the file that the first line opens begins with it
                self._writer.put(head)


def head_of(routes: Sequence[Route], no_route_examples: Sequence[str], *, texts: bool) -> bytes:
    """The line of the routes; their examples are texts, too."""
    fields: dict[str, Json] = {
        "routes": [
            {
                "name": route.name,
                "description": route.description or route.name,
                **({"examples": list(route.examples)} if texts and route.examples else {}),
            }
            for route in routes
        ]
    }
    if texts and no_route_examples:
        fields["no_route_examples"] = list(no_route_examples)
    digest = sha256(line_of(fields)).hexdigest()[:_SET_DIGITS]
    return line_of({"log": DECISION, **fields, "set": digest})


def decision_fields(
    request: RequestRecord, question: Question, routes: str | None, *, texts: bool
) -> dict[str, Json]:
    """The fields of one decision; ``routes`` None for routes that the request brought itself.

    ``messages`` and ``expect`` are there if the line is a case for ``fingerpost eval``; ``expect``
    is then what the orchestrator decided.
    """
    scores = request.scores
    fields: dict[str, Json] = {
        "log": DECISION,
        "at": time_text(request.at),
        "id": short(request.id),
        "client": request.client or None,
        "team": request.team or None,
        "route": short(request.route),
        "reason": request.reason or None,
        "model": short(request.candidates[0]) if request.candidates else None,
        "tier": request.tier or None,
        "set": routes,
        "policy": request.policy or None,
        "session_hash": request.session_hash or None,
        "turns": len(question.turns),
        "characters": sum(len(turn.text) for turn in question.turns),
    }
    if isinstance(scores, Unavailable):
        fields["unavailable"] = scores.reason
    elif scores is not None:
        fields |= _scored(scores, names=texts or routes is not None)
        if texts and routes is not None and question.turns:
            fields["messages"] = [
                {"role": turn.role, "content": turn.text} for turn in question.turns
            ]
            fields["expect"] = scores.winner
    return fields


def _scored(scores: Scores, *, names: bool) -> Mapping[str, Json]:
    """What the orchestrator answered; ``names`` of routes may be texts of a client."""
    values = scores.routes.values()
    return {
        "confidence": number(max(values, default=None)),
        "none": number(scores.none),
        "threshold": number(scores.threshold),
        "margin": number(scores.required_margin),
        "winner": short(scores.winner) if names else None,
        "matched": scores.winner is not None,
        "scores": {name: number(value) for name, value in scores.routes.items()} if names else None,
        "cached": scores.cached,
        "unreadable": scores.unreadable,
        "stand_in": scores.stand_in or None,
        "fell_back": scores.fell_back or None,
    }
