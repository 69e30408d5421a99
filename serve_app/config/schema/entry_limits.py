"""How much the gateway asks of a provider at once, and the queue of the requests beyond that."""

from pydantic import Field

from serve_app.config.schema.section import Section


class EntryLimits(Section):
    """Requests that an entry gets; each replica of the ingress counts its own.

    All models of a wildcard share its limits.
    """

    concurrent: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of requests under way at once, counted by each ingress replica; "
        "a wildcard's models share it; null: any number",
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of requests within 60 s, counted by each ingress replica; "
        "a wildcard's models share it; null: any number",
    )


class Queue(Section):
    """Requests that wait until the `limits` of their models' entries allow one of these to be asked."""

    max_waiting: int = Field(
        default=100,
        ge=0,
        description="maximum number of requests that wait in an ingress replica; further ones get "
        "status 429",
    )
    wait_s: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="maximum wait, seconds; then a request gets status 429",
    )
