"""Which web pages may call the gateway and read its answers (the Fetch standard, "CORS")."""

from serve_app.access.exposure import is_own_page
from serve_app.config.locations import Location
from serve_app.config.schema.cors import ANY_ORIGIN
from serve_app.config.schema.gateway import GatewayConfig


class AllowedOrigins:
    """Pages from this machine, and those of ``cors.allow_origins``."""

    def __init__(self, config: GatewayConfig) -> None:
        self._listed = frozenset(config.cors.allow_origins)
        self._any = ANY_ORIGIN in self._listed

    def allow(self, origin: str) -> bool:
        """True for a page that may call the gateway.

        ``null`` is never one: every file and every sandboxed frame has this origin.
        """
        return self._any or origin in self._listed or is_own_page(origin)


def origin_problem(config: GatewayConfig) -> tuple[Location, str] | None:
    """The problem of ``*`` where a page needs no key: every page could spend the user's money."""
    is_guarded = config.client_keys is not None or config.allow_anonymous
    if is_guarded or ANY_ORIGIN not in config.cors.allow_origins:
        return None
    return (
        ("cors", "allow_origins"),
        "'*' lets every web page use this gateway without a key; list the pages, or add client_keys",
    )
