"""The part of KubeRay 1.7.0's RayService schema that the manifests use.

Fields, types and values are those of ray-operator/config/crd/bases/ray.io_rayservices.yaml, and
the rules those of ray-operator/controllers/ray/utils/validation.go, both of the tag v1.7.0 of
github.com/ray-project/kuberay. A field that is missing here may exist there; look it up first.
"""

import re
from typing import Final

from jsonschema import Draft202012Validator

from tests.deploy.sites import Json

MAX_NAME: Final = 47
HEAD_SETS_ITSELF: Final = frozenset({"REDIS_PASSWORD", "REDIS_USERNAME", "RAY_REDIS_ADDRESS"})


def _object(required: tuple[str, ...] = (), **properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer", "minimum": 0}
_PARAMETERS: Final = {"type": "object", "additionalProperties": _TEXT}
_TEMPLATE: Final = {"type": "object"}  # a pod template, which Kubernetes' own schema checks
_HEAD: Final = _object(("template",), rayStartParams=_PARAMETERS, template=_TEMPLATE)
_WORKERS: Final = _object(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    groupName=_TEXT,
    minReplicas=_NUMBER,
    maxReplicas=_NUMBER,
    rayStartParams=_PARAMETERS,
    template=_TEMPLATE,
)
_SECRET_KEY: Final = _object(("name", "key"), name=_TEXT, key=_TEXT)
_CLUSTER: Final = _object(
    ("headGroupSpec", "workerGroupSpecs", "rayVersion"),
    rayVersion=_TEXT,
    authOptions=_object(mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    gcsFaultToleranceOptions=_object(
        redisAddress=_TEXT,
        redisPassword=_object(valueFrom=_object(secretKeyRef=_SECRET_KEY)),
    ),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=_object(
        idleTimeoutSeconds=_NUMBER,
        securityContext={"type": "object"},  # a container's securityContext
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        version={"enum": ["v1", "v2"]},
    ),
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)
_SERVICE: Final = _object(
    ("rayClusterConfig", "serveConfigV2"),
    upgradeStrategy=_object(
        type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]}
    ),
    rayClusterDeletionDelaySeconds=_NUMBER,
    excludeHeadPodFromServeSvc={"type": "boolean"},
    serveConfigV2=_TEXT,
    rayClusterConfig=_CLUSTER,
)


def ray_service_problems(thing: Json) -> list[str]:
    """The reasons for which KubeRay would reject a RayService or misread it."""
    problems = [
        f"RayService {'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in Draft202012Validator(_SERVICE).iter_errors(thing["spec"])
    ]
    if thing["apiVersion"] != "ray.io/v1":
        problems.append("a RayService is of ray.io/v1")
    name = thing["metadata"]["name"]
    if len(name) > MAX_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        problems.append(f"{name!r} is no name for a RayService")
    return problems or _rules(thing["spec"]["rayClusterConfig"])


def _rules(cluster: Json) -> list[str]:
    problems = []
    head = cluster["headGroupSpec"]
    container = head["template"]["spec"]["containers"][0]
    problems += [
        f"the operator sets {variable['name']} of the head itself"
        for variable in container["env"]
        if variable["name"] in HEAD_SETS_ITSELF
    ]
    if "serve" not in {port["name"] for port in container["ports"]}:
        problems.append("without a port named serve on the head there is no Service")
    if cluster.get("authOptions", {}).get("mode") != "token":
        problems.append("authOptions.mode is to be token")
    templates = [head, *cluster["workerGroupSpecs"]]
    for group in templates:
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            problems.append("with the autoscaler restartPolicy is Never, or is left out")
    for group in cluster["workerGroupSpecs"]:
        if group["minReplicas"] > group["maxReplicas"]:
            problems.append(f"group {group['groupName']}: minReplicas over maxReplicas")
    return problems
