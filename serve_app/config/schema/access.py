"""The sections about who may ask, and how much: client keys, teams, limits, budgets."""

import datetime as dt
import re
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text

HASHED: Final = "sha256:"
"""The beginning of a client key that is stored as a keyed hash."""

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class RequestLimits(Section):
    """Limits of requests and tokens, counted by all replicas of the ingress together."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, description="maximum number of requests within 60 s; null: any number"
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of tokens within 60 s, input and output together; null: any number",
    )
    concurrent: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of requests under way at once; null: any number",
    )


class SpendingBudget(Section):
    """Money that may be spent in a calendar window, UTC."""

    usd: float = Field(
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="maximum cost of a window, US dollars; requests in flight may exceed it by their own cost",
    )
    window: Literal["day", "week", "month"] = Field(
        default="month",
        description="length of the window, in UTC: a `day`, a `week` from Monday on, or a calendar `month`",
    )


def _checked_key(key: str) -> str:
    if key.startswith(HASHED) and not _HASH.fullmatch(key):
        raise PydanticCustomError(
            "hashed_key",
            "must have 64 lower-case hex digits after sha256:; make one with `fingerpost keys new`",
        )
    return key


class PreviousKey(Section):
    """Key that `fingerpost keys rotate` has replaced, and that is still valid for a while."""

    key: Text = Field(description="the old key, as in `key`", repr=False)
    until: Text = Field(description="time at which the key expires, such as 2026-12-01T00:00:00Z")

    _check_key = field_validator("key")(_checked_key)

    @field_validator("until", mode="before")
    @classmethod
    def _of_time(cls, value: object) -> object:
        """Reads a time without quotes, which YAML takes for a date."""
        return value.isoformat() if isinstance(value, dt.date) else value

    @field_validator("until")
    @classmethod
    def _is_time(cls, until: str) -> str:
        try:
            dt.datetime.fromisoformat(until)
        except ValueError:
            raise PydanticCustomError(
                "time", "must be a time such as 2026-12-01T00:00:00Z"
            ) from None
        return until

    @property
    def expires_at(self) -> float:
        """When the key expires, in seconds since the epoch; a time without a zone is UTC."""
        until = dt.datetime.fromisoformat(self.until)
        return (until if until.tzinfo else until.replace(tzinfo=dt.UTC)).timestamp()


class ClientKey(Section):
    """Client key with a name, and what its holder may use."""

    key: Text = Field(
        description="the key: `$NAME`, `file:PATH`, or `sha256:...` as `fingerpost keys new` writes it",
        repr=False,
    )
    name: Text = Field(
        description="unique name of the key in logs and metrics, and the tenant of its sessions"
    )
    team: Text | None = Field(
        default=None, description="entry of `teams` whose limits and budget the key shares"
    )
    allow: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None,
        description="models, `provider/*`, aliases and routes that the key may use, and `auto` for leaving the "
        "model open; null: all of them",
    )
    limits: RequestLimits | None = None
    budget: SpendingBudget | None = None
    tenant: Text | None = Field(
        default=None,
        description="name under which the key's sessions are kept; keys with the same one share their sessions; "
        "null: `name`",
    )
    metadata: dict[Text, str | int | float | bool] = Field(
        default={}, description="notes about the key, which `fingerpost keys list` shows"
    )
    previous: PreviousKey | None = None

    _check_key = field_validator("key")(_checked_key)

    @field_validator("name", "tenant")
    @classmethod
    def _is_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise PydanticCustomError(
                "key_name",
                "must have at most 64 letters, digits, dots, hyphens, underscores and @, and begin "
                "with a letter or a digit",
            )
        return name


_MAPPING: Final = "mapping"


def _form(value: object) -> str:
    return _MAPPING if isinstance(value, dict | ClientKey) else "key"


ClientKeyEntry = Annotated[
    Annotated[Text, Tag("key")] | Annotated[ClientKey, Tag(_MAPPING)], Discriminator(_form)
]
"""A client key alone, or with its name and its limits."""


class Team(Section):
    """Limits and budget that all keys of a team share."""

    limits: RequestLimits | None = None
    budget: SpendingBudget | None = None


class LimitStorage(Section):
    """Storage of what requests, tokens and budgets have used up."""

    type: Literal["memory", "redis"] | None = Field(
        default=None,
        description="storage of counts: the `memory` of the ingress, which then has one replica, or `redis`; "
        "null: as `routing.session_cache.type`",
    )
    url: Text | None = Field(
        default=None,
        description="address of Redis; null: `routing.session_cache.url`",
        repr=False,
    )
    unavailable: Literal["closed", "open"] = Field(
        default="closed",
        description="what happens to clients with limits while Redis is unavailable: `closed` refuses their requests "
        "with status 503, `open` lets each ingress replica give out its share of every limit",
    )


class Selector(Section):
    """Requests that a limit counts, by one of their headers."""

    key: Text = Field(description="name of the request header")
    value: str = Field(
        description="value of the request header; empty: each value has a limit of its own"
    )


class TokenLimit(Section):
    """Number of tokens that are allowed in a unit of time."""

    tokens: int = Field(ge=0, description="maximum number of tokens per `unit`")
    unit: Literal["second", "minute", "hour", "day"] = Field(
        description="length of the window in which tokens are counted"
    )


class RateLimit(Section):
    """Plano's limit of the tokens of a model, for requests that have a header."""

    model: Text = Field(description="model whose tokens are limited")
    selector: Selector
    limit: TokenLimit
