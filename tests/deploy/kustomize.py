"""As much of kustomize as our overlays need; what they must not use is refused.

Resources, components, ConfigMaps made of files, JSON patches, the namespace. A test compares this
with ``kubectl kustomize``, which not every machine has.
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
    """What this reader can't do, and the overlays are to do without."""


def overlay(folder: Path) -> list[Json]:
    """The objects that a folder with a kustomization.yaml comes to."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(said) - _KEYS
    if unknown:
        raise UnsupportedError(f"{folder.name}: {', '.join(sorted(unknown))}")
    objects: list[Json] = []
    for name in [*said.get("resources", []), *said.get("components", [])]:
        objects += _resources(folder / name)
    for generator in said.get("configMapGenerator", []):
        if not said["generatorOptions"]["disableNameSuffixHash"]:
            raise UnsupportedError(f"{folder.name}: names with a hash")
        _generate(objects, folder, generator)
    for patch in said.get("patches", []):
        operations = yaml.safe_load((folder / patch["path"]).read_text())
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        apply(named(objects, kind, name), operations)
    for thing in objects:
        if "namespace" in said and thing["kind"] not in _WITHOUT_NAMESPACE:
            thing["metadata"]["namespace"] = said["namespace"]
    return objects


def named(objects: list[Json], kind: str, name: str) -> Json:
    """The one object of this kind and name."""
    (found,) = [
        thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == (kind, name)
    ]
    return found


def _resources(path: Path) -> list[Json]:
    if path.is_dir():
        return overlay(path)
    return list(yaml.safe_load_all(path.read_text()))


def _generate(objects: list[Json], folder: Path, generator: Json) -> None:
    content = {name: (folder / name).read_text() for name in generator["files"]}
    if generator.get("behavior", "create") == "replace":
        named(objects, "ConfigMap", generator["name"])["data"] = content
        return
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}}
    objects.append({**made, "data": content})


def apply(target: Json, operations: list[Json]) -> None:
    """A JSON patch, in place: add, replace and remove."""
    for operation in operations:
        *way, last = operation["path"].removeprefix("/").split("/")
        place = target
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        key = int(last) if isinstance(place, list) and last != "-" else last
        value = deepcopy(operation.get("value"))
        match operation["op"]:
            case "add" if last == "-":
                place.append(value)
            case "add" if isinstance(place, list):
                place.insert(key, value)
            case "add" | "replace" if operation["op"] == "add" or key in place:
                place[key] = value
            case "remove":
                del place[key]
            case _:
                raise UnsupportedError(f"{operation['op']} {operation['path']}")
