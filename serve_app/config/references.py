"""References in a configuration's texts: to the environment, and to files that hold a key.

They stay as they are written until a replica needs the value, so that no key is ever in what
Serve, a log or an error keeps.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE: Final = "file:"
"""What a whole text begins with that stands for the content of a file."""

REFRESH_S: Final = 2.0
"""For so long a file's content is believed, so that a key can be changed while we run."""

CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
"""What no value may hold that goes into a header."""

_MAX_FILE_BYTES: Final = 64 << 10
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class MissingEnvironmentError(Exception):
    """A reference to what is not there; ``names`` says which variables, or which file."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        if is_file(self.names[0]):
            return f"the file {self.names[0].removeprefix(FILE)} is missing, unreadable or empty"
        return f"the environment variable {' and '.join(self.names)} is not set"


def expand(text: str, environ: Mapping[str, str]) -> str:
    """``$NAME`` and ``${NAME}`` replaced by their values, or the content of ``file:PATH``.

    White space around a file's content does not count. Raises MissingEnvironmentError that names
    all variables that are unset or empty, or the file.
    """
    if is_file(text):
        return _content(text)
    unset = _unset(text, environ)
    if unset:
        raise MissingEnvironmentError(unset)
    return _REFERENCE.sub(lambda match: environ[match[1] or match[2]], text)


def references(text: str) -> tuple[str, ...]:
    """The names of the environment variables that a text refers to."""
    if is_file(text):
        return ()
    return tuple(match[1] or match[2] for match in _REFERENCE.finditer(text))


def missing(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What a text refers to and is not there: variables, or the file, written as it is there."""
    try:
        expand(text, environ)
    except MissingEnvironmentError as error:
        return error.names
    return ()


def secrets(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values that a text refers to, as ``expand`` would put them in; none where it is plain."""
    if is_file(text):
        return (_content(text),)
    return tuple(environ.get(name, "") for name in references(text))


def is_file(text: str) -> bool:
    """True for a text that stands for the content of a file."""
    return text.startswith(FILE)


def absolute(text: str, folder: Path) -> str:
    """A text whose file does not depend on where a process runs; others as they are."""
    if not is_file(text):
        return text
    file = Path(text.removeprefix(FILE))
    with suppress(RuntimeError):  # ~somebody, whom this machine does not know
        file = file.expanduser()
    return f"{FILE}{folder / file}"


def _unset(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in references(text) if not environ.get(name)))


def _content(text: str) -> str:
    """What a file holds. Raises MissingEnvironmentError that names it and nothing of it."""
    file = Path(text.removeprefix(FILE))
    key = ""
    with suppress(OSError, ValueError):  # also a name with a null byte, and what is no UTF-8
        if file.is_file():  # a pipe or a device might never end
            with file.open("rb") as opened:
                content = opened.read(_MAX_FILE_BYTES + 1)
            key = content.decode().strip() if len(content) <= _MAX_FILE_BYTES else ""
    if not key:
        raise MissingEnvironmentError((text,))
    return key
