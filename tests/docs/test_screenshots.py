"""The pictures of the pages are small, and each is shown."""

from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = sorted((ROOT / "docs").rglob("*.png"))
LARGEST: Final = 150_000


@pytest.mark.parametrize("file", PICTURES, ids=lambda file: str(file.name))
def test_picture_is_small_and_shown(file: Path) -> None:
    """A page beside it shows it, and it does not weigh more than the page."""
    assert file.stat().st_size < LARGEST
    assert any(f"]({file.name})" in page.read_text("utf-8") for page in file.parent.glob("*.md"))
