"""The schema of routes, in the configuration and in the bodies of requests."""

from typing import Annotated, Final, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from serve_app.config.schema.section import Section, Text
from serve_app.domain import Effort, Prefer

MAX_EXAMPLES: Final = 64


class SelectionPolicy(Section):
    """Order of the models of a route."""

    prefer: Prefer = Field(
        strict=False,
        description="property by which models come first: `cheapest` by their prices, `fastest` by the "
        "measured time until they begin to answer, `none` as they are listed",
    )

    @field_validator("prefer", mode="before")
    @classmethod
    def _of_nothing(cls, value: object) -> object:
        """Reads null and the empty string as ``none``, as Plano does."""
        return Prefer.NONE if value is None or value == "" else value


class RouteModel(Section):
    """A model of a route, with the reasoning effort that the route asks of it."""

    model: Text = Field(description="model of the route; a name that clients may use")
    effort: Effort | None = Field(
        default=None,
        strict=False,
        description="reasoning effort of requests that the route sends to the model, unless the client sets one; "
        "null: as the model likes",
    )


_MAPPING: Final = "mapping"


def _form(value: object) -> str:
    return _MAPPING if isinstance(value, dict | RouteModel) else "name"


RouteEntry = Annotated[
    Annotated[Text, Tag("name")] | Annotated[RouteModel, Tag(_MAPPING)], Discriminator(_form)
]
"""A model of a route by its name, or as a mapping."""


class RoutingPreference(Section):
    """A route: a kind of request, described in plain words, and the models that answer it."""

    name: Text = Field(description="unique name of the route")
    description: Text = Field(description="requests that belong to the route, in plain words")
    models: Annotated[list[RouteEntry], Field(min_length=1)] = Field(
        description="models of the route, best first; names that clients may use, except aliases"
    )
    selection_policy: SelectionPolicy | None = None
    examples: Annotated[list[Text], Field(max_length=MAX_EXAMPLES)] = Field(
        default=[], description="example prompts of users for this route; three or more work best"
    )
    escalate: bool = Field(
        default=False,
        description="whether a conversation moves to the next of `models` when a tool fails three times in a row "
        "or the user says that it is still wrong; `models` are then listed from the first to the strongest",
    )

    @model_validator(mode="after")
    def _has_one_order(self) -> Self:
        policy = self.selection_policy
        if self.escalate and policy is not None and policy.prefer is not Prefer.NONE:
            message = "escalate needs the order of `models`; remove `selection_policy:`"
            raise PydanticCustomError("order", message)
        return self

    @property
    def named(self) -> list[tuple[str, Effort | None]]:
        """The name and the effort of each model, in order."""
        return [
            (entry.model, entry.effort) if isinstance(entry, RouteModel) else (entry, None)
            for entry in self.models
        ]


class ConfiguredRoute(RoutingPreference):
    """A route: a kind of request, described in plain words, and the models that answer it.

    In older formats it may lack a description.
    """

    description: str = Field(
        description="requests that belong to the route, in plain words; if empty, only its name is matched"
    )
