"""The board of resting endpoints in the memory of one process."""

from collections.abc import Sequence
from typing import Final

from serve_app.exchange import RestReport
from serve_app.ports import Clock

LONGEST_S: Final = 3600
MAX_RESTS: Final = 4096


class MemoryRests:
    """The rests of all ingress replicas, each until it is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rests: dict[tuple[str, str], tuple[float, str]] = {}
        self._claims: dict[str, float] = {}

    def share(self, own: Sequence[RestReport]) -> list[RestReport]:
        """Puts up rests, and takes down those without time left. Returns all that are not over."""
        now = self._clock()
        for report in own:
            until = now + min(report.left_s, LONGEST_S)
            self._rests[report.endpoint, report.model] = (until, report.why)
        self._rests = {key: rest for key, rest in self._rests.items() if rest[0] > now}
        while len(self._rests) > MAX_RESTS:
            del self._rests[next(iter(self._rests))]
        return [
            RestReport(endpoint, model, until - now, why)
            for (endpoint, model), (until, why) in self._rests.items()
        ]

    def claim(self, endpoint: str, for_s: float) -> bool:
        """True if no replica has claimed the endpoint; then it is the caller's for that long."""
        now = self._clock()
        self._claims = {name: until for name, until in self._claims.items() if until > now}
        if endpoint in self._claims or len(self._claims) >= MAX_RESTS:
            return False
        self._claims[endpoint] = now + for_s
        return True
