"""The section ``routing_rules``: decisions by headers, names and size, before any by content.

Checks that need more than one value are made in routing/compiled_rules.py.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from serve_app.config.schema.section import Section, Text


def _as_list(value: Any) -> Any:  # noqa: ANN401 - pydantic checks it afterwards
    return value if isinstance(value, list) else [value]


_TEXT_SCHEMA = {"type": "string", "minLength": 1}

OneOrMore = Annotated[
    list[Text],
    Field(min_length=1),
    BeforeValidator(_as_list),
    WithJsonSchema(
        {"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}]}
    ),
]
"""A text, or a list of texts of which any may hold."""


class BodySize(Section):
    """Size of a request's body; one of the bounds is enough."""

    at_least: int | None = Field(default=None, ge=0, description="minimum size of the body, bytes")
    at_most: int | None = Field(default=None, ge=0, description="maximum size of the body, bytes")


class RuleMatch(Section):
    """Conditions of a rule, at least one; all of them must hold.

    In patterns, `*` stands for any characters, and letter case does not count.
    """

    request_class: OneOrMore | None = Field(
        default=None,
        description="pattern of the header `x-claude-code-request-class`, such as `compaction`",
    )
    agent_type: OneOrMore | None = Field(
        default=None,
        description="pattern of the header `x-claude-code-agent-type`, such as `Explore`",
    )
    headers: Annotated[dict[Text, OneOrMore], Field(min_length=1)] | None = Field(
        default=None,
        description="patterns of request headers by name; `*` alone: the header is present and not empty",
    )
    alias: OneOrMore | None = Field(
        default=None,
        description="name that the request asks for: an alias, or `auto` for requests without one",
    )
    body_bytes: BodySize | None = None


class RoutingRule(Section):
    """A rule: requests that meet its conditions get its model, or the models of its route.

    The first rule that matches decides. Rules are asked where the request leaves the model open,
    before its session and its content.
    """

    name: Text = Field(description="unique name of the rule, shown in `x-fingerpost-rule`")
    match: RuleMatch
    model: Text | None = Field(
        default=None,
        description="model that answers, a name that clients may use, except aliases; either this or `route`",
    )
    route: Text | None = Field(
        default=None, description="name of the route whose models answer; either this or `model`"
    )
