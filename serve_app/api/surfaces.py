"""The surfaces: which path is answered in which dialect, and how.

They follow from the registry of dialects: each has ``/v1`` + its path for answers, and those of
conversations ``/routing/v1`` + its path for decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from serve_app.dialects.protocol import ClientDialect
from serve_app.dialects.registry import CLIENT_DIALECTS, QUESTION_DIALECTS, SYSTEM_ONE


class SurfaceAction(Enum):
    """What a surface does with a request."""

    COMPLETE = "complete"
    """A model answers."""
    MATCH = "match"
    """Plano's decision API: the matching route, without an answer."""
    EXPLAIN = "explain"
    """What would be done, and why."""
    ASK = "ask"
    """Typed questions: a model answers, or the gateway's own orchestrator."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A path that takes a request body in a dialect."""

    name: str
    """A label of metrics."""
    dialect: ClientDialect | None
    """None for a surface that takes a body of any dialect."""
    action: SurfaceAction

    @property
    def unique(self) -> frozenset[str]:
        """The keys that a body of this surface may hold only once."""
        return _ALL_READ if self.dialect is None else self.dialect.fields.read


_ALL_READ: Final = frozenset().union(*(dialect.fields.read for dialect in CLIENT_DIALECTS))


def _action(dialect: ClientDialect) -> SurfaceAction:
    asks = dialect.name in QUESTION_DIALECTS
    return SurfaceAction.ASK if asks else SurfaceAction.COMPLETE


SURFACES: Final[Mapping[str, Surface]] = MappingProxyType(
    {
        **{
            f"/v1{dialect.path}": Surface(dialect.name, dialect, _action(dialect))
            for dialect in (*CLIENT_DIALECTS, SYSTEM_ONE)
        },
        **{
            f"/routing/v1{dialect.path}": Surface("routing", dialect, SurfaceAction.MATCH)
            for dialect in CLIENT_DIALECTS
            if dialect.holds_conversations
        },
        "/v1/route": Surface("route", None, SurfaceAction.EXPLAIN),
    }
)


def surface_name(path: str) -> str:
    """The label of a path in metrics; ``other`` for a path that takes no such body."""
    surface = SURFACES.get(path)
    return "other" if surface is None else surface.name
