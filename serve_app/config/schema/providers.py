"""The sections of models and of their alternative names."""

from typing import Annotated, Final

from pydantic import Field, field_validator

from serve_app.config.schema.entry_limits import EntryLimits
from serve_app.config.schema.inert import InlinePreference
from serve_app.config.schema.section import Section, Text
from serve_app.config.schema.timeouts import ProviderTimeouts
from serve_app.domain import DataPath, Need
from serve_app.exchange import Operation

NO_PROXY: Final = "off"
"""The value of ``proxy`` for a provider that is reached directly."""


LaxOperation = Annotated[Operation, Field(strict=False)]
"""An operation by its name; strict schemas take enumerations only."""


class ModelProvider(Section):
    """One model, or with ``provider/*`` all models, of one provider."""

    model: Text = Field(
        description="model as `provider/name`, or `provider/*` for every model of a provider"
    )
    name: Text | None = Field(
        default=None, description="name by which the provider hint header can choose this entry"
    )
    access_key: Text | None = Field(
        default=None,
        description="key of the provider; `$NAME` reads it from an environment variable, `file:PATH` from a file",
        repr=False,
    )
    default: bool = Field(
        default=False, description="model of requests that match no route and name no model"
    )
    base_url: Text | None = Field(
        default=None, description="base URL of the provider's API: scheme, host, port and path"
    )
    provider_interface: Text | None = Field(
        default=None,
        description="known provider whose API an unknown provider speaks, such as `openai`",
    )
    passthrough_auth: bool = Field(
        default=False,
        description="whether the key of the client is sent to the provider, instead of `access_key`",
    )
    headers: dict[Text, Text] = Field(
        default={},
        description="additional request headers for the provider; values may be `$NAME`",
        repr=False,
    )
    operations: Annotated[list[LaxOperation], Field(min_length=1)] | None = Field(
        default=None,
        description="operations that the provider's API has: `chat`, `messages`, `count_tokens`, `responses`, "
        "`embeddings`, `completions`, `decisions`; by default those known of the provider, or of its "
        "`provider_interface`. Requests in a dialect that is not listed are translated to the "
        "first of chat, messages and responses that is",
    )
    http_host: Text | None = Field(
        default=None,
        description="value of the Host header, if it differs from the host of `base_url`",
    )
    prompt_cache_key: bool | None = Field(
        default=None,
        description="whether a hash of the session is sent to the provider as `prompt_cache_key`, if the client sends "
        "none; null: where that field is known to be accepted",
    )
    proxy: Text | None = Field(
        default=None,
        description="URL of the HTTP proxy through which the provider is reached, best as `$NAME`, or `off` for none; "
        "null: as the environment's `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say",
        repr=False,
    )
    tls_ca_path: Text | None = Field(
        default=None,
        description="bundle of certificates, PEM, that this provider's server is verified by, besides the system's; "
        "a relative path starts at this file; null: `overrides.upstream_tls_ca_path`",
    )
    timeouts: ProviderTimeouts = ProviderTimeouts()
    weight: float = Field(
        default=1.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="share of the requests for this model that begin at this entry, in proportion to its other "
        "entries; 0: only if all others of the model fail, rest or are full",
    )
    limits: EntryLimits | None = None
    data_path: DataPath | None = Field(
        None,
        description="deployment that calls the provider: `dedicated` to it (the default), `shared` with others "
        "(the default of wildcards), or `inline` in the ingress",
        strict=False,
    )
    display_name: Text | None = Field(
        default=None, description="name of the model for people, in lists of models"
    )
    description: Text | None = Field(
        default=None, description="description of the model in lists of models"
    )
    max_input_tokens: int | None = Field(
        default=None,
        ge=1,
        description="maximum input of the model, tokens, as lists of models show it; routes try it last for "
        "longer requests; by default the known context window",
    )
    max_output_tokens: int | None = Field(
        default=None,
        ge=1,
        description="maximum output of the model, tokens, as lists of models show it",
    )
    lacks: list[Annotated[Need, Field(strict=False)]] = Field(
        default=[],
        description="what the model does not take: `images`, `tools`, `structured_output`; routes try it last for "
        "requests with these",
    )
    routing_preferences: list[InlinePreference] = Field(
        default=[], description="routes to this model in formats before v0.4.0; ignored since"
    )

    @field_validator("proxy", mode="before")
    @classmethod
    def _of_off(cls, value: object) -> object:
        """Reads ``off`` without quotes, which YAML takes for false."""
        return NO_PROXY if value is False else value


class Alias(Section):
    """Alternative name that clients may use for a model, or for routing by content."""

    target: Text = Field(description="model that the alias means, or `auto` for routing by content")
    display_name: Text | None = Field(
        default=None, description="name of the alias for people, in lists of models"
    )
    description: Text | None = Field(
        default=None, description="description of the alias in lists of models"
    )
