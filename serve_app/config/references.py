"""References to the environment in a configuration's texts.

They stay as they are written until a replica needs the value, so that no key is ever in what
Serve, a log or an error keeps.
"""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class MissingEnvironmentError(Exception):
    """A reference to variables that are not set; ``names`` says which."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        return f"the environment variable {' and '.join(self.names)} is not set"


def expand(text: str, environ: Mapping[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` replaced by their values.

    Raises MissingEnvironmentError that names all that are unset or empty.
    """
    missing = tuple(dict.fromkeys(name for name in references(text) if not environ.get(name)))
    if missing:
        raise MissingEnvironmentError(missing)
    return _REFERENCE.sub(lambda match: environ[match[1] or match[2]], text)


def references(text: str) -> tuple[str, ...]:
    """The names of the environment variables that a text refers to."""
    return tuple(match[1] or match[2] for match in _REFERENCE.finditer(text))
