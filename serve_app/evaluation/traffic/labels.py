"""Makes a labelled set of a decision log, for people to correct."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappush, heappushpop
from typing import Final

from serve_app.domain import Json
from serve_app.evaluation.traffic.entries import DecisionEntry

_MAX_SETS: Final = 100
_HASHES: Final = float(1 << 64)


@dataclass(slots=True)
class _Cases:
    """The cases of one set of routes that are kept: those with the least order."""

    head: dict[str, Json] | None = None
    kept: list[tuple[float, str, str]] = field(default_factory=list)
    """A heap of the negative order, the digest of the conversation, and the line."""
    digests: set[str] = field(default_factory=set)
    newest: str = ""
    decisions: int = 0


class Labels:
    """Chooses decisions of a log, each conversation once."""

    def __init__(self, count: int, *, unsure: bool) -> None:
        """``count``: the maximum number; ``unsure``: the closest calls instead of a fair sample."""
        self._count = count
        self._unsure = unsure
        self._sets: dict[str, _Cases] = {}

    def add_routes(self, fields: Mapping[str, Json]) -> None:
        """Takes the line of a log that has routes."""
        cases = self._cases(fields.get("set"))
        if cases is not None:
            cases.head = {
                name: fields[name] for name in ("routes", "no_route_examples") if name in fields
            }

    def add(self, fields: Mapping[str, Json], entry: DecisionEntry) -> None:
        """Takes the line of a decision; one without texts is only counted."""
        cases = self._cases(fields.get("set"))
        if cases is None:
            return
        cases.newest = max(cases.newest, entry.at)
        cases.decisions += 1
        messages, expect = fields.get("messages"), fields.get("expect", False)
        if not isinstance(messages, list) or not isinstance(expect, str | None):
            return
        digest = blake2b(json.dumps(messages).encode(), digest_size=8).hexdigest()
        if digest in cases.digests:
            return
        order = int(digest, 16) / _HASHES
        if self._unsure:
            order = 1.0 if entry.lead is None else entry.lead
        if len(cases.kept) == self._count and -order <= cases.kept[0][0]:
            return
        item = (-order, digest, _case_line(fields, entry))
        cases.digests.add(digest)
        if len(cases.kept) < self._count:
            heappush(cases.kept, item)
        else:
            cases.digests.discard(heappushpop(cases.kept, item)[1])

    def as_set(self) -> "LabelledLines | None":
        """The set of the routes that were used last; None without texts."""
        known = [cases for cases in self._sets.values() if cases.head is not None and cases.kept]
        if not known:
            return None
        cases = max(known, key=lambda one: one.newest)
        ordered = sorted(cases.kept, key=lambda item: (-item[0], item[1]))
        lines = [json.dumps(cases.head, ensure_ascii=False), *(line for _, _, line in ordered)]
        others = sum(one.decisions for one in self._sets.values()) - cases.decisions
        return LabelledLines("".join(f"{line}\n" for line in lines), len(ordered), others)

    def _cases(self, name: Json) -> _Cases | None:
        """The cases of a set of routes; None for the routes of requests, and for too many sets."""
        if not isinstance(name, str):
            return None
        found = self._sets.get(name)
        if found is None and len(self._sets) < _MAX_SETS:
            found = self._sets[name] = _Cases()
        return found


@dataclass(frozen=True, slots=True)
class LabelledLines:
    """A set to be corrected."""

    text: str
    cases: int
    others: int
    """Decisions that are left out because they are about other routes."""


def _case_line(fields: Mapping[str, Json], entry: DecisionEntry) -> str:
    """A case for ``fingerpost eval``; it has what a person who corrects it wants to know."""
    case = {
        "messages": fields["messages"],
        "expect": fields["expect"],
        "decided": {"route": fields["expect"], "confidence": entry.confidence, "at": entry.at},
    }
    return json.dumps(case, ensure_ascii=False)
