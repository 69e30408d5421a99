"""The files for EC2: Ray's cluster launcher, and the scripts that it runs on nodes."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import rsync_up

from deployments.environment import HAPROXY_BINARY
from tests.deploy.sites import (
    CONFIGS,
    DOCS,
    ENVIRONMENT,
    ROOT,
    Json,
    gateway_problems,
    least,
    looks_like_a_key,
    serve_problems,
)

CLUSTERS = ["cluster.yaml", "configs/cluster.cpu.yaml"]
KEYS = {
    "OPENAI_API_KEY": "sk-'quoted' $HOME",
    "CLIENT_KEY_TEAM_A": "a",
    "CLIENT_KEY_TEAM_B": "b",
    "AFFINITY_URL": "rediss://:p@redis.example:6379/0",
    "RAY_AUTH_TOKEN": "token",
}
BOTO3 = """
import os

class Paginator:
    def paginate(self, Path, WithDecryption):
        assert WithDecryption and Path == "/fingerpost/"
        text = os.environ["PARAMETERS"]
        for line in text.splitlines():
            name, _, value = line.partition("=")
            yield {"Parameters": [{"Name": Path + name, "Value": value}]}

class Client:
    def get_paginator(self, name):
        assert name == "get_parameters_by_path"
        return Paginator()

def client(name):
    assert name == "ssm" and os.environ["AWS_REGION"]
    return Client()
"""


def read(name: str) -> Json:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A home directory like a node's, with a ``ray`` that records its call."""
    (tmp_path / "fingerpost").mkdir()
    (tmp_path / "fingerpost/node").symlink_to(CONFIGS / "ec2/node")
    (tmp_path / "boto3.py").write_text(BOTO3)
    command = tmp_path / "bin/ray"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "ray $*" > "$HOME/called"\nenv -0 > "$HOME/environment"\n')
    command.chmod(0o755)
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "bin/fingerpost-haproxy").symlink_to(command)
    return tmp_path


def start(home: Path, command: str, parameters: str) -> subprocess.CompletedProcess[str]:
    """Runs a start command on such a node, without other variables in the environment."""
    environ = {
        "HOME": str(home),
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "PYTHONPATH": f"{home}:{ROOT}",
        "RAY_HEAD_IP": "10.0.0.1",
        "PARAMETERS": parameters,
    }
    return subprocess.run(
        ["bash", "-c", command], env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", CLUSTERS)
def test_cluster_file_is_valid_for_ray(name: str) -> None:
    """Ray's schema accepts the cluster file with its defaults, without a call to AWS."""
    prepared = prepare_config(read(name))
    validate_config(prepared)
    assert "boto3" not in sys.modules
    assert prepared["available_node_types"]["head"]["max_workers"] == 0


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"max_worker": 1},
        {"docker": {"imagee": "x"}},
        {"auth": {"ssh_usr": "x"}},
        {"setup_commands": "pip install x"},
        {"head_node_type": "nobody"},
        {"max_workers": 0},
    ],
)
def test_ray_rejects_invalid_cluster_file(name: str, wrong: Json) -> None:
    """Ray's schema rejects unknown keys, wrong types, unknown names and impossible sums."""
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config({**prepare_config(read(name)), **wrong})


@pytest.mark.parametrize("name", CLUSTERS)
def test_node_starts_with_cluster_environment(name: str, node: Path) -> None:
    """A node starts Ray with the variables of serve.env, the token, and the unchanged keys from
    SSM.
    """
    parameters = "\n".join(f"{key}={value}" for key, value in KEYS.items())
    for kind in ("head", "worker"):
        stop, command = read(name)[f"{kind}_start_ray_commands"]
        assert stop == "ray stop"
        done = start(node, command, parameters)
        assert done.returncode == 0, done.stderr
        variables = dict(
            item.split("=", 1) for item in (node / "environment").read_text().split("\0") if item
        )
        ours = {
            key: value
            for key, value in variables.items()
            if key.startswith("RAY_") or key in ENVIRONMENT
        }
        assert ours == ENVIRONMENT | {
            "RAY_AUTH_TOKEN": "token",
            "RAY_HEAD_IP": "10.0.0.1",
            HAPROXY_BINARY: f"{node}/bin/fingerpost-haproxy",
        }
        assert variables.items() >= KEYS.items()
        assert variables["AWS_REGION"] == read(name)["provider"]["region"]
        called = (node / "called").read_text()
        argument = "--dashboard-host=127.0.0.1" if kind == "head" else "--address=10.0.0.1:6379"
        assert argument in called
        assert "--metrics-export-port=8080" in called


def test_node_without_the_program_for_haproxy_does_not_start(node: Path) -> None:
    """Where the wheel is not installed as expected, Ray is not started without it."""
    (node / "bin/fingerpost-haproxy").unlink()
    environ = {
        "HOME": str(node),
        "PATH": f"{node}/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{node}:{ROOT}",
    }
    command = read("cluster.yaml")["worker_start_ray_commands"][1]
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, check=False)
    assert done.returncode != 0
    assert not (node / "called").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", "there are no parameters"),
        ("A-B=1", "A-B can't be variables"),
        ("a/b=1\nC=2", "a/b can't be variables"),
        ("A$(touch x)=1", "can't be variables"),
    ],
)
def test_node_without_valid_keys_does_not_start(parameters: str, message: str, node: Path) -> None:
    """A node without parameters or with invalid names does not start, and values are not printed."""
    for kind in ("head", "worker"):
        done = start(node, read("cluster.yaml")[f"{kind}_start_ray_commands"][1], parameters)
        assert done.returncode != 0
        assert message in done.stderr
    assert not (node / "called").exists()


def test_shellcheck_directive_precedes_first_command() -> None:
    """The linter's directive is before the first command, where alone it is valid."""
    lines = (CONFIGS / "ec2/node/environment.sh").read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    directives = [index for index, line in enumerate(lines) if "# shellcheck" in line]
    assert directives == [0]
    assert first > 0


def test_node_without_wheel_does_not_start(node: Path) -> None:
    """A node whose wheel is not installed does not start Ray."""
    (node / "bin/python").unlink()
    (node / "bin/python").write_text("#!/bin/sh\nexit 1\n")
    (node / "bin/python").chmod(0o755)
    done = start(node, read("cluster.yaml")["head_start_ray_commands"][1], "A=1")
    assert done.returncode != 0
    assert not (node / "called").exists()


@pytest.mark.parametrize("name", CLUSTERS)
def test_paths_of_nodes_are_mounted(name: str) -> None:
    """Every path under ~/fingerpost is in a mounted folder and exists in the repository."""
    text = "\n".join(line for line in (ROOT / name).read_text().splitlines() if "#" not in line)
    mounts = read(name)["file_mounts"]
    serve = (ROOT / mounts["~/fingerpost/site"] / "serve.yaml").read_text()
    used = set(re.findall(r"~/fingerpost/[\w./*-]+", text + serve)) - set(mounts)
    assert len(used) >= 4
    for path in used:
        (mount,) = [mount for mount in mounts if path.startswith(f"{mount}/")]
        local = ROOT / mounts[mount] / path.removeprefix(f"{mount}/")
        assert local.exists() or mounts[mount] == "dist", path
    assert all((ROOT / local).is_dir() or local == "dist" for local in mounts.values())


@pytest.mark.parametrize("name", CLUSTERS)
def test_served_files_are_valid(name: str, tmp_path: Path) -> None:
    """The served files are valid, their variables are set, and the first replicas have room."""
    cluster = read(name)
    site = ROOT / cluster["file_mounts"]["~/fingerpost/site"]
    content = yaml.safe_load((site / "serve.yaml").read_text())
    gateway = (site / "gateway.yaml").read_text()
    assert serve_problems(tmp_path, content, gateway) == []
    assert gateway_problems(tmp_path, gateway, KEYS) == []
    assert content["applications"][0]["args"] == {"config": "~/fingerpost/site/gateway.yaml"}
    room = {"CPU": 0, "GPU": 0}
    for node in cluster["available_node_types"].values():
        for kind in room:
            room[kind] += node.get("min_workers", 0) * node["resources"].get(kind, 0)
    wanted = least(content)
    assert all(wanted[kind] <= room[kind] for kind in room), (wanted, room)
    assert (wanted["GPU"] > 0) is (room["GPU"] > 0)


@pytest.mark.parametrize("name", CLUSTERS)
def test_nodes_run_locked_ray_without_keys(name: str) -> None:
    """The images have the locked version of Ray, and the files do not contain a key."""
    cluster = read(name)
    images = [cluster["docker"]["image"]]
    for node in cluster["available_node_types"].values():
        images += [node["docker"]["worker_image"]] if "docker" in node else []
        assert node["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}
    assert {image.rpartition("-")[0] for image in images} == {
        f"rayproject/ray:{ray.__version__}-py311"
    }
    for file in [ROOT / name, *(CONFIGS / "ec2").rglob("*.*")]:
        assert looks_like_a_key(file.read_text()) == [], file


def test_idle_timeout_exceeds_longest_stream() -> None:
    """An idle node is kept longer than the longest stream, because its proxy may still carry one."""
    assert all(read(name)["idle_timeout_minutes"] * 60 >= 660 for name in CLUSTERS)


def test_cluster_files_differ_in_gpu_nodes_only() -> None:
    """The two cluster files differ only in the GPU nodes and the served folder."""
    gpu, cpu = map(read, CLUSTERS)
    node = gpu["available_node_types"].pop("gpu")
    assert node["resources"] == {"CPU": 0, "GPU": 1}
    for key in ("setup_commands", "initialization_commands"):
        common, own = gpu[key][-1:], node.get(key, node["worker_setup_commands"])
        assert set(common) <= set(own), key
    gpu["file_mounts"]["~/fingerpost/site"] = cpu["file_mounts"]["~/fingerpost/site"]
    gpu["max_workers"] = cpu["max_workers"]
    assert gpu == cpu


def fake(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment with these commands and the ones that a shell needs."""
    folder.mkdir()
    for name in ("bash", "sh", "ls", "head", "cat", "touch", "env"):
        (folder / name).symlink_to(
            f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}"
        )
    for name, script in scripts.items():
        command = folder / name.replace("_", "-")
        command.write_text(f"#!/bin/bash\n{script}\n")
        command.chmod(0o755)
    return {"HOME": str(folder.parent), "PATH": str(folder), "AT": str(folder)}


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("busy", [0, 2, 9])
def test_docker_installation_is_retried(name: str, busy: int, tmp_path: Path) -> None:
    """The installation of Docker is retried while packages are locked, and a node without Docker
    fails.
    """
    install = (
        f'echo x >> "$HOME/tries"; [ $(wc -l < "$HOME/tries") -gt {busy} ] || exit 100\n'
        'case "$*" in *install*) cp "$AT/touch" "$AT/docker";; esac'
    )
    environ = fake(
        tmp_path / "bin",
        sudo='exec "$@"',
        cloud_init="exit 2",
        apt_get=install,
        sleep='echo "$1" >> "$HOME/waited"',
    )
    for command in ("wc", "cp"):
        (tmp_path / "bin" / command).symlink_to(f"/usr/bin/{command}")
    command = read(name)["initialization_commands"][0]
    done = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, check=False)
    assert (done.returncode == 0) is (busy < 9)
    assert (tmp_path / "bin/docker").exists() is (busy < 9)
    waited = (tmp_path / "waited").read_text().split() if busy else []
    assert waited == ["10", "20", "40", "80", "160"][:busy]


@pytest.mark.parametrize("name", CLUSTERS)
def test_first_connection_may_use_docker(name: str) -> None:
    """Ray's open connection may use Docker, although a new group applies only to later logins."""
    cluster = read(name)
    lists = [cluster, *cluster["available_node_types"].values()]
    for commands in (
        entry["initialization_commands"] for entry in lists if "initialization_commands" in entry
    ):
        assert any("chown ubuntu /var/run/docker.sock" in command for command in commands)


@pytest.mark.parametrize("name", CLUSTERS)
def test_newest_wheel_is_installed(name: str, tmp_path: Path) -> None:
    """A node installs only the newest wheel, because older ones stay there and pip rejects two
    versions.
    """
    environ = fake(tmp_path / "bin", pip='for last; do :; done; echo "$last" > "$HOME/installed"')
    dist = tmp_path / "fingerpost/dist"
    dist.mkdir(parents=True)
    for age, version in enumerate(("0.10.0", "0.9.0", "0.2.0")):
        wheel = dist / f"fingerpost-{version}-py3-none-any.whl"
        wheel.touch()
        os.utime(wheel, (1e9 - age, 1e9 - age))
    cluster = read(name)
    lists = [cluster["setup_commands"]]
    lists += [
        node.get("worker_setup_commands") for node in cluster["available_node_types"].values()
    ]
    for commands in filter(None, lists):
        subprocess.run(["bash", "-c", commands[-1]], env=environ, check=True)
        installed = (tmp_path / "installed").read_text()
        assert installed == f"{dist}/fingerpost-0.10.0-py3-none-any.whl\n"


@pytest.mark.parametrize("name", CLUSTERS)
def test_changed_files_are_sent_to_all_nodes(name: str) -> None:
    """The documented command sends changed files to all nodes, because the autoscaler sends folders
    once.
    """
    assert "--all-nodes" in {option for one in rsync_up.params for option in one.opts}
    assert "file_mounts_sync_continuously" not in read(name)
    for text in (DOCS, (ROOT / name).read_text()):
        options = re.findall(r"ray rsync-up ([^`]*)`", text)
        assert options
        assert all(rest.startswith("--all-nodes ") for rest in options)


def _policies() -> dict[str, Json]:
    return {
        name: json.loads(text)
        for name, text in re.findall(r"^(\w+)='(\{.*\})'$", DOCS, re.MULTILINE)
    }


def test_head_policy_allows_image_parameters() -> None:
    """The head's policy allows it to read the SSM parameters of the nodes' images."""
    statements = _policies()["nodes"]["Statement"]
    (allowed,) = [one["Resource"] for one in statements if one["Action"] == "ssm:GetParameters"]
    for name in CLUSTERS:
        cluster = read(name)
        region = cluster["provider"]["region"]
        for node in cluster["available_node_types"].values():
            parameter = node["node_config"]["ImageId"].removeprefix("resolve:ssm:")
            assert fnmatch(f"arn:aws:ssm:{region}::parameter{parameter}", allowed)


def test_head_policy_allows_role_of_nodes() -> None:
    """The head's policy allows it to pass the role of the nodes, and every policy is valid JSON."""
    policies = _policies()
    assert set(policies) == {"trust", "keys", "nodes"}
    assert {policy["Version"] for policy in policies.values()} == {"2012-10-17"}
    (passed,) = [
        one["Resource"] for one in policies["nodes"]["Statement"] if one["Action"] == "iam:PassRole"
    ]
    for name in CLUSTERS:
        kinds = read(name)["available_node_types"]
        roles = {
            key: kind["node_config"]["IamInstanceProfile"]["Name"] for key, kind in kinds.items()
        }
        assert roles.pop("head") == "fingerpost-head"
        assert {f"arn:aws:iam::*:role/{role}" for role in roles.values()} == {passed}
