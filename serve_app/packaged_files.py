"""Where the files are that the program comes with: in the checkout, or in the wheel."""

from pathlib import Path
from typing import Final


def home_of(package: Path) -> Path:
    """The folder that ``configs`` is in: a wheel has it inside the package, a checkout beside it."""
    return package if (package / "configs").is_dir() else package.parent


PROJECT: Final = home_of(Path(__file__).resolve().parents[0])


def find_packaged(path: Path, home: Path = PROJECT) -> Path:
    """The path as it is; where it is relative and leads nowhere, to a file of the program's own."""
    own = home / path
    return own if own.exists() and not path.exists() else path
