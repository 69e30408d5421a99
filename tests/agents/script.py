"""What the scripted model does, whatever the dialect: call tools of the agent, then answer.

The first answer calls one tool that reads the note; the second calls two at once, of which the
second is the search for other tools, if there is one; the third quotes what came back. A request
without tools gets a short text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

WORD: Final = "fingerpost-says-hello"
"""In every answer to a request without tools."""

SIGNATURE: Final = "c2lnbmVkIGJ5IHRoZSBzY3JpcHRlZCBtb2RlbA=="
"""Of all that the scripted model thinks; it has to come back as it is."""

THOUGHT: Final = "The note has to be read first."

_READERS: Final = (
    r"^read(_?files?)?$",
    r"^(exec_command|shell_command|shell|local_shell|bash)$",
    r"read|view|cat",
    r"command|shell|exec",
)
"""Patterns of tools that read a file, best first; matched without regard to case."""

_SEARCH: Final = "ToolSearch"
"""Claude Code's tool that finds tools whose schemas it has left out."""

_SOUGHT: Final = "NotebookEdit"

_NOTE: Final = re.compile(r"(/[\w./-]*note\.txt)")


@dataclass(frozen=True)
class Offered:
    """A tool that the agent offers."""

    name: str
    schema: Mapping[str, Any]
    namespace: str = ""
    """What OpenAI's responses group it under; empty for a tool of its own."""


@dataclass
class Asked:
    """A request, as far as the script is concerned."""

    model: str
    is_stream: bool
    tools: list[Offered] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    """Names of tools that the provider shows to the model only when it searches for them."""
    texts: list[str] = field(default_factory=list)
    """What the user said."""
    results: list[str] = field(default_factory=list)
    """What tools returned."""
    may_be_parallel: bool = True
    has_thinking: bool = False
    violations: list[str] = field(default_factory=list)
    """What the provider of this dialect would refuse, or what got lost."""

    def expect(self, is_so: bool, violation: str) -> None:
        """Records a violation unless something holds."""
        if not is_so and violation not in self.violations:
            self.violations.append(violation)


@dataclass(frozen=True)
class Call:
    """A tool that the scripted model calls."""

    id: str
    name: str
    arguments: str
    namespace: str = ""


@dataclass(frozen=True)
class Said:
    """What the scripted model answers."""

    number: int
    """Counts the answers of one run; part of all ids."""
    text: str
    calls: tuple[Call, ...] = ()
    thought: str = ""
    tokens: int = 100
    """How much of the prompt was not cached, as the usage says."""


def decide(asked: Asked, number: int) -> Said:
    """The next answer, by what tools have returned so far."""
    thought = THOUGHT if asked.has_thinking else ""
    if not asked.tools:
        return Said(number, f"Short answer: {WORD}.")
    count = len(asked.results)
    parallel = 2 if asked.may_be_parallel else 0
    wanted = {0: 1, 1: parallel}.get(count, 0)
    if not wanted:
        names = [other.name for other in asked.tools]
        found = _SOUGHT in [*names, *asked.deferred] or _SEARCH not in names
        asked.expect(found, f"{_SOUGHT} was sought, but is not offered")
        asked.expect(all(asked.results), "an empty result of a tool")
        return Said(number, f"The note says: {quoted(asked.results)}", thought=thought)
    tool = reader_of(asked.tools)
    note = _NOTE.search("\n".join(asked.texts))
    if tool is None or note is None:
        asked.expect(tool is not None, f"no tool reads files: {[t.name for t in asked.tools]}")
        asked.expect(note is not None, "the task is not in the request")
        return Said(number, f"Short answer: {WORD}.")
    arguments = json.dumps(arguments_of(tool.schema, note[1]))
    calls = [Call(f"call_{number}_{position}", tool.name, arguments) for position in range(wanted)]
    if wanted > 1 and any(other.name == _SEARCH for other in asked.tools):
        calls[1] = Call(calls[1].id, _SEARCH, json.dumps({"query": f"select:{_SOUGHT}"}))
    return Said(number, "I read the note.", tuple(calls), thought)


def pieces(text: str, size: int = 9) -> Iterator[str]:
    """A text as a model streams it."""
    return (text[at : at + size] for at in range(0, len(text), size))


def quoted(results: list[str]) -> str:
    """The secret that tools returned, or what they returned in its place."""
    found = re.search(r"secret-\w+", "\n".join(results))
    return found[0] if found else f"nothing that I know: {results[-1][:200]!r}"


def reader_of(tools: list[Offered]) -> Offered | None:
    """The tool that reads files best. Returns None if none does."""
    return next(
        (
            tool
            for pattern in _READERS
            for tool in tools
            if re.search(pattern, tool.name, re.IGNORECASE)
        ),
        None,
    )


def arguments_of(schema: Mapping[str, Any], note: str) -> dict[str, Any]:
    """Values for the properties that the schema requires, by their names and types."""
    properties = schema.get("properties") or {}
    names = [name for name in properties if name in (schema.get("required") or [])]
    return {name: _value(name, properties[name], note) for name in names or list(properties)[:1]}


def _value(name: str, schema: Mapping[str, Any], note: str) -> Any:
    is_command = re.search(r"cmd|command", name, re.IGNORECASE)
    kind = schema.get("type")
    options = schema.get("anyOf") or schema.get("oneOf") or []
    if kind is None and options:
        return _value(name, options[0], note)
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "array":
        items = schema.get("items") or {}
        return ["cat", note] if is_command else [_value(name, items, note)]
    if kind == "object":
        return arguments_of(schema, note)
    if kind in {"integer", "number", "boolean"}:
        return {"boolean": False}.get(kind, 1)
    if schema.get("enum"):
        return schema["enum"][0]
    if is_command:
        return f"cat {note}"
    return note if re.search(r"path|file", name, re.IGNORECASE) else "read the note"
