"""The sections about prices: overrides, and what routing saves."""

from pydantic import Field

from serve_app.config.schema.section import Section, Text


class PriceOverride(Section):
    """Prices of a model, in US dollars per million tokens."""

    input: float = Field(
        ge=0, allow_inf_nan=False, description="price of input, US dollars per million tokens"
    )
    output: float = Field(
        ge=0, allow_inf_nan=False, description="price of output, US dollars per million tokens"
    )
    cached_input: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="price of input that the provider has cached, US dollars per million tokens; null: unknown",
    )
    cache_write: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="price of input that the provider puts into its cache, US dollars per million tokens; null: as "
        "`input`",
    )


class Savings(Section):
    """What routing saves, compared with one model for all requests."""

    baseline: Text = Field(
        description="model, `provider/name`, whose price for the same tokens is the comparison"
    )
