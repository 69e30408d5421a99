"""What became of each request of an agent: its conversation, its kind, model and endpoint."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from tests.agents.gateway import KEY
from tests.agents.tap import Passed
from tests.agents.upstream import SPEECHES, Received

_MAIN: Final = "main"


@dataclass(frozen=True)
class Turn:
    """One request that a model was asked."""

    conversation: str
    """The agent's name of it."""
    kind: str
    """What the agent sends it for: ``main``, ``compaction``, ``subagent Explore`` ...; with the
    name of the model if it asks for another one than the main conversation."""
    name: str
    """The model that the agent asks for."""
    status: int
    model: str
    """The model that the upstream was asked for, without its provider; empty if it was not."""
    endpoint: str
    """``first`` or ``second``, by the key that the upstream got."""
    answer: Mapping[str, str]
    """The headers of the gateway's answer, by lower-case name."""

    @property
    def reason(self) -> str:
        """Why it has its model."""
        return self.answer.get("x-fingerpost-reason", "")

    def __str__(self) -> str:
        rule = self.answer.get("x-fingerpost-rule")
        why = f"{self.reason} {rule}" if rule else self.reason
        pin = self.answer.get("x-fingerpost-affinity", "-")
        return (
            f"{self.conversation[-8:]} | {self.kind} | {self.name} | {self.model} | {why} "
            f"| {pin} | {self.endpoint}"
        )


class Wanted(NamedTuple):
    """Where all requests of a kind have to go."""

    model: str
    reason: str
    """Of the first request of each conversation."""
    then: str = ""
    """The reason of all later ones; empty if it is that of the first."""


def turns_of(passed: Iterable[Passed], received: Iterable[Received]) -> list[Turn]:
    """The requests to models in their order, each with what the upstream got."""
    by_number = {str(one.number): one for one in received}
    return [
        _turn(one, by_number.get(one.answer.get("x-fingerpost-upstream-request-id", "")))
        for one in passed
        if one.path.partition("?")[0] in SPEECHES
    ]


def _turn(passed: Passed, received: Received | None) -> Turn:
    conversation, kind = _signs(passed.headers)
    model = endpoint = ""
    if received is not None:
        model = str(json.loads(received.body).get("model"))
        endpoint = "first" if KEY in str(received.headers) else "second"
    name = str(json.loads(passed.body).get("model"))
    kind = kind if name.endswith("-auto") else f"{kind} by {name}"
    return Turn(conversation, kind, name, passed.status, model, endpoint, passed.answer)


def _signs(headers: Mapping[str, str]) -> tuple[str, str]:
    """An agent's name of the conversation, and what it sends the request for."""
    if "x-claude-code-session-id" in headers:
        session = headers["x-claude-code-session-id"]
        words = (headers.get(f"x-claude-code-{name}") for name in ("request-class", "agent-type"))
        return headers.get("x-claude-code-agent-id", session), " ".join(filter(None, words))
    if "thread-id" in headers:
        kind = json.loads(headers.get("x-codex-turn-metadata", "{}")).get("request_kind", "")
        subagent = headers.get("x-openai-subagent")
        kind = f"subagent {subagent}" if subagent else kind
        return headers["thread-id"], _MAIN if kind == "turn" else kind
    if "x-session-id" in headers:
        return headers["x-session-id"], "subagent" if "x-parent-session-id" in headers else _MAIN
    return _MAIN, _MAIN


def faults_of(turns: Sequence[Turn], wanted: Mapping[str, Wanted]) -> list[str]:
    """What is wrong: a status, a kind that is missing or unexpected, a model, a reason."""
    faults = [f"{one.kind}: status {one.status}" for one in turns if one.status != 200]
    kinds = {one.kind for one in turns}
    faults += [f"no request of kind {kind!r}" for kind in wanted if kind not in kinds]
    faults += [f"a request of kind {kind!r}" for kind in sorted(kinds - set(wanted))]
    seen: set[tuple[str, str]] = set()
    for one in turns:
        if one.kind not in wanted:
            continue
        model, reason, then = wanted[one.kind]
        if (one.conversation, one.kind) in seen:
            reason = then or reason
        seen.add((one.conversation, one.kind))
        if (one.model, one.reason) != (model, reason):
            faults.append(f"{one.kind}: {one.model} by {one.reason}, not {model} by {reason}")
    hits, pairs = cache_view(turns)
    if hits != pairs:
        faults.append(f"{pairs - hits} of {pairs} requests at another endpoint than the last")
    return faults


def cache_view(turns: Iterable[Turn]) -> tuple[int, int]:
    """How many requests could find their prompt in a provider's cache, and of how many.

    Compares each request with the last one of its conversation to the same model.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for one in turns:
        lines.setdefault((one.conversation, one.model), []).append(one.endpoint)
    pairs = [pair for line in lines.values() for pair in pairwise(line)]
    return sum(before == after for before, after in pairs), len(pairs)


def counted(turns: Iterable[Turn]) -> str:
    """How many requests of each kind went where."""
    rows = Counter((one.kind, one.model, one.reason) for one in turns)
    return ", ".join(f"{count} x {' '.join(row)}" for row, count in rows.items())
