"""The files of the page: plain modules and one style sheet, as they are in the package."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "static"
INDEX: Final = "index.html"

_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)


class StaticFile(NamedTuple):
    """One file, ready to be sent."""

    content: bytes
    media_type: str
    etag: str


@lru_cache(maxsize=1)
def static_files() -> Mapping[str, StaticFile]:
    """Every file by its name; read once, when the page is first opened."""
    files = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            etag = f'"{sha256(content).hexdigest()[:16]}"'
            files[path.name] = StaticFile(content, _TYPES[path.suffix], etag)
    return MappingProxyType(files)
