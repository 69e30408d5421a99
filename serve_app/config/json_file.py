"""Reads files in JSON that a command of ours has written, and validates them."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from serve_app.config.locations import ConfigError, Problem, path_text, unreadable
from serve_app.config.pydantic_errors import describe_error

_Content = TypeVar("_Content", bound=BaseModel)


def read_json_file(file: Path, kind: type[_Content], *, max_bytes: int, fix: str) -> _Content:
    """The validated content of a file. Raises ConfigError with all problems of the file.

    ``fix`` says how such a file is made; it ends the messages about a file that cannot be read, is
    larger than ``max_bytes``, or is not JSON.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise unreadable(file, error, fix) from error
    if len(content) > max_bytes:
        raise _error(file, Problem(0, "", f"file is larger than {max_bytes} bytes; {fix}"))
    try:
        return kind.model_validate(json.loads(content))
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = (describe_error(detail, kind) for detail in details)
        problems = [Problem(0, path_text(location), message) for location, message in found]
        raise _error(file, *problems) from error
    except (ValueError, RecursionError) as error:
        raise _error(file, Problem(0, "", f"file is not JSON; {fix}")) from error


def _error(file: Path, *problems: Problem) -> ConfigError:
    return ConfigError(str(file), problems)
