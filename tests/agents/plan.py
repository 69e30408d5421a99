"""What the scripted model does in several conversations of one run: each has its own steps.

A conversation is known by the note that its prompt names, ``.../NAME/0.txt``. Steps are counted
rather than read from the conversation, because an agent that compacts it forgets them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.agents.script import (
    THOUGHT,
    WORD,
    Asked,
    Call,
    Offered,
    Said,
    arguments_of,
    quoted,
    reader_of,
)

READ, FULL, DELEGATE, WAIT = "read", "full", "delegate", "wait"
"""Steps: read the note; the same, with a usage that fills any window; give each other conversation
to a subagent; wait for subagents that the agent runs in the background."""

MAIN: Final = "main"
"""The conversation of the agent's own prompt."""

_FULL_TOKENS: Final = 990_000
_NOTE: Final = re.compile(r"(/[\w./-]*/(\w+))/0\.txt")
_COMPACTION: Final = re.compile(
    r"summary of (the|our|this) conversation|CONTEXT CHECKPOINT|anchored summary|detailed summary",
    re.IGNORECASE,
)
_DELEGATING: Final = re.compile(r"^(agent|task|(\w+__)?spawn_agent)$", re.IGNORECASE)
_WAITING: Final = re.compile(r"^(\w+__)?wait_agent$", re.IGNORECASE)
_STARTED: Final = re.compile(r'"agent_id": ?"([\w-]+)"')
_VERDICT: Final = json.dumps({"ok": True, "title": WORD})
"""The answer to requests beside the conversations, as prompts of hooks and titles want it."""


@dataclass(frozen=True)
class Told:
    """What a conversation is about, and what the model does in it."""

    topic: str
    """The words that decide its route."""
    steps: Sequence[str]
    kind: str = ""
    """The type of its subagent."""


@dataclass
class Plan:
    """The conversations of a run, by their names, and how far each of them is."""

    folder: Path
    told: Mapping[str, Told]
    compactions: int = 0
    """Number of summaries that the agent has asked for."""
    _done: dict[str, int] = field(default_factory=dict)
    _compacted: re.Match[str] | None = None

    def prompt(self, name: str) -> str:
        """The prompt of a conversation; it names the note, which this writes.

        Each step reads a note of its own, because agents end a model that repeats itself.
        """
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for step in range(len(self.told[name].steps)):
            (folder / f"{step}.txt").write_text(f"The word of today is secret-{name}.\n")
        return f"{self.told[name].topic}. My notes about it begin with {folder}/0.txt."

    def decide(self, asked: Asked, number: int) -> Said:
        """The next answer of the conversation that a request belongs to."""
        found = _NOTE.search("\n".join(asked.texts))
        if found is not None and _COMPACTION.search(asked.texts[-1]):
            self.compactions += 1
            self._compacted = found
            return Said(number, f"<summary>The notes begin with {found[0]}.</summary>")
        found = found or self._compacted  # opencode keeps a summary as the model's own words
        if found is None or not asked.tools:
            return Said(number, _VERDICT)
        folder, name = found.groups()
        position = self._done.get(name, 0)
        self._done[name] = position + 1
        steps = self.told[name].steps
        thought = THOUGHT if asked.has_thinking else ""
        if position >= len(steps):
            text = f"The note of {name} says: {quoted(asked.results or [''])}"
            return Said(number, text, thought=thought)
        calls = tuple(self._calls(asked, steps[position], f"{folder}/{position}.txt", number))
        tokens = _FULL_TOKENS if steps[position] == FULL else 100
        return Said(number, "I go on.", calls, thought, tokens)

    def _calls(self, asked: Asked, step: str, note: str, number: int) -> list[Call]:
        if step in {READ, FULL}:
            tool = reader_of(asked.tools)
        else:
            pattern = _DELEGATING if step == DELEGATE else _WAITING
            tool = next((one for one in asked.tools if pattern.search(one.name)), None)
        asked.expect(tool is not None, f"no tool for {step}: {[one.name for one in asked.tools]}")
        if tool is None:
            return []
        if step == WAIT:
            return [_call(tool, {"targets": _STARTED.findall("\n".join(asked.results))}, number)]
        if step != DELEGATE:
            return [_call(tool, arguments_of(tool.schema, note), number)]
        others = [name for name in self.told if name != MAIN]
        return [
            _call(tool, self._given(tool, name), number, position)
            for position, name in enumerate(others)
        ]

    def _given(self, tool: Offered, name: str) -> dict[str, Any]:
        """Arguments that give a conversation to a subagent."""
        prompt = self.prompt(name)
        values = {
            "prompt": prompt,
            "message": prompt,
            "description": f"work on {name}",
            "task_name": name,
            "subagent_type": self.told[name].kind,
            "run_in_background": False,
            "fork_turns": "none",
        }
        known = tool.schema.get("properties") or {}
        return {key: value for key, value in values.items() if key in known}


def _call(tool: Offered, arguments: dict[str, Any], number: int, position: int = 0) -> Call:
    return Call(f"call_{number}_{position}", tool.name, json.dumps(arguments), tool.namespace)
