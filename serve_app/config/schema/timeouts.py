"""The timeouts of exchanges with providers: the general ones, and those of one entry."""

from typing import Annotated, TypeAlias

from pydantic import Field

from serve_app.config.schema.section import Section

Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ProviderTimeouts(Section):
    """Timeouts of one entry, in seconds, in place of the general ones."""

    connect_s: Seconds | None = Field(
        default=None, description="timeout of connecting to the provider, seconds"
    )
    first_byte_s: Seconds | None = Field(
        default=None, description="timeout until the head of a streamed answer, seconds"
    )
    first_token_s: Seconds | None = Field(
        default=None, description="timeout until the first content of a streamed answer, seconds"
    )
    idle_s: Seconds | None = Field(
        default=None, description="timeout between two pieces of content of a stream, seconds"
    )
    attempt_s: Seconds | None = Field(
        default=None, description="timeout of one exchange whose answer is not streamed, seconds"
    )


class Timeouts(Section):
    """Timeouts of requests to providers, in seconds. Keep-alives of a stream are not content."""

    connect_s: Seconds = Field(
        default=5.0, description="timeout of connecting to a provider, seconds"
    )
    first_byte_s: Seconds = Field(
        default=60.0, description="timeout until the head of a streamed answer, seconds"
    )
    first_token_s: Seconds | None = Field(
        default=None,
        description="timeout until the first content of a streamed answer, seconds; "
        "null: twice `first_byte_s`, and at least `idle_s`",
    )
    idle_s: Seconds = Field(
        default=120.0, description="timeout between two pieces of content of a stream, seconds"
    )
    attempt_s: Seconds | None = Field(
        default=None,
        description="timeout of one exchange whose answer is not streamed, seconds; null: half of "
        "the time left while another endpoint can still be asked, else all of it",
    )
    total_s: Seconds = Field(
        default=600.0, description="timeout of a request with all its attempts, seconds"
    )
