"""Finds the files that are packaged with the program: in a checkout, or in a wheel."""

from pathlib import Path
from typing import Final


def home_of(package: Path) -> Path:
    """The folder that contains ``configs``: the package in a wheel, its parent in a checkout."""
    return package if (package / "configs").is_dir() else package.parent


PROJECT: Final = home_of(Path(__file__).resolve().parents[0])


def find_packaged(path: Path, home: Path = PROJECT) -> Path:
    """The path itself; if it does not exist, the packaged file of the same relative path, if any."""
    packaged = home / path
    return packaged if packaged.exists() and not path.exists() else path
