"""Paths and checks that the tests of all cluster files share."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args

from pydantic import BaseModel
from ray import serve
from ray.serve.schema import ServeDeploySchema

from serve_app.access.exposure import exposure_problem
from serve_app.app import build
from serve_app.cli.serve_yaml.read import read_env_file
from serve_app.config.locations import ConfigError
from serve_app.config.references import references
from tests.unit.fakes import snapshot_of

ROOT: Final = Path(__file__).parents[2]
CONFIGS: Final = ROOT / "configs"
DOCS: Final = "\n".join(
    page.read_text("utf-8") for page in sorted((ROOT / "docs/operate").glob("*.md"))
)
"""All that is written about running the gateway."""

Json: TypeAlias = Any

ENVIRONMENT: Final = {
    **read_env_file(CONFIGS / "serve.env"),
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""The environment of every node: serve.env, with authentication by token."""


def graph(app: serve.Application) -> dict[str, serve.Deployment]:
    """The deployments of a bound application by name."""
    deployments: dict[str, serve.Deployment] = {}
    waiting = [app]
    while waiting:
        bound = waiting.pop()._bound_deployment
        deployments[bound.name] = bound
        for argument in bound.init_args:
            values = argument.values() if isinstance(argument, dict) else [argument]
            waiting += [value for value in values if isinstance(value, serve.Application)]
    return deployments


def gateway_problems(folder: Path, text: str, given: Collection[str]) -> list[str]:
    """The problems of a gateway.yaml if only the variables in ``given`` are set."""
    try:
        snapshot_of(folder, text)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    names = sorted(set(references(re.sub(r"(^|\s)#.*", "", text, flags=re.MULTILINE))))
    return [f"gateway.yaml refers to {n}, which nothing sets" for n in names if n not in given]


def serve_problems(folder: Path, content: Json, gateway: str) -> list[str]:
    """The problems of a serve.yaml with this gateway.yaml."""
    problems = _unknown_keys(ServeDeploySchema, content, "")
    try:
        ServeDeploySchema.model_validate(content)
        snapshot = snapshot_of(folder, gateway)
    except (ValueError, ConfigError) as error:
        return [*problems, str(error)]
    (application,) = content["applications"]
    host = content["http_options"]["host"]
    if content["proxy_location"] != "EveryNode" or host != "0.0.0.0":
        problems.append("a cluster has a proxy on each node, for other machines")
    exposed = exposure_problem(host, snapshot.config)
    problems += [exposed] if exposed else []
    there = graph(build({"config": str(folder / "gateway.yaml")}))
    listed = [deployment["name"] for deployment in application["deployments"]]
    problems += [f"there is no deployment {name}" for name in listed if name not in there]
    problems += [
        f"{name} is left at its options for one machine" for name in there if name not in listed
    ]
    return problems


def _unknown_keys(schema: type[BaseModel], content: Json, location: str) -> list[str]:
    """Reports unknown keys, which Serve ignores."""
    problems = []
    for key, value in content.items():
        if key not in schema.model_fields:
            problems.append(f"Serve has no key {location}{key}")
            continue
        inner = _schema_in(schema.model_fields[key].annotation)
        for entry in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(entry, dict):
                problems += _unknown_keys(inner, entry, f"{location}{key}.")
    return problems


def _schema_in(annotation: Json) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_schema_in, get_args(annotation))), None)


def least(serve_file: Json) -> dict[str, float]:
    """The CPUs and GPUs that the minimum of replicas requests."""
    sums = {"CPU": 0.0, "GPU": 0.0}
    for deployment in serve_file["applications"][0]["deployments"]:
        replicas = deployment["autoscaling_config"]["min_replicas"]
        options = deployment["ray_actor_options"]
        sums["CPU"] += replicas * options["num_cpus"]
        sums["GPU"] += replicas * options.get("num_gpus", 0)
    return sums


def looks_like_a_key(text: str) -> list[str]:
    """Words that may be a secret: long, with digits and letters, and without separators."""
    words = re.findall(r"(?<![\w/.:@-])(?:sk-)?[A-Za-z0-9+_]{24,}={0,2}(?![\w/.:-])", text)
    return [
        word
        for word in words
        if re.search(r"\d", word) and re.search(r"[a-z]", word) and "_" not in word
    ]
