"""What pydantic finds, in words of our own: the place, what is wrong, the way out."""

import datetime as dt
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from serve_app.config.locations import Location
from serve_app.config.schema.gateway import GatewayConfig

_MESSAGES: Final[Mapping[str, str]] = {
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "duration": "must be a time with its unit, such as 5s or 500ms",
}
_SHOWN_SIGNS: Final = 60
_KINDS: Final[Mapping[type, str]] = {
    dict: "a mapping", list: "a list", str: "a text", int: "a number", float: "a number",
    bool: "true or false", dt.date: "a date", dt.datetime: "a date", bytes: "bytes",
}  # fmt: skip
_SECRET_KEYS: Final = frozenset(
    {"access_key", "api_key", "client_keys", "connection_string", "headers", "url"}
)


def describe_error(
    detail: ErrorDetails, root: type[BaseModel] = GatewayConfig
) -> tuple[Location, str]:
    """The place and a message for one of pydantic's findings in a section of ``root``'s form."""
    place, known = _walk(root, detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        way_out = did_you_mean(str(place[-1]), known) or f"; known keys: {', '.join(known)}"
        return place, f"unknown key{way_out}"
    if kind == "missing":
        return place, f"missing; add `{place[-1]}:`"
    if kind in {"literal_error", "enum"}:
        return place, f"must be {context['expected']}, not {_shown(place, detail['input'])}"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _untagged(place, detail)
    if kind == "too_long":
        return place, f"may hold at most {context['max_length']}, not {context['actual_length']}"
    message = _MESSAGES.get(kind)
    if message is not None:
        return place, f"{message}, not {_shown(place, detail['input'])}"
    return place, detail["msg"][:1].lower() + detail["msg"][1:]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when something known is near, else the empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _untagged(place: Location, detail: ErrorDetails) -> tuple[Location, str]:
    """A section of several forms whose ``type`` is none of theirs, or is not there."""
    key = detail["ctx"]["discriminator"].strip("'")
    if detail["type"] == "union_tag_not_found":
        return (*place, key), f"missing; add `{key}:`"
    expected = detail["ctx"]["expected_tags"].replace(", ", " or ")
    shown = _shown((*place, key), detail["input"][key])
    return (*place, key), f"must be {expected}, not {shown}"


def _shown(place: Location, value: object) -> str:
    if not _SECRET_KEYS.isdisjoint(place):
        return _KINDS.get(type(value), "this value")
    if value is None:
        return "nothing"
    if isinstance(value, str | int | float):
        text = repr(value)
        if len(text) <= _SHOWN_SIGNS:
            return text
    return _KINDS.get(type(value), "a long value")


def _walk(root: type[BaseModel], location: tuple[str | int, ...]) -> tuple[Location, list[str]]:
    """Where a finding is, and the keys that are known beside it.

    pydantic's locations hold more than the file does: a mark for a mapping's key, and which of
    several forms a section was read as.
    """
    form: Any = root
    place: list[str | int] = []
    known: list[str] = []
    for index, step in enumerate(location):
        if step == "[key]" and index == len(location) - 1:
            continue
        forms = _models(form)
        if len(forms) > 1:
            form = next(model for model in forms if step in _tags(model))
            continue
        place.append(step)
        if forms:
            fields = forms[0].model_fields
            known = list(fields)
            form = fields[step].annotation if step in fields else None
        else:
            form = next(reversed(get_args(_bare(form))), None)
    return tuple(place), known


def _bare(form: Any) -> Any:  # noqa: ANN401 - a type of any form
    """A type without what only annotates it, and without ``| None``."""
    while True:
        inner = [argument for argument in get_args(form) if argument is not NoneType]
        if get_origin(form) is Annotated or (
            get_origin(form) in {Union, UnionType} and len(inner) == 1
        ):
            form = inner[0]
        else:
            return form


def _models(form: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - a type of any form
    """The models that a value of this type is one of; empty for what is no mapping of ours."""
    form = _bare(form)
    members = get_args(form) if get_origin(form) in {Union, UnionType} else (form,)
    return [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["type"].annotation)
