"""The files for EC2: Ray's cluster launcher, and what it runs on the nodes."""

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
    """A home directory as a node has it, with a ``ray`` that shows how it was called."""
    (tmp_path / "fingerpost").mkdir()
    (tmp_path / "fingerpost/node").symlink_to(CONFIGS / "ec2/node")
    (tmp_path / "boto3.py").write_text(BOTO3)
    command = tmp_path / "bin/ray"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "ray $*" > "$HOME/called"\nenv -0 > "$HOME/environment"\n')
    command.chmod(0o755)
    (tmp_path / "bin/python").symlink_to(sys.executable)
    return tmp_path


def start(home: Path, command: str, parameters: str) -> subprocess.CompletedProcess[str]:
    """Runs a start command on such a node, with nothing else in the environment."""
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
def test_ray_takes_the_file(name: str) -> None:
    """By its schema, with its defaults filled in; what would ask AWS is not reached."""
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
def test_ray_refuses_a_wrong_edit(name: str, wrong: Json) -> None:
    """Unknown keys, wrong types, names that lead nowhere, sums that can't be."""
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config({**prepare_config(read(name)), **wrong})


@pytest.mark.parametrize("name", CLUSTERS)
def test_nodes_start_with_the_environment_of_every_cluster(name: str, node: Path) -> None:
    """That of serve.env with a token, and the keys as they are in SSM, whatever is in them."""
    parameters = "\n".join(f"{key}={value}" for key, value in KEYS.items())
    for kind in ("head", "worker"):
        stop, command = read(name)[f"{kind}_start_ray_commands"]
        assert stop == "ray stop"
        done = start(node, command, parameters)
        assert done.returncode == 0, done.stderr
        found = dict(
            item.split("=", 1) for item in (node / "environment").read_text().split("\0") if item
        )
        ours = {key: value for key, value in found.items() if key.startswith("RAY_")}
        assert ours == ENVIRONMENT | {"RAY_AUTH_TOKEN": "token", "RAY_HEAD_IP": "10.0.0.1"}
        assert found.items() >= KEYS.items()
        assert found["AWS_REGION"] == read(name)["provider"]["region"]
        called = (node / "called").read_text()
        said = "--dashboard-host=127.0.0.1" if kind == "head" else "--address=10.0.0.1:6379"
        assert said in called
        assert "--metrics-export-port=8080" in called


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("", "there are no parameters"),
        ("A-B=1", "A-B can't be variables"),
        ("a/b=1\nC=2", "a/b can't be variables"),
        ("A$(touch x)=1", "can't be variables"),
    ],
)
def test_a_node_without_good_keys_does_not_start(parameters: str, said: str, node: Path) -> None:
    """Neither without any, nor with names that are none; the values are not told."""
    for kind in ("head", "worker"):
        done = start(node, read("cluster.yaml")[f"{kind}_start_ray_commands"][1], parameters)
        assert done.returncode != 0
        assert said in done.stderr
    assert not (node / "called").exists()


def test_a_linter_can_read_what_nodes_source() -> None:
    """Its directives stand before the first command; elsewhere they are an error of their own."""
    lines = (CONFIGS / "ec2/node/environment.sh").read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    told = [index for index, line in enumerate(lines) if "# shellcheck" in line]
    assert told == [0]
    assert first > 0


def test_a_node_without_the_wheel_does_not_start(node: Path) -> None:
    """Half of an environment is worse than none."""
    (node / "bin/python").unlink()
    (node / "bin/python").write_text("#!/bin/sh\nexit 1\n")
    (node / "bin/python").chmod(0o755)
    done = start(node, read("cluster.yaml")["head_start_ray_commands"][1], "A=1")
    assert done.returncode != 0
    assert not (node / "called").exists()


@pytest.mark.parametrize("name", CLUSTERS)
def test_what_nodes_use_is_mounted(name: str) -> None:
    """Every path under ~/fingerpost lies in a mounted folder, and is there on this side."""
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
def test_what_is_served_can_be_served(name: str, tmp_path: Path) -> None:
    """Serve's schema, the names of deployments, the variables, and room for the first replicas."""
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
def test_nodes_run_our_ray_and_hold_no_key(name: str) -> None:
    """The image is that of the lock, and neither the file nor its folder has a secret."""
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


def test_idle_nodes_outlive_their_streams() -> None:
    """Ray ends a node whose last replica has gone; its proxy may still carry streams."""
    assert all(read(name)["idle_timeout_minutes"] * 60 >= 660 for name in CLUSTERS)


def test_the_two_differ_in_gpus_alone() -> None:
    """One is the other without the GPU nodes, with another folder served."""
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
    """An environment with these commands, and what a shell needs besides."""
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
def test_docker_is_installed_when_the_machine_has_time(
    name: str, busy: int, tmp_path: Path
) -> None:
    """Packages are locked on a machine's first minutes; a node without Docker is none."""
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
def test_the_first_connection_may_use_docker(name: str) -> None:
    """A new group is for later logins, and Ray's connection to the node is already there."""
    cluster = read(name)
    lists = [cluster, *cluster["available_node_types"].values()]
    for commands in (
        entry["initialization_commands"] for entry in lists if "initialization_commands" in entry
    ):
        assert any("chown ubuntu /var/run/docker.sock" in command for command in commands)


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_newest_wheel_is_installed(name: str, tmp_path: Path) -> None:
    """What is sent to a node stays there, and pip takes no two versions of a package."""
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
def test_a_changed_file_is_sent_to_every_node(name: str) -> None:
    """Ray's autoscaler sends folders to a node once, so nobody is to rely on it."""
    assert "--all-nodes" in {option for one in rsync_up.params for option in one.opts}
    assert "file_mounts_sync_continuously" not in read(name)
    for text in (DOCS, (ROOT / name).read_text()):
        told = re.findall(r"ray rsync-up ([^`]*)`", text)
        assert told
        assert all(rest.startswith("--all-nodes ") for rest in told)


def _policies() -> dict[str, Json]:
    return {
        name: json.loads(text)
        for name, text in re.findall(r"^(\w+)='(\{.*\})'$", DOCS, re.MULTILINE)
    }


def test_the_head_may_look_up_the_images_of_nodes() -> None:
    """Who starts an instance from a parameter of SSM's has to be allowed to read that parameter."""
    statements = _policies()["nodes"]["Statement"]
    (allowed,) = [one["Resource"] for one in statements if one["Action"] == "ssm:GetParameters"]
    for name in CLUSTERS:
        cluster = read(name)
        region = cluster["provider"]["region"]
        for node in cluster["available_node_types"].values():
            parameter = node["node_config"]["ImageId"].removeprefix("resolve:ssm:")
            assert fnmatch(f"arn:aws:ssm:{region}::parameter{parameter}", allowed)


def test_the_head_may_give_nodes_their_role() -> None:
    """The role that the node types name, and every policy is one that AWS can read."""
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
