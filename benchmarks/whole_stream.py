"""Whether a stream of the scripted provider is whole."""

import json
from typing import Any

from tests.scripts import CHUNKS


class Said:
    """What a stream has said, against what it should."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.status = 0
        self.events = 0
        """Those with text."""
        self.broke = ""
        self._wrong = ""
        self._finished = False
        self._done = False

    def hear(self, line: bytes) -> None:
        """One line of it."""
        text = line.strip()
        if not text:
            return
        if text == b"data: [DONE]":
            self._done = True
            return
        try:
            self._event(json.loads(text.removeprefix(b"data: ")))
        except (ValueError, LookupError, TypeError):
            self._wrong = self._wrong or f"after {self.events} events: {text[:150]!r}"

    def _event(self, event: dict[str, Any]) -> None:
        choice = event["choices"][0]
        content = choice["delta"].get("content")
        self._finished = self._finished or choice["finish_reason"] == "stop"
        if content:
            if content != CHUNKS[self.events % len(CHUNKS)]:
                self._wrong = self._wrong or f"event {self.events} is out of place"
            self.events += 1

    def fault(self) -> str:
        """The first thing that is wrong; empty if nothing is."""
        short = f"{self.events} of {self._wanted} events" if self.events != self._wanted else ""
        missing = "" if self._finished and self._done else "no end"
        status = "" if self.status == 200 else f"status {self.status}"
        return "; ".join(one for one in (status, self._wrong, self.broke, short, missing) if one)
