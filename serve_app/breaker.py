"""A breaker: what failed several times in a row is left alone for a while."""

from typing import Final

from serve_app.ports import Clock

FAILURES_TO_OPEN: Final = 5
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


class Breaker:
    """Stops asking after several failures in a row, and lets one probe through after a pause."""

    def __init__(self, clock: Clock, *, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._clock = clock
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._closed_again_at = 0.0
        self._probing = False

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        if self._failures < FAILURES_TO_OPEN:
            return "closed"
        return "open" if self._clock() < self._closed_again_at else "half_open"

    def lets_through(self) -> bool:
        """True when a question may be asked now; in half-open that is one at a time."""
        state = self.state
        if state == "closed":
            return True
        if state == "open" or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """An answer came; all is well again."""
        self._failures, self._pause_s, self._probing = 0, FIRST_PAUSE_S, False

    def failed(self) -> None:
        """No answer came, or none in time."""
        if self._probing:
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
        self._probing = False
        self._failures += 1
        self._closed_again_at = self._clock() + self._pause_s

    def forgotten(self) -> None:
        """Nobody waited for the answer, which says nothing about the engine."""
        self._probing = False
