"""The subset of kustomize that the overlays need; all other keys are rejected.

It supports resources, components, ConfigMaps of files, JSON patches and the namespace. A test
compares it with ``kubectl kustomize``, which not every machine has.
"""

from copy import deepcopy
from pathlib import Path
from typing import Final

import yaml

from tests.deploy.sites import Json

_KEYS: Final = frozenset({
    "apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator",
    "generatorOptions", "patches",
})  # fmt: skip
_WITHOUT_NAMESPACE: Final = frozenset({"Namespace"})


class UnsupportedError(Exception):
    """Raised for features that this reader does not support."""


def overlay(folder: Path) -> list[Json]:
    """Builds the objects of a folder with a kustomization.yaml."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(content) - _KEYS
    if unknown:
        raise UnsupportedError(f"{folder.name}: {', '.join(sorted(unknown))}")
    objects: list[Json] = []
    for name in [*content.get("resources", []), *content.get("components", [])]:
        objects += _resources(folder / name)
    for generator in content.get("configMapGenerator", []):
        if not content["generatorOptions"]["disableNameSuffixHash"]:
            raise UnsupportedError(f"{folder.name}: names with a hash")
        _generate(objects, folder, generator)
    for patch in content.get("patches", []):
        operations = yaml.safe_load((folder / patch["path"]).read_text())
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        apply(named(objects, kind, name), operations)
    for thing in objects:
        if "namespace" in content and thing["kind"] not in _WITHOUT_NAMESPACE:
            thing["metadata"]["namespace"] = content["namespace"]
    return objects


def named(objects: list[Json], kind: str, name: str) -> Json:
    """The only object of this kind and name."""
    (match,) = [
        thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == (kind, name)
    ]
    return match


def _resources(path: Path) -> list[Json]:
    if path.is_dir():
        return overlay(path)
    return list(yaml.safe_load_all(path.read_text()))


def _generate(objects: list[Json], folder: Path, generator: Json) -> None:
    content = {Path(name).name: (folder / name).read_text() for name in generator["files"]}
    if generator.get("behavior", "create") == "replace":
        named(objects, "ConfigMap", generator["name"])["data"] = content
        return
    options = generator.get("options", {})
    if set(options) - {"labels"}:
        raise UnsupportedError(f"{folder.name}: options {', '.join(options)}")
    metadata = {"name": generator["name"], **options}
    objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": content})


def apply(target: Json, operations: list[Json]) -> None:
    """Applies a JSON patch in place: add, replace and remove."""
    for operation in operations:
        *way, last = operation["path"].removeprefix("/").split("/")
        parent = target
        for step in way:
            parent = parent[int(step) if isinstance(parent, list) else step]
        key = int(last) if isinstance(parent, list) and last != "-" else last
        value = deepcopy(operation.get("value"))
        match operation["op"]:
            case "add" if last == "-":
                parent.append(value)
            case "add" if isinstance(parent, list):
                parent.insert(key, value)
            case "add" | "replace" if operation["op"] == "add" or key in parent:
                parent[key] = value
            case "remove":
                del parent[key]
            case _:
                raise UnsupportedError(f"{operation['op']} {operation['path']}")
