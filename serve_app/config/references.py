"""References in the strings of a configuration: to the environment, and to files that hold a key.

They are expanded only in the replica that needs the value, so that Serve, logs and errors never
contain a key.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE: Final = "file:"
"""The beginning of a string that refers to the content of a file."""

REFRESH_S: Final = 2.0
"""Seconds after which the content of a key file is read again, so that keys can be changed."""

CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")
"""Characters that a header value must not contain."""

_MAX_FILE_BYTES: Final = 64 << 10
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_OTHER_FORM: Final = re.compile(r"\$\{(?!\w+\})(\w*)")
"""A beginning of a reference that is not ``${NAME}``, with the name in it, if any."""
_LITELLM: Final = re.compile(r"(?:^|\s)os\.environ/(\w*)")
"""How LiteLLM refers to a variable."""


class MissingEnvironmentError(Exception):
    """A reference to missing variables or a missing file; ``names`` lists them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        if is_file(self.names[0]):
            return f"the file {self.names[0].removeprefix(FILE)} is missing, unreadable or empty"
        plural, verb = ("", "is") if len(self.names) == 1 else ("s", "are")
        return f"the environment variable{plural} {' and '.join(self.names)} {verb} not set"


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replaces ``$NAME`` and ``${NAME}`` by their values, and ``file:PATH`` by the file's content.

    White space around each value, around the content of a file and around the result is removed:
    a line break at the end of a key is never part of it, and many tools add one. Raises
    MissingEnvironmentError with all variables that are unset or empty, or the file.
    """
    if is_file(text):
        return _content(text)
    unset = _unset(text, environ)
    if unset:
        raise MissingEnvironmentError(unset)
    return _REFERENCE.sub(lambda match: environ[match[1] or match[2]].strip(), text).strip()


def references(text: str) -> tuple[str, ...]:
    """The names of the environment variables in a string."""
    if is_file(text):
        return ()
    return tuple(match[1] or match[2] for match in _REFERENCE.finditer(text))


def reference_fault(text: str) -> str | None:
    """What is wrong with the references of a string. Returns None if nothing is.

    Without the string itself: the default of ``${NAME:-default}`` may be a key.
    """
    if is_file(text):
        return None
    litellm = _LITELLM.search(text)
    if litellm is not None:
        return f"refers to a variable in the form of LiteLLM; write ${litellm[1] or 'NAME'}"
    other = _OTHER_FORM.search(text)
    if other is None:
        return None
    name = other[1] or "NAME"
    return (
        f"contains a reference that is not ${{NAME}}; write ${{{name}}}, and set {name} where the "
        "gateway runs (defaults and other forms of the shell are not supported)"
    )


def missing(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of a string that are unset, or its ``file:PATH`` if that is missing."""
    try:
        expand(text, environ)
    except MissingEnvironmentError as error:
        return error.names
    return ()


def secrets(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values that ``expand`` would insert into a string; empty without references."""
    if is_file(text):
        return (_content(text),)
    return tuple(environ.get(name, "").strip() for name in references(text))


def is_file(text: str) -> bool:
    """True for a string that refers to the content of a file."""
    return text.startswith(FILE)


def absolute(text: str, folder: Path) -> str:
    """The string with an absolute path of its file; a string without a file stays as it is."""
    if not is_file(text):
        return text
    file = Path(text.removeprefix(FILE))
    with suppress(RuntimeError):  # ~user, and this machine has no such user
        file = file.expanduser()
    return f"{FILE}{folder / file}"


def _unset(text: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    names = dict.fromkeys(references(text))
    return tuple(name for name in names if not environ.get(name, "").strip())


def _content(text: str) -> str:
    """The content of a file. Raises MissingEnvironmentError with its name and no content."""
    file = Path(text.removeprefix(FILE))
    key = ""
    with suppress(
        OSError, ValueError
    ):  # also a name with a null byte, or content that is not UTF-8
        if file.is_file():  # a pipe or a device might never end
            with file.open("rb") as opened:
                content = opened.read(_MAX_FILE_BYTES + 1)
            key = content.decode().strip() if len(content) <= _MAX_FILE_BYTES else ""
    if not key:
        raise MissingEnvironmentError((text,))
    return key
