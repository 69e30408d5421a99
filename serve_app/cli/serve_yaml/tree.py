"""The parts of a serve.yaml, each with its location."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from serve_app.config.locations import Location
from serve_app.domain import Json

Finding: TypeAlias = tuple[Location, str]
"""A location of the file, and a message about it."""

Findings: TypeAlias = Iterator[Finding]


def applications(content: Mapping[str, Json]) -> Iterator[tuple[Location, Json]]:
    """The applications of a file, each with its location."""
    yield from entries(content, "applications", ())


def entries(
    mapping: Mapping[str, Json], key: str, location: Location
) -> Iterator[tuple[Location, Json]]:
    """The mappings in the list under ``key``, each with its location; empty without a list.

    ``location`` is that of ``mapping``.
    """
    value = mapping.get(key)
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict):
            yield (*location, key, index), entry


def enclosing(lines: Mapping[Location, int], location: Location) -> Location:
    """The innermost location of the file that contains ``location``."""
    while location not in lines:
        location = location[:-1]
    return location
