"""What Ray Serve's own schema says of a serve.yaml.

Serve takes unknown keys in silence, because they may be a newer version's; here they are problems.
Ray is imported when it is needed: that takes seconds, and nothing else on the command line does.
"""

import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.config.locations import Location
from serve_app.config.pydantic_errors import describe_error, did_you_mean
from serve_app.domain import Json

Found: TypeAlias = Iterator[tuple[Location, str]]
"""Places of a file, each with what is to be said about it."""

_UNREADABLE: Final = "can't be read: a value in it is of a type that Serve does not look for"
_SECRETS: Final = frozenset({"runtime_env", "user_config", "ssl_keyfile_password"})


def schema_problems(content: Mapping[str, Json], lines: Mapping[Location, int]) -> Found:
    """Unknown keys, and what the schema refuses; there may be several for one place."""
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - see above

    schema: type[BaseModel] = ServeDeploySchema
    yield from _no_mappings(content)
    yield from _unknown_keys(schema, content, ())
    for detail in _refused(schema, content):
        place = known_place(lines, detail["loc"])
        if detail["type"] == "missing":
            place = (*place, detail["loc"][-1])
        yield place, _message(detail)


def _no_mappings(content: Mapping[str, Json]) -> Found:
    """Entries of ``deployments`` that Serve's schema would stumble over."""
    for place, application in applications(content):
        deployments = application.get("deployments")
        for index, entry in enumerate(deployments if isinstance(deployments, list) else ()):
            if not isinstance(entry, dict):
                yield (*place, "deployments", index), "must be a mapping of keys, with a `name:`"


def _unknown_keys(schema: type[BaseModel], content: Mapping[str, Json], place: Location) -> Found:
    fields = schema.model_fields
    for key, value in content.items():
        if key not in fields:
            near = did_you_mean(key, fields) or f"; known keys: {', '.join(fields)}"
            yield (*place, key), f"unknown key{near}"
            continue
        inner = _schema_in(fields[key].annotation)
        entries = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, entry in entries if inner is not None else ():
            if inner is not None and isinstance(entry, dict):
                at = (*place, key) if index is None else (*place, key, index)
                yield from _unknown_keys(inner, entry, at)


def _schema_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type of any form
    """The schema inside ``list[Schema]``, ``dict | Schema`` or ``Schema | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = map(_schema_in, get_args(annotation))
    return next((schema for schema in found if schema is not None), None)


def _refused(schema: type[BaseModel], content: Mapping[str, Json]) -> Iterator[ErrorDetails]:
    """What a schema says, but of keys that it does not know; of scaling Serve says it too late."""
    from ray.serve.config import AutoscalingConfig  # noqa: PLC0415 - see above

    content = _without_code(content)
    checked: list[tuple[type[BaseModel], Location, Json]] = [(schema, (), content)]
    for place, application in applications(content):
        for here, options in entries(application, "deployments", place):
            scaling = options.get("autoscaling_config")
            if isinstance(scaling, dict):
                checked.append((AutoscalingConfig, (*here, "autoscaling_config"), scaling))
    for model, place, value in checked:
        try:
            with warnings.catch_warnings(action="ignore"):  # what is deprecated is no problem
                model.model_validate(deepcopy(value))  # Serve changes what it is given
        except (AttributeError, TypeError):  # of Serve's own: it looks before pydantic does
            yield {"type": "serve", "loc": place, "msg": _UNREADABLE, "input": None}
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["type"] != "extra_forbidden":
                    yield {**detail, "loc": (*place, *detail["loc"])}


def _without_code(content: Mapping[str, Json]) -> Mapping[str, Json]:
    """What Serve's schema can look at: it imports code that is named, which only the cluster may
    have, and it can't tell that a deployment is no mapping.
    """
    content = deepcopy(content)
    for place, application in applications(content):
        deployments = application.get("deployments")
        if isinstance(deployments, list):
            application["deployments"] = [
                entry if isinstance(entry, dict) else {"name": f"deployments[{index}]"}
                for index, entry in enumerate(deployments)
            ]
        for _, options in entries(application, "deployments", place):
            for key in ("request_router_config", "deployment_actors"):
                options.pop(key, None)
            if isinstance(options.get("autoscaling_config"), dict):
                options["autoscaling_config"].pop("policy", None)
    return content


def _message(detail: ErrorDetails) -> str:
    if not _SECRETS.isdisjoint(detail["loc"]):
        return "is not what Serve takes here"
    return describe_error(detail)[1].removeprefix("value error, ")


def known_place(lines: Mapping[Location, int], place: Location) -> Location:
    """The innermost place of the file that a place lies in."""
    while place not in lines:
        place = place[:-1]
    return place


def entries(
    mapping: Mapping[str, Json], key: str, place: Location
) -> Iterator[tuple[Location, Json]]:
    """The mappings in a list, each with its place; nothing where it is none."""
    value = mapping.get(key)
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict):
            yield (*place, key, index), entry


def applications(content: Mapping[str, Json]) -> Iterator[tuple[Location, Json]]:
    """The applications of a file, each with its place."""
    yield from entries(content, "applications", ())
