"""The orchestrator's deployment."""

from collections.abc import Sequence

from serve_app.domain import Reason, Route, Scores, Turn, Unavailable


class Orchestrator:
    """Scores routes for conversations. It has no engine yet and says so to everyone who asks."""

    def __init__(self, config: str) -> None:
        self._config = config

    async def score(self, turns: Sequence[Turn], routes: Sequence[Route]) -> Scores | Unavailable:
        """Unavailable, until there is an engine."""
        del turns, routes
        return Unavailable(Reason.ORCHESTRATOR_ERROR, "no engine is configured")
