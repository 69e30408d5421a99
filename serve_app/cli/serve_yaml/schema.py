"""Checks a serve.yaml against the schema of Ray Serve itself.

Serve ignores unknown keys, because a newer version may know them; here they are problems.
This module imports Ray, which takes seconds: only ``fingerpost check --serve`` and a failed
``fingerpost run`` import it.
"""

import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from serve_app.cli.serve_yaml.tree import Findings, applications, enclosing, entries
from serve_app.config.locations import Location
from serve_app.config.pydantic_errors import describe_error, did_you_mean
from serve_app.domain import Json

_WRONG_TYPE: Final = "contains a value of a type that Serve does not expect; correct it"
_HIDDEN: Final = "not a valid value for Serve; correct it"
_SECRETS: Final = frozenset({"runtime_env", "user_config", "ssl_keyfile_password"})


def schema_problems(content: Mapping[str, Json], lines: Mapping[Location, int]) -> Findings:
    """Unknown keys, and what the schema refuses; a location may have several problems."""
    schema: type[BaseModel] = ServeDeploySchema
    yield from _entries_that_are_not_mappings(content)
    yield from _unknown_keys(schema, content, ())
    for detail in _refused(schema, content):
        location = enclosing(lines, detail["loc"])
        if detail["type"] == "missing":
            location = (*location, detail["loc"][-1])
        yield location, _message(detail)


def _entries_that_are_not_mappings(content: Mapping[str, Json]) -> Findings:
    """Entries of ``deployments`` that would crash Serve's schema."""
    for location, application in applications(content):
        deployments = application.get("deployments")
        for index, entry in enumerate(deployments if isinstance(deployments, list) else ()):
            if not isinstance(entry, dict):
                yield (*location, "deployments", index), "must be a mapping of keys; add a `name:`"


def _unknown_keys(
    schema: type[BaseModel], content: Mapping[str, Json], location: Location
) -> Findings:
    fields = schema.model_fields
    for key, value in content.items():
        if key not in fields:
            hint = did_you_mean(key, fields) or f"; known keys: {', '.join(fields)}"
            yield (*location, key), f"unknown key{hint}"
            continue
        inner = _schema_in(fields[key].annotation)
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, part in parts if inner is not None else ():
            if inner is not None and isinstance(part, dict):
                at = (*location, key) if index is None else (*location, key, index)
                yield from _unknown_keys(inner, part, at)


def _schema_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type of any form
    """The schema inside ``list[Schema]``, ``dict | Schema`` or ``Schema | None``, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = map(_schema_in, get_args(annotation))
    return next((schema for schema in inner if schema is not None), None)


def _refused(schema: type[BaseModel], content: Mapping[str, Json]) -> Iterator[ErrorDetails]:
    """What Serve's schemas refuse, unknown keys aside.

    Serve validates ``autoscaling_config`` only when it deploys; it is validated here, too.
    """
    content = _without_code(content)
    checked: list[tuple[type[BaseModel], Location, Json]] = [(schema, (), content)]
    for location, application in applications(content):
        for here, options in entries(application, "deployments", location):
            scaling = options.get("autoscaling_config")
            if isinstance(scaling, dict):
                checked.append((AutoscalingConfig, (*here, "autoscaling_config"), scaling))
    for model, location, value in checked:
        try:
            with warnings.catch_warnings(action="ignore"):  # deprecations are not problems
                model.model_validate(deepcopy(value))  # Serve changes its input
        except (AttributeError, TypeError):  # raised by Serve's own validators
            yield {"type": "serve", "loc": location, "msg": _WRONG_TYPE, "input": None}
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["type"] != "extra_forbidden":
                    yield {**detail, "loc": (*location, *detail["loc"])}


def _without_code(content: Mapping[str, Json]) -> Mapping[str, Json]:
    """The content without what Serve's schema cannot validate here.

    It imports the code that a file names, which may exist on the cluster only, and it fails on
    deployments that are not mappings.
    """
    content = deepcopy(content)
    for location, application in applications(content):
        deployments = application.get("deployments")
        if isinstance(deployments, list):
            application["deployments"] = [
                entry if isinstance(entry, dict) else {"name": f"deployments[{index}]"}
                for index, entry in enumerate(deployments)
            ]
        for _, options in entries(application, "deployments", location):
            for key in ("request_router_config", "deployment_actors"):
                options.pop(key, None)
            if isinstance(options.get("autoscaling_config"), dict):
                options["autoscaling_config"].pop("policy", None)
    return content


def _message(detail: ErrorDetails) -> str:
    if not _SECRETS.isdisjoint(detail["loc"]):
        return _HIDDEN
    return describe_error(detail)[1].removeprefix("value error, ")
