"""How long each part of an exchange may take: as its entry says, else as the general section does."""

from typing import NamedTuple

from serve_app.config.schema.timeouts import ProviderTimeouts, Timeouts


class ExchangeLimits(NamedTuple):
    """The limits of one exchange, seconds."""

    connect_s: float
    first_byte_s: float
    """Until the head of a streamed answer."""
    first_token_s: float
    """Until the first content of a streamed answer, from the same moment."""
    idle_s: float
    """Between two pieces of content."""


def limits_of(own: ProviderTimeouts, general: Timeouts) -> ExchangeLimits:
    """The limits of an exchange with an endpoint.

    Without ``first_token_s`` it is twice ``first_byte_s``: as long again for the model to begin.
    A longer ``idle_s`` holds there, too, because it allows for models that think in silence.
    """
    first_byte_s = own.first_byte_s or general.first_byte_s
    idle_s = own.idle_s or general.idle_s
    return ExchangeLimits(
        connect_s=own.connect_s or general.connect_s,
        first_byte_s=first_byte_s,
        first_token_s=own.first_token_s or general.first_token_s or max(2 * first_byte_s, idle_s),
        idle_s=idle_s,
    )
