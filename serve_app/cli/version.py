"""The version of the program."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from serve_app.packaged_files import PROJECT

DISTRIBUTION: Final = "fingerpost"


def installed_version(distribution: str = DISTRIBUTION, project: Path = PROJECT) -> str:
    """The version of the installed package.

    Of a checkout that is not installed it is that of pyproject.toml; "unknown" without either.
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        pass
    try:
        content = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
        return str(content["project"]["version"])
    except (OSError, ValueError, KeyError):
        return "unknown"
