"""Each wrong edit of a manifest causes a problem that names it."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from tests.deploy.kuberay import ray_service_problems
from tests.deploy.kustomize import apply, named, overlay
from tests.deploy.manifests import _own_schema, problems
from tests.deploy.sites import CONFIGS, Json

SPEC = "/spec/rayClusterConfig"
HEAD = f"{SPEC}/headGroupSpec/template/spec"
WORKER = f"{SPEC}/workerGroupSpecs/0/template/spec"
GPU = f"{SPEC}/workerGroupSpecs/1/template/spec"
RAY = "containers/0"


def _edit(
    path: str, value: Json = None, op: str = "add", what: str = "RayService/fingerpost"
) -> Json:
    return what, {"op": op, "path": path, "value": value}


WRONG = {
    "a misspelt field of the RayService": (
        _edit("/spec/upgradestrategy", {}), "'upgradestrategy' was unexpected"),
    "an upgrade strategy that is none": (
        _edit("/spec/upgradeStrategy/type", "Rolling"), "'Rolling' is not one of"),
    "an upgrade that needs another API": (
        _edit("/spec/upgradeStrategy/type", "NewClusterWithIncrementalUpgrade"), "stable one"),
    "a number where KubeRay wants a text": (
        _edit(f"{SPEC}/headGroupSpec/rayStartParams/num-cpus", 0), "0 is not of type 'string'"),
    "an authentication that is none": (
        _edit(f"{SPEC}/authOptions/mode", "none"), "'none' is not one of"),
    "a cluster that anyone may use": (
        _edit(f"{SPEC}/authOptions/mode", "disabled"), "authOptions.mode is to be token"),
    "more workers at least than at most": (
        _edit(f"{SPEC}/workerGroupSpecs/0/minReplicas", 9), "minReplicas over maxReplicas"),
    "no port named serve": (_edit(f"{HEAD}/{RAY}/ports/3/name", "http"), "port named serve"),
    "a password that the operator sets": (
        _edit(f"{HEAD}/{RAY}/env/-", {"name": "REDIS_PASSWORD", "value": "x"}), "the operator sets"),
    "a restart policy that the autoscaler refuses": (
        _edit(f"{WORKER}/restartPolicy", "Always"), "restartPolicy is Never"),
    "a misspelt field of a pod": (_edit(f"{WORKER}/tolerationz", []), "tolerationz"),
    "a misspelt field of a container": (_edit(f"{WORKER}/{RAY}/envfrom", []), "envfrom"),
    "a wrong type in a pod": (
        _edit(f"{WORKER}/terminationGracePeriodSeconds", "long"), "terminationGracePeriodSeconds"),
    "a Secret that nobody makes": (
        _edit(f"{WORKER}/{RAY}/envFrom/0/secretRef/name", "keys"), "no Secret keys is documented"),
    "a key of a Secret that nobody sets": (
        _edit(f"{WORKER}/{RAY}/env/15/valueFrom/secretKeyRef/key", "passwort"), "a key passwort"),
    "no Secret at all": (
        _edit(f"{WORKER}/{RAY}/envFrom", op="remove"), "refers to OPENAI_API_KEY, which nothing sets"),
    "a mounted file instead of a folder": (
        _edit(f"{WORKER}/{RAY}/volumeMounts/0/subPath", "gateway.yaml"), "subPath never sees"),
    "a ConfigMap that is not there": (
        _edit(f"{WORKER}/volumes/0/configMap/name", "gateway"), "there is no ConfigMap gateway"),
    "a claim that is not there": (
        _edit(f"{GPU}/volumes/1/persistentVolumeClaim/claimName", "w"), "no PersistentVolumeClaim w"),
    "a mount without a volume": (
        _edit(f"{WORKER}/{RAY}/volumeMounts/0/name", "x"), "there is no volume x"),
    "a folder that one group lacks": (
        _edit(f"{GPU}/{RAY}/volumeMounts/0/mountPath", "/elsewhere"), "not every pod has the file"),
    "a setting of Serve's that one group lacks": (
        _edit(f"{GPU}/{RAY}/env/0", op="remove"), "RAY_SERVE_ENABLE_HA_PROXY is None, not 1"),
    "a setting that only one group has": (
        _edit(f"{WORKER}/{RAY}/env/-", {"name": "RAY_X", "value": "1"}), "RAY_X is 1, not None"),
    "a mode of authentication that differs": (
        _edit(f"{WORKER}/{RAY}/env/14/value", "disabled"), "RAY_AUTH_MODE is disabled, not token"),
    "a token in the manifest": (
        _edit(f"{WORKER}/{RAY}/env/-", {"name": "RAY_AUTH_TOKEN", "valueFrom": {}}),
        "the operator gives it the token"),
    "a pod as root": (_edit(f"{WORKER}/securityContext/runAsNonRoot", value=False), "run as root"),
    "rights that nobody needs": (
        _edit(f"{WORKER}/{RAY}/securityContext/capabilities", {"add": ["NET_ADMIN"]}), "keeps cap"),
    "a way to more rights": (
        _edit(f"{WORKER}/{RAY}/securityContext/allowPrivilegeEscalation", value=True), "more rights"),
    "a container that KubeRay adds, as it comes": (
        _edit(f"{SPEC}/autoscalerOptions/securityContext", op="remove"), "autoscaler: keeps cap"),
    "no resources asked for": (
        _edit(f"{WORKER}/{RAY}/resources/requests", {"cpu": "4"}), "asks for no CPU or memory"),
    "an image without a version": (
        _edit(f"{WORKER}/{RAY}/image", "fingerpost:latest"), "has no version"),
    "an old cluster that goes too soon": (
        _edit("/spec/rayClusterDeletionDelaySeconds", 60), "the old cluster is gone before 900 s"),
    "an idle pod that goes too soon": (
        _edit(f"{SPEC}/autoscalerOptions/idleTimeoutSeconds", 60), "an idle pod is gone"),
    "a pod that does not wait": (
        _edit(f"{WORKER}/{RAY}/lifecycle/preStop/exec/command", ["sleep", "5"]), "preStop does not"),
    "a pod that is not waited for": (
        _edit(f"{WORKER}/terminationGracePeriodSeconds", 30), "does not wait for preStop"),
    "too little room for the first replicas": (
        _edit(f"{SPEC}/workerGroupSpecs/0/rayStartParams/num-cpus", "1"), "replicas want"),
    "a policy for pods that are not there": (
        _edit("/spec/podSelector/matchLabels/app", "x", what="NetworkPolicy/fingerpost-serve"),
        "NetworkPolicy fingerpost-serve selects no pod"),
    "a budget for pods that are not there": (
        _edit("/spec/selector/matchLabels/role", "x", what="PodDisruptionBudget/fingerpost-worker"),
        "selects no pod"),
    "a misspelt field of a policy": (
        _edit("/spec/policytypes", [], what="NetworkPolicy/fingerpost-serve"), "policytypes"),
}  # fmt: skip


_GPU = overlay(CONFIGS / "kuberay/overlays/gpu")


def _gpu() -> list[Json]:
    return deepcopy(_GPU)


@pytest.mark.parametrize(("edit", "message"), WRONG.values(), ids=WRONG)
def test_wrong_edit_of_object_is_reported(edit: Json, message: str, tmp_path: Path) -> None:
    """One wrong operation on the GPU overlay causes the problem that belongs to it."""
    objects = _gpu()
    what, operation = edit
    apply(named(objects, *what.split("/")), [operation])
    assert any(message in problem for problem in problems(objects, tmp_path))


@pytest.mark.parametrize("name", ["f" * 48, "Fingerpost", "finger_post", "1st", "post-"])
def test_invalid_service_name_is_reported(name: str) -> None:
    """A RayService name that is not a label, or is too long for KubeRay's suffix, is reported."""
    service = named(_gpu(), "RayService", "fingerpost")
    service["metadata"]["name"] = name
    assert ray_service_problems(service) == [f"{name!r} is no name for a RayService"]


DEPLOYMENTS = "/applications/0/deployments"
WRONG_SERVE = {
    "an unknown key": ({"op": "add", "path": "/http_option", "value": {}}, "no key http_option"),
    "an unknown key inside": (
        {"op": "add", "path": f"{DEPLOYMENTS}/0/autoscale_config", "value": {}},
        "Serve has no key applications.deployments.autoscale_config"),
    "an unknown key of the autoscaling": (
        {"op": "add", "path": f"{DEPLOYMENTS}/0/autoscaling_config/min_replica", "value": 1},
        "min_replica"),
    "a wrong type": (
        {"op": "replace", "path": f"{DEPLOYMENTS}/0/ray_actor_options/num_cpus", "value": "one"},
        "num_cpus"),
    "a deployment that is not there": (
        {"op": "replace", "path": f"{DEPLOYMENTS}/1/name", "value": "provider-openia"},
        "there is no deployment provider-openia"),
    "a deployment that Redis replaces": (
        {"op": "replace", "path": f"{DEPLOYMENTS}/2/name", "value": "Affinity"},
        "there is no deployment Affinity"),
    "a deployment that nobody thought of": (
        {"op": "remove", "path": f"{DEPLOYMENTS}/2"}, "provider-shared is left at its options"),
    "an address that no other pod reaches": (
        {"op": "replace", "path": "/http_options/host", "value": "127.0.0.1"}, "for other machines"),
    "a proxy on the head alone": (
        {"op": "replace", "path": "/proxy_location", "value": "HeadOnly"}, "for other machines"),
    "a file that is elsewhere": (
        {"op": "replace", "path": "/applications/0/args/config", "value": "/etc/gateway.yaml"},
        "not every pod has the file /etc/gateway.yaml"),
    "more GPUs than there are": (
        {"op": "replace", "path": f"{DEPLOYMENTS}/3/autoscaling_config/min_replicas", "value": 4},
        "the first replicas want 1.2 GPU, and there are 1"),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "message"), WRONG_SERVE.values(), ids=WRONG_SERVE)
def test_wrong_edit_of_application_is_reported(
    operation: Json, message: str, tmp_path: Path
) -> None:
    """A wrong edit of serveConfigV2, which is only a string for Kubernetes, is reported."""
    objects = _gpu()
    service = named(objects, "RayService", "fingerpost")
    content = yaml.safe_load(service["spec"]["serveConfigV2"])
    apply(content, [operation])
    service["spec"]["serveConfigV2"] = yaml.safe_dump(content)
    assert any(message in problem for problem in problems(objects, tmp_path))


WRONG_GATEWAY = {
    "an unknown key": ("version:", "versoin:", "unknown key"),
    "a door that is open": ("client_keys:", "# client_keys:", "there are no client_keys"),
    "a variable that nobody sets": ("$OPENAI_API_KEY", "$OPENAI_KEY", "refers to OPENAI_KEY"),
    "another provider": ("openai/", "ollama/", "ollama"),
}


@pytest.mark.parametrize(("good", "bad", "message"), WRONG_GATEWAY.values(), ids=WRONG_GATEWAY)
def test_wrong_edit_of_gateway_is_reported(
    good: str, bad: str, message: str, tmp_path: Path
) -> None:
    """The gateway.yaml in the ConfigMap is compiled as in a replica, and a wrong edit is reported."""
    objects = overlay(CONFIGS / "kuberay/overlays/cpu")
    config = named(objects, "ConfigMap", "fingerpost-gateway")
    config["data"]["gateway.yaml"] = config["data"]["gateway.yaml"].replace(good, bad)
    assert any(message in problem for problem in problems(objects, tmp_path))


def test_unknown_field_of_monitor_is_reported() -> None:
    """A PodMonitor field outside the known list is reported, because the operator's schema is not
    available.
    """
    monitor = {"kind": "PodMonitor", "metadata": {"name": "x"}, "spec": {"endpoints": []}}
    (problem,) = _own_schema(monitor)
    assert "PodMonitor" in problem
