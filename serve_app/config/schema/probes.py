"""The section ``probes``."""

from pydantic import Field

from serve_app.config.schema.section import Section


class ProbesSection(Section):
    """Background probes of endpoints that rest because they were unreachable or refused their key.

    A probe asks for the provider's list of models; it never sends a prompt.
    """

    every_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="pause between two probes of a resting endpoint, seconds; null: endpoints are not probed",
    )
    timeout_s: float = Field(
        default=5.0,
        gt=0,
        allow_inf_nan=False,
        description="maximum duration of a probe, seconds",
    )
