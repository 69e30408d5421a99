"""Messages for the errors that pydantic finds: the location, what is wrong, and the fix."""

import datetime as dt
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from serve_app.config.locations import Location
from serve_app.config.schema.gateway import GatewayConfig

_MESSAGES: Final[Mapping[str, str]] = {
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing": "must be an integer",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "duration": "must be a duration with its unit, such as 5s or 500ms",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}
"""For a kind of error: the message, and the name of the bound."""

_MAX_SHOWN: Final = 60
_KINDS: Final[Mapping[type, str]] = {
    dict: "a mapping", list: "a list", str: "a string", int: "a number", float: "a number",
    bool: "true or false", dt.date: "a date", dt.datetime: "a date", bytes: "bytes",
}  # fmt: skip
_SECRET_KEYS: Final = frozenset(
    {"access_key", "api_key", "client_keys", "connection_string", "headers", "proxy", "url"}
)


def describe_error(
    detail: ErrorDetails, root: type[BaseModel] = GatewayConfig
) -> tuple[Location, str]:
    """The location and the message of an error that pydantic found in a value of type ``root``."""
    location, known = _walk(root, detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        hint = did_you_mean(str(location[-1]), known) or f"; known keys: {', '.join(known)}"
        return location, f"unknown key{hint}"
    if kind == "missing":
        return location, f"missing; add `{location[-1]}:`"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _untagged(location, detail)
    return location, _message(location, detail)


def _message(location: Location, detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    expected = f"must be {context['expected']}" if kind in {"literal_error", "enum"} else None
    expected = expected or _MESSAGES.get(kind)
    if expected is not None:
        return f"{expected}, not {_shown(location, detail['input'])}"
    if kind in _BOUNDS:
        text, name = _BOUNDS[kind]
        bound = context[name]
        return f"{text} {int(bound) if bound == int(bound) else bound}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "too_short":
        return "must not be empty; add an entry"
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries, not {context['actual_length']}"
    return detail["msg"][:1].lower() + detail["msg"][1:]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for a known name that is similar, else the empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _untagged(location: Location, detail: ErrorDetails) -> tuple[Location, str]:
    """The error of a section with several forms whose ``type`` is unknown or missing."""
    key = detail["ctx"]["discriminator"].strip("'")
    if detail["type"] == "union_tag_not_found":
        return (*location, key), f"missing; add `{key}:`"
    expected = detail["ctx"]["expected_tags"].replace(", ", " or ")
    shown = _shown((*location, key), detail["input"][key])
    return (*location, key), f"must be {expected}, not {shown}"


def _shown(location: Location, value: object) -> str:
    """A value in a message; of a secret or a long value its type alone."""
    if value is None:
        return "null"
    if not _SECRET_KEYS.isdisjoint(location):
        return _KINDS.get(type(value), "this value")
    if isinstance(value, str | int | float):
        text = repr(value)
        if len(text) <= _MAX_SHOWN:
            return text
    return _KINDS.get(type(value), "a long value")


def _walk(root: type[BaseModel], steps: tuple[str | int, ...]) -> tuple[Location, list[str]]:
    """The location of an error in the file, and the known keys of its section.

    pydantic's locations have steps that a file does not have: a mark for the key of a mapping,
    and the form that a section was read as.
    """
    form: Any = root
    location: list[str | int] = []
    known: list[str] = []
    for index, step in enumerate(steps):
        if step == "[key]" and index == len(steps) - 1:
            continue
        tagged = _tagged(form)
        if step in tagged:
            form = tagged[step]
            continue
        forms = _models(form)
        if len(forms) > 1:
            form = next(model for model in forms if step in _tags(model))
            continue
        location.append(step)
        if forms:
            fields = forms[0].model_fields
            known = list(fields)
            form = fields[step].annotation if step in fields else None
        else:
            form = next(reversed(get_args(_bare(form))), None)
    return tuple(location), known


def _tagged(form: Any) -> dict[str | int, Any]:  # noqa: ANN401 - a type of any form
    """The forms of a value that are told apart by a function, by their names in locations."""
    return {
        mark.tag: one
        for one in get_args(_bare(form))
        for mark in getattr(one, "__metadata__", ())
        if isinstance(mark, Tag)
    }


def _bare(form: Any) -> Any:  # noqa: ANN401 - a type of any form
    """A type without its annotations and without ``| None``."""
    while True:
        inner = [argument for argument in get_args(form) if argument is not NoneType]
        if get_origin(form) is Annotated or (
            get_origin(form) in {Union, UnionType} and len(inner) == 1
        ):
            form = inner[0]
        else:
            return form


def _models(form: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - a type of any form
    """The models that a value of this type may be; empty if it is not a section."""
    form = _bare(form)
    members = get_args(form) if get_origin(form) in {Union, UnionType} else (form,)
    return [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["type"].annotation)
