"""The overlays for Kubernetes."""

import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from redis import Redis

from tests.deploy.kustomize import UnsupportedError, apply, named, overlay
from tests.deploy.manifests import documented_secrets, problems
from tests.deploy.sites import CONFIGS, Json, looks_like_a_key
from tests.unit.affinity.redis_server import Server

KUBERAY = CONFIGS / "kuberay"
OVERLAYS = sorted(folder.name for folder in (KUBERAY / "overlays").iterdir())


def _with_monitoring(name: str, folder: Path) -> Path:
    """A copy of all overlays, with the commented component enabled."""
    shutil.copytree(KUBERAY, folder / "kuberay")
    shutil.copytree(CONFIGS / "monitoring", folder / "monitoring")
    file = folder / "kuberay/overlays" / name / "kustomization.yaml"
    text = file.read_text()
    assert "# components:" in text
    file.write_text(text.replace("# components:", "components:").replace("#   - ", "  - "))
    return file.parent


def test_overlays_are_cpu_and_gpu() -> None:
    """There is one overlay with GPUs and one without."""
    assert OVERLAYS == ["cpu", "gpu"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_has_no_problems(name: str, tmp_path: Path) -> None:
    """An overlay is valid for Kubernetes, KubeRay, Serve and the gateway, and all its references
    resolve.
    """
    assert problems(overlay(KUBERAY / "overlays" / name), tmp_path) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_with_monitoring_has_no_problems(name: str, tmp_path: Path) -> None:
    """The monitoring component adds a PodMonitor, alerts and dashboards, and admits Prometheus."""
    objects = overlay(_with_monitoring(name, tmp_path))
    assert problems(objects, tmp_path) == []
    assert named(objects, "PrometheusRule", "fingerpost")["spec"]["groups"]
    board = named(objects, "ConfigMap", "fingerpost-dashboard-overview")
    assert board["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert set(board["data"]) == {"overview.json"}
    assert named(objects, "PodMonitor", "fingerpost")["metadata"]["namespace"] == "fingerpost"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")
@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_reader_matches_kubectl(name: str, tmp_path: Path) -> None:
    """The tests' reader of overlays builds the same objects as kustomize."""
    folder = _with_monitoring(name, tmp_path)
    built = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True
    )

    def by_name(objects: list[Json]) -> Json:
        return {(thing["kind"], thing["metadata"]["name"]): thing for thing in objects}

    assert by_name(list(yaml.safe_load_all(built.stdout))) == by_name(overlay(folder))


@pytest.mark.parametrize("key", ["commonLabels", "images", "patchesStrategicMerge"])
def test_overlay_reader_rejects_unsupported_key(key: str, tmp_path: Path) -> None:
    """The reader rejects a key that it does not support, so that tests do not check wrong objects."""
    (tmp_path / "kustomization.yaml").write_text(f"{key}: []\n")
    with pytest.raises(UnsupportedError, match=key):
        overlay(tmp_path)


@pytest.mark.parametrize(
    "operation",
    [{"op": "move", "path": "/a", "from": "/b"}, {"op": "replace", "path": "/nothing", "value": 1}],
)
def test_patch_rejects_operation_without_target(operation: Json) -> None:
    """A patch operation whose target is missing is rejected, as by kustomize."""
    with pytest.raises(UnsupportedError):
        apply({"a": 1}, [operation])


def test_only_gpu_group_requests_gpu_and_weights() -> None:
    """Except for the GPU group, which needs a GPU and the weights, both overlays have the same
    groups.
    """
    one, other = (
        named(overlay(KUBERAY / "overlays" / name), "RayService", "fingerpost")["spec"]["rayClusterConfig"]
        for name in OVERLAYS
    )  # fmt: skip
    *common, gpu = other["workerGroupSpecs"]
    assert ({**other, "workerGroupSpecs": common}) == one
    pod = gpu["template"]["spec"]
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "fetch" not in str(pod)
    assert ".complete" in str(pod["initContainers"])
    assert "envFrom" not in pod["containers"][0]


def test_full_redis_evicts_sessions_only(tmp_path: Path) -> None:
    """A full Redis evicts sessions, which expire, and keeps Ray's entries, which do not."""
    redis = named(overlay(KUBERAY / "overlays/cpu"), "StatefulSet", "fingerpost-redis")
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    words = shlex.split(container["args"][0])
    options = dict(pairwise(words))
    assert words[:2] == ["exec", "redis-server"]
    assert options["--maxmemory-policy"] == "volatile-ttl"
    most = int(options["--maxmemory"].removesuffix("mb"))
    assert 2 * most <= int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    server = Server(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "volatile-ttl")
    server.start()
    try:
        with Redis.from_url(server.url) as client:
            client.set("ray", "x" * 1000)
            for number in range(3000):
                client.set(f"session-{number}", "x" * 1000, ex=100)
            assert client.get("ray") == b"x" * 1000
            assert 1 < len(list(client.scan_iter("*"))) < 3000
    finally:
        server.kill()


HF = 'echo "$*" >> "$0.called"; [ "$2" != bad/model ] || exit 1; mkdir -p "$4"'


def _fetch(folder: Path, model: str) -> subprocess.CompletedProcess[str]:
    """Runs the Job's script with a local volume and a ``hf`` that records its arguments."""
    job = named(overlay(KUBERAY / "overlays/gpu"), "Job", "fingerpost-models")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    script = container["args"][0].replace("/models/", f"{folder}/models/")
    command = folder / "hf"
    command.write_text(f"#!/bin/sh\n{HF}\n")
    command.chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "MODEL": model}
    return subprocess.run(
        [*container["command"], script], env=environ, capture_output=True, text=True, check=False
    )


def test_weights_are_fetched_once(tmp_path: Path) -> None:
    """The Job does not fetch weights again that are complete, and does not mark a failed download
    as complete.
    """
    mark = tmp_path / "models/orchestrator/.complete"
    assert _fetch(tmp_path, "bad/model").returncode != 0
    assert not mark.exists()
    for _ in range(2):
        assert _fetch(tmp_path, "good/model").returncode == 0
        assert mark.read_text() == "good/model\n"
    called = (tmp_path / "hf.called").read_text().splitlines()
    assert [line.split()[1] for line in called] == ["bad/model", "good/model"]


def test_job_does_not_replace_other_model(tmp_path: Path) -> None:
    """The Job fails if the folder has another model, because pods read it, and names what to do."""
    _fetch(tmp_path, "good/model")
    done = _fetch(tmp_path, "another/model")
    assert done.returncode == 1
    assert "holds good/model, not another/model: take another folder" in done.stderr
    assert (tmp_path / "models/orchestrator/.complete").read_text() == "good/model\n"


def test_manifests_do_not_contain_secrets() -> None:
    """The manifests do not contain a Secret or a key, and the example file has only names."""
    for file in KUBERAY.rglob("*"):
        if file.is_file():
            assert looks_like_a_key(file.read_text()) == [], file
            assert "kind: Secret" not in file.read_text()
    example = (KUBERAY / "keys.env.example").read_text()
    names = [line for line in example.splitlines() if not line.startswith("#")]
    assert names
    assert all(line.endswith("=") for line in names)


def test_every_documented_secret_is_used() -> None:
    """Every documented Secret is used by an overlay."""
    used = str([overlay(KUBERAY / "overlays" / name) for name in OVERLAYS])
    assert all(f"'{name}'" in used for name in documented_secrets())
