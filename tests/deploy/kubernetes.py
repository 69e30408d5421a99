"""Kubernetes' own schemas in their strict form, which rejects unknown fields.

They come with the package kubernetes-validate, whose own function reads two megabytes again for
each object.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.deploy.sites import Json

VERSIONS: Final = ("1.30", "1.37")
"""The oldest and the newest that the objects are checked against."""

_SCHEMAS: Final = files("kubernetes_validate") / "kubernetes-json-schema"


def schema_problems(thing: Json) -> Iterator[str]:
    """Yields the problems of an object of Kubernetes' own kinds, for each version."""
    for version in VERSIONS:
        validator = _validator(version, thing["kind"], thing["apiVersion"])
        for error in validator.iter_errors(thing):
            location = ".".join(map(str, error.absolute_path))
            name = thing["metadata"]["name"]
            yield f"{thing['kind']} {name} {location}: {error.message} ({version})"


@cache
def _validator(version: str, kind: str, api: str) -> Draft202012Validator:
    group = re.sub(r"^([^./]*)[^/]*/", r"\1-", api)
    schema = _read(version, f"{kind.lower()}-{group}.json")
    registry: Registry[Json] = Resource.from_contents(schema) @ _definitions(version)
    return Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Registry[Json]:
    return Resource.from_contents(_read(version, "_definitions.json")) @ Registry()


def _read(version: str, name: str) -> Json:
    return json.loads((_SCHEMAS / f"v{version}.0-local-strict" / name).read_text())
