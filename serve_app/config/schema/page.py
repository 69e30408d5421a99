"""The section ``ui``: the page for people."""

from typing import Final

from pydantic import Field

from serve_app.config.schema.section import Section

MAX_DECISIONS: Final = 5000


class PageSection(Section):
    """Page at `/ui`: a playground, a live view, and the configuration as a picture."""

    enabled: bool = Field(
        default=True,
        description="whether the page is served: to this machine, or, with `client_keys`, to clients with a key",
    )
    keep_texts: bool | None = Field(
        default=None,
        description="whether the page keeps what users wrote in the last decisions, in memory, so that edited "
        "routes can decide them again; null: only without `client_keys` and without `allow_anonymous`, where "
        "only users of this machine can read them",
    )
    decisions: int = Field(
        default=500,
        ge=1,
        le=MAX_DECISIONS,
        description="number of the last decisions that each ingress replica keeps for the page, in memory",
    )
    show_all_clients: bool = Field(
        default=False,
        description="whether the page shows the holder of one client key the decisions of all clients; without "
        "`client_keys` it always shows all",
    )
