"""Output of the commands: to a terminal of any encoding, and to files."""

import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO

from serve_app.config.locations import ConfigError, Problem
from serve_app.domain import Json


def say(text: str, file: TextIO | None = None, *, end: str = "\n") -> None:
    """Prints a text; characters that the encoding lacks are escaped.

    When the reader has closed the pipe, the rest of the output is dropped.
    """
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    shown = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, file=file, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def say_json(value: Json) -> None:
    """Prints JSON; it stays valid if the encoding lacks a character."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    say(text)


def replace_file(file: Path, text: str) -> None:
    """Replaces a file atomically, and keeps its mode.

    Raises ConfigError if that fails; the file is then unchanged.
    """
    try:
        _replace(file, text)
    except OSError as error:
        problem = Problem(0, "", f"cannot write the file: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error


def _replace(file: Path, text: str) -> None:
    before = file.lstat()
    if not stat.S_ISREG(before.st_mode):
        message = "not a regular file; name one"
        if file.is_symlink():
            message = f"a link to {file.readlink()}; name that file"
        raise ConfigError(str(file), (Problem(0, "", message),))
    new = None
    try:
        with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as output:
            new = Path(output.name)
            os.fchmod(output.fileno(), stat.S_IMODE(before.st_mode))
            with suppress(PermissionError):  # only root may change the owner
                os.fchown(output.fileno(), before.st_uid, before.st_gid)
            output.write(text.encode())
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
    except BaseException:
        if new is not None:
            new.unlink(missing_ok=True)
        raise
