"""Checks of an overlay's objects against Kubernetes, KubeRay, Serve, the gateway and each other."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import yaml

from serve_app.cli.serve_yaml.read import read_env_file
from tests.deploy.kuberay import ray_service_problems
from tests.deploy.kubernetes import schema_problems
from tests.deploy.kustomize import named
from tests.deploy.sites import (
    CONFIGS,
    DOCS,
    ENVIRONMENT,
    Json,
    gateway_problems,
    least,
    serve_problems,
)

STREAM_S: Final = 660
"""The longest stream plus a minute: graceful_shutdown_timeout_s."""

_MONITOR: Final = {"selector", "podMetricsEndpoints"}


def documented_secrets() -> dict[str, set[str]]:
    """The Secrets that docs/operate/kubernetes.md makes, with their keys."""
    secrets = {}
    for name, rest in re.findall(r"create secret generic (\S+) (.*)", DOCS):
        keys = set(re.findall(r"--from-literal=(\w+)=", rest))
        if "--from-env-file" in rest:
            keys |= set(read_env_file(CONFIGS / "kuberay/keys.env.example"))
        secrets[name] = keys
    return secrets


def problems(objects: list[Json], folder: Path) -> list[str]:
    """All problems of an overlay; ``folder`` is for temporary files."""
    service = named(objects, "RayService", "fingerpost")
    messages = [problem for thing in objects for problem in _own_schema(thing)]
    messages += ray_service_problems(service)
    messages += [problem for template in _templates([service]) for problem in _template(template)]
    if messages:
        return messages  # the checks below rely on these
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for template in _templates(objects):
        messages += _references(template, objects)
        messages += _hardened(template)
    for group in groups:
        messages += _ray_container(group["template"]["spec"]["containers"][0])
    messages += _confined("autoscaler", cluster["autoscalerOptions"].get("securityContext", {}))
    messages += _selectors(objects)
    messages += _lasting(service)
    messages += _gateway(service, objects, folder)
    return messages


def _own_schema(thing: Json) -> Iterator[str]:
    kind = thing["kind"]
    if kind == "RayService":
        return
    if kind == "PodMonitor":
        if set(thing["spec"]) - _MONITOR:
            yield f"PodMonitor: a field that is not one of {sorted(_MONITOR)}"
        return
    if kind == "PrometheusRule":
        if set(thing["spec"]) != {"groups"}:
            yield "PrometheusRule: a field that is not groups"
        return
    yield from schema_problems(thing)


def _template(template: Json) -> Iterator[str]:
    """Checks a RayService's pod template as the kind PodTemplate."""
    name = template["metadata"]["labels"]["role"]
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}}
    yield from schema_problems({**pod, "template": template})


def _templates(objects: list[Json]) -> list[Json]:
    templates = []
    for thing in objects:
        if thing["kind"] == "RayService":
            cluster = thing["spec"]["rayClusterConfig"]
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            templates += [group["template"] for group in groups]
        elif thing["kind"] in {"StatefulSet", "Job"}:
            templates.append(thing["spec"]["template"])
    return templates


def _containers(template: Json) -> list[Json]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def _references(template: Json, objects: list[Json]) -> Iterator[str]:
    """References must resolve: Secrets to the documentation, all others to the objects."""
    for container in _containers(template):
        yield from _secrets(container)
        yield from _mounts(container, template["spec"].get("volumes", []))
    names = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    for volume in template["spec"].get("volumes", []):
        for key, kind, name in (
            ("configMap", "ConfigMap", "name"),
            ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
        ):
            if key in volume and (kind, volume[key][name]) not in names:
                yield f"there is no {kind} {volume[key][name]}"


def _secrets(container: Json) -> Iterator[str]:
    secrets = documented_secrets()
    for variable in container.get("env", []):
        wanted = variable.get("valueFrom", {}).get("secretKeyRef")
        if wanted and wanted["key"] not in secrets.get(wanted["name"], ()):
            yield f"no Secret {wanted['name']} with a key {wanted['key']} is documented"
    for source in container.get("envFrom", []):
        name = source["secretRef"]["name"]
        if name not in secrets:
            yield f"no Secret {name} is documented"


def _mounts(container: Json, volumes: list[Json]) -> Iterator[str]:
    known = {*(volume["name"] for volume in volumes), "state"}  # the StatefulSet's claim
    for mount in container.get("volumeMounts", []):
        if "subPath" in mount:
            yield f"{mount['name']}: a subPath never sees a changed file"
        if mount["name"] not in known:
            yield f"there is no volume {mount['name']}"


def _hardened(template: Json) -> Iterator[str]:
    if template["spec"].get("securityContext", {}).get("runAsNonRoot") is not True:
        yield f"{template['metadata']['labels']}: pods run as root"
    for container in _containers(template):
        yield from _confined(container["name"], container.get("securityContext", {}))
        if not {"cpu", "memory"} <= set(container["resources"]["requests"]):
            yield f"{container['name']}: asks for no CPU or memory"
        if not re.search(r":[\d.]+(-\w+)?$", container["image"]):
            yield f"{container['name']}: {container['image']} has no version"


def _confined(name: str, context: Json) -> Iterator[str]:
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: may get more rights"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name}: keeps capabilities"


def _ray_container(container: Json) -> Iterator[str]:
    plain = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    for name in sorted(ENVIRONMENT.keys() | plain.keys()):
        if plain.get(name) != ENVIRONMENT.get(name):
            yield f"{container['name']}: {name} is {plain.get(name)}, not {ENVIRONMENT.get(name)}"
    if "RAY_AUTH_TOKEN" in {item["name"] for item in container["env"]}:
        yield f"{container['name']}: the operator gives it the token"


def _selectors(objects: list[Json]) -> Iterator[str]:
    """Checks that every selector matches a pod, because others have no effect."""
    pods = [template["metadata"]["labels"] for template in _templates(objects)]
    for thing in objects:
        key = {"NetworkPolicy": "podSelector", "PodDisruptionBudget": "selector"}
        selector = thing["spec"].get(key.get(thing["kind"], ""), None) if "spec" in thing else None
        if thing["kind"] == "PodMonitor":
            selector = thing["spec"]["selector"]
        if selector is not None and not any(_matches(selector, labels) for labels in pods):
            yield f"{thing['kind']} {thing['metadata']['name']} selects no pod"


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    plain = selector.get("matchLabels", {}).items() <= labels.items()
    rules = selector.get("matchExpressions", [])
    return plain and all(labels.get(rule["key"]) in rule["values"] for rule in rules)


def _lasting(service: Json) -> Iterator[str]:
    """Checks that pods and clusters are not ended before their streams."""
    spec, cluster = service["spec"], service["spec"]["rayClusterConfig"]
    hard_stop = int(ENVIRONMENT["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])
    if spec["upgradeStrategy"]["type"] != "NewCluster":
        yield "upgradeStrategy is to be NewCluster, the stable one without downtime"
    if spec["rayClusterDeletionDelaySeconds"] < hard_stop:
        yield f"the old cluster is gone before {hard_stop} s"
    if cluster["autoscalerOptions"]["idleTimeoutSeconds"] < STREAM_S:
        yield "an idle pod is gone before the streams of its proxy"
    for group in cluster["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        (ray,) = pod["containers"]
        pauses = re.findall(r"sleep (\d+)", str(ray["lifecycle"]["preStop"]))
        if [int(pause) >= STREAM_S for pause in pauses] != [True]:
            yield f"group {group['groupName']}: preStop does not wait for {STREAM_S} s"
        elif pod["terminationGracePeriodSeconds"] < int(pauses[0]) + 30:
            yield f"group {group['groupName']}: Kubernetes does not wait for preStop"


def _gateway(service: Json, objects: list[Json], folder: Path) -> Iterator[str]:
    """Checks the application's files and variables, and the room for its first replicas."""
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    mounted = {
        f"{mount['mountPath']}/gateway.yaml"
        for mount in groups[0]["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    for group in groups:
        mounts = group["template"]["spec"]["containers"][0]["volumeMounts"]
        mounted &= {f"{mount['mountPath']}/gateway.yaml" for mount in mounts}
    content = yaml.safe_load(service["spec"]["serveConfigV2"])
    gateway = named(objects, "ConfigMap", "fingerpost-gateway")["data"]["gateway.yaml"]
    unfit = serve_problems(folder, content, gateway)
    if unfit:
        yield from unfit
        return
    config = content["applications"][0]["args"]["config"]
    if config not in mounted:
        yield f"not every pod has the file {config}"
    room = {"CPU": 0.0, "GPU": 0.0}
    for group in cluster["workerGroupSpecs"]:
        container = group["template"]["spec"]["containers"][0]
        limits = container["resources"]["limits"]
        cpus = float(group["rayStartParams"].get("num-cpus", limits["cpu"]))
        if cpus:  # the ingress and provider clients may run here
            yield from gateway_problems(folder, gateway, _variables(container))
        room["CPU"] += group["minReplicas"] * cpus
        room["GPU"] += group["minReplicas"] * float(limits.get("nvidia.com/gpu", 0))
    wanted = least(content)
    yield from (
        f"the first replicas want {wanted[kind]:g} {kind}, and there are {room[kind]:g}"
        for kind in room
        if wanted[kind] > room[kind]
    )


def _variables(container: Json) -> set[str]:
    secrets = documented_secrets()
    names = {variable["name"] for variable in container["env"]}
    for source in container.get("envFrom", []):
        names |= secrets.get(source["secretRef"]["name"], set())
    return names
