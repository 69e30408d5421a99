"""The section ``cors``: web pages of other sites that may call the gateway."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

ANY_ORIGIN: Final = "*"

_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@\s*]+)")
_USUAL_PORTS: Final = {"http": ":80", "https": ":443"}


def _canonical(origin: str) -> str:
    """The origin as browsers send it: in lower case, without a path and the usual port."""
    if origin == ANY_ORIGIN:
        return origin
    found = _ORIGIN.fullmatch(origin.lower().removesuffix("/"))
    if found is None:
        raise PydanticCustomError(
            "origin",
            "must be scheme://host or scheme://host:port of a web page, such as "
            "https://app.example.com, or '*' for every page",
        )
    scheme, host = found.groups()
    return f"{scheme}://{host.removesuffix(_USUAL_PORTS.get(scheme, ''))}"


class Cors(Section):
    """Web pages that may call the gateway, besides those from this machine."""

    allow_origins: list[Annotated[Text, AfterValidator(_canonical)]] = Field(
        default=[],
        description="origins of web pages that may call the gateway, such as `https://app.example.com`, or `*` for "
        "every page; pages from loopback addresses always may",
    )
