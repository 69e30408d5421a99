"""What commands write: to a terminal of whatever encoding, and in place of a file."""

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
    """Prints; what the encoding has no sign for, such as half a surrogate pair, is escaped.

    Where nobody reads any more, nothing is printed from then on.
    """
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    shown = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, file=file, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def say_json(value: Json) -> None:
    """Prints JSON, which stays JSON where the encoding lacks a sign."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    say(text)


def replace_file(file: Path, text: str) -> None:
    """Replaces a file at once, and keeps its mode; whoever reads it sees the old or the new one.

    Raises ConfigError where that can't be done, and leaves the file as it was.
    """
    try:
        _replace(file, text)
    except OSError as error:
        problem = Problem(0, "", f"can't be written: {error.strerror}")
        raise ConfigError(str(file), (problem,)) from error


def _replace(file: Path, text: str) -> None:
    before = file.lstat()
    if not stat.S_ISREG(before.st_mode):
        what = f"a link to {file.readlink()}" if file.is_symlink() else "no regular file"
        raise ConfigError(str(file), (Problem(0, "", f"is {what}, and is not replaced"),))
    new = None
    try:
        with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as output:
            new = Path(output.name)
            os.fchmod(output.fileno(), stat.S_IMODE(before.st_mode))
            with suppress(PermissionError):  # only root may give a file away
                os.fchown(output.fileno(), before.st_uid, before.st_gid)
            output.write(text.encode())
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
    except BaseException:
        if new is not None:
            new.unlink(missing_ok=True)
        raise
