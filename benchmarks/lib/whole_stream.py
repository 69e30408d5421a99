"""Checks that a stream of the scripted provider is complete."""

import json
from typing import Any

from tests.scripts import CHUNKS


class StreamCheck:
    """Compares the lines of a stream with the expected events."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self.status = 0
        self.events = 0
        """Number of events with text."""
        self.connection_error = ""
        self._problem = ""
        self._has_finish_reason = False
        self._has_done = False

    def add(self, line: bytes) -> None:
        """Checks one line of the stream."""
        text = line.strip()
        if not text:
            return
        if text == b"data: [DONE]":
            self._has_done = True
            return
        try:
            self._event(json.loads(text.removeprefix(b"data: ")))
        except (ValueError, LookupError, TypeError):
            self._problem = self._problem or f"after {self.events} events: {text[:150]!r}"

    def _event(self, event: dict[str, Any]) -> None:
        choice = event["choices"][0]
        content = choice["delta"].get("content")
        self._has_finish_reason = self._has_finish_reason or choice["finish_reason"] == "stop"
        if content:
            if content != CHUNKS[self.events % len(CHUNKS)]:
                self._problem = self._problem or f"event {self.events} is out of place"
            self.events += 1

    def fault(self) -> str:
        """Returns what is wrong with the stream; empty if it is complete."""
        short = f"{self.events} of {self._expected} events" if self.events != self._expected else ""
        missing = "" if self._has_finish_reason and self._has_done else "no end"
        status = "" if self.status == 200 else f"status {self.status}"
        return "; ".join(
            one for one in (status, self._problem, self.connection_error, short, missing) if one
        )
