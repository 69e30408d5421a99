"""Questions, scores and tasks for tests of engines."""

import asyncio
from typing import Final

from serve_app.domain import Question, Route, Scores, Turn, Unavailable

SCORES: Final = Scores({"code": 0.9}, 0.1, "code")
ROUTES: Final = (Route("code", "writing code", ()),)


def question(text: str = "Hello", key: str = "v1") -> Question:
    """A question with one turn of the user."""
    return Question((Turn("user", text),), ROUTES, key)


async def settle() -> None:
    """Lets other tasks run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def leave(*tasks: asyncio.Task[Scores | Unavailable]) -> None:
    """Cancels requests, as their clients do by leaving."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
