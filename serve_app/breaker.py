"""Protection from a dependency that fails: a circuit breaker, and a log of its outages."""

import logging
from typing import Final

from serve_app.ports import Clock

FAILURES_TO_OPEN: Final = 5
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0

_log = logging.getLogger("fingerpost")


class Breaker:
    """Opens after several failures in a row, and lets one probe through after a pause."""

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
        """True if a request may be made now; in half-open, that is one at a time."""
        state = self.state
        if state == "closed":
            return True
        if state == "open" or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Records an answer, and closes the breaker."""
        self._failures, self._pause_s, self._probing = 0, FIRST_PAUSE_S, False

    def failed(self) -> None:
        """Records a request without an answer in time."""
        if self._probing:
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
        self._probing = False
        self._failures += 1
        self._closed_again_at = self._clock() + self._pause_s

    def forgotten(self) -> None:
        """Records a request that was cancelled, which is neither a success nor a failure."""
        self._probing = False


class OutageLog:
    """Logs when a dependency becomes unavailable, and when it is available again.

    At most one outage is logged per ``interval_s``; one that lasts longer is logged afterwards.
    """

    def __init__(
        self, subject: str, clock: Clock, *, effect: str = "", interval_s: float = 0.0
    ) -> None:
        """``effect`` is what an outage means for requests, to be logged with it."""
        self.subject = subject
        self._clock = clock
        self._effect = f", {effect}" if effect else ""
        self._interval_s = interval_s
        self._logged = False
        self._logged_at = -interval_s

    def failed(self, fault: str) -> None:
        """Records a failure; logs it if it begins an outage."""
        now = self._clock()
        if not self._logged and now - self._logged_at >= self._interval_s:
            self._logged, self._logged_at = True, now
            _log.warning("%s unavailable%s: %s", self.subject, self._effect, fault)

    def succeeded(self) -> None:
        """Records a success; logs it if it ends an outage that was logged."""
        if self._logged:
            self._logged = False
            _log.warning("%s available again", self.subject)
