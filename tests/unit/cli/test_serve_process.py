"""The environment of a cluster, and the port that the gateway listens on."""

import socket
from pathlib import Path

import pytest

from serve_app.cli.errors import LaunchError
from serve_app.cli.haproxy import NO_SPLICING, VARIABLE
from serve_app.cli.serve_process import cluster_environment, refuse_taken_port
from serve_app.cli.serve_yaml.read import ServeFile


def test_environment_of_a_cluster_is_its_own(tmp_path: Path) -> None:
    """Variables that are set override the settings, and paths of the cluster override both."""
    base = {"A": "base", "B": "base", "RAY_TMPDIR": "/elsewhere", "TMPDIR": "/elsewhere"}
    settings = {"B": "settings", "C": "settings", "RAY_SERVE_HAPROXY_SOCKET_PATH": "/x"}
    environ = cluster_environment(base, settings, tmp_path)
    assert [environ[name] for name in "ABC"] == ["base", "base", "settings"]
    assert environ["RAY_TMPDIR"] == environ["TMPDIR"] == str(tmp_path)
    assert environ["RAY_SERVE_HAPROXY_SOCKET_PATH"] == f"{tmp_path}/haproxy/admin.sock"
    assert (base["RAY_TMPDIR"], settings["B"]) == ("/elsewhere", "settings")


@pytest.mark.parametrize(
    ("base", "settings", "expected"),
    [
        ({}, {"no_grpc_proxy": "0.0.0.0/0"}, "0.0.0.0/0"),
        ({"no_grpc_proxy": "h"}, {"no_grpc_proxy": "0.0.0.0/0"}, "0.0.0.0/0,h"),
        ({"no_grpc_proxy": "h"}, {}, "h"),
        ({"no_grpc_proxy": ""}, {}, ""),
        ({}, {}, None),
    ],
)
def test_addresses_without_a_proxy_are_those_of_both(
    base: dict[str, str], settings: dict[str, str], expected: str | None, tmp_path: Path
) -> None:
    """A user's own list does not take the hop's addresses back."""
    assert cluster_environment(base, settings, tmp_path).get("no_grpc_proxy") == expected


def test_two_clusters_share_no_path(tmp_path: Path) -> None:
    """Every path of Serve's proxy and of Ray is in the home folder of the cluster."""
    one, two = (cluster_environment({}, {}, tmp_path / name) for name in "ab")
    paths = {name for name, value in one.items() if value.startswith("/")}
    assert all(one[name].startswith(f"{tmp_path}/a") for name in paths)
    assert all(two[name].startswith(f"{tmp_path}/b") for name in paths)
    assert {"RAY_TMPDIR", "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"} < paths


def test_haproxy_does_not_splice(tmp_path: Path) -> None:
    """The environment names a program that starts HAProxy so, unless another one is named."""
    program = Path(cluster_environment({}, {}, tmp_path)[VARIABLE])
    assert program.parent == tmp_path
    assert NO_SPLICING in program.read_text()
    named = cluster_environment({VARIABLE: "/x"}, {}, tmp_path / "other")
    assert named[VARIABLE] == "/x"
    assert not (tmp_path / "other").exists()


def test_ports_that_are_set_are_kept(tmp_path: Path) -> None:
    """Free ports are chosen for the others."""
    free = cluster_environment({}, {}, tmp_path)
    ports = {name for name in free if name.endswith("_PORT")}
    chosen = dict.fromkeys(ports, "7")
    assert ports
    assert all(free[name].isdecimal() for name in ports)
    assert cluster_environment(chosen, {}, tmp_path).items() >= chosen.items()


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_taken_port_is_refused(family: socket.AddressFamily, host: str) -> None:
    """A free one is accepted, with IPv4 and IPv6."""
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        taken.listen()
        file = ServeFile(Path("serve.yaml"), host, taken.getsockname()[1], None)
        with pytest.raises(LaunchError, match=r"already in use.*change http_options\.port in "):
            refuse_taken_port(file)
    refuse_taken_port(file)


def test_address_of_another_machine_is_refused() -> None:
    """The message names the key to change."""
    file = ServeFile(Path("serve.yaml"), "192.0.2.1", 8000, None)
    with pytest.raises(LaunchError, match=r"change http_options\.host in serve\.yaml"):
        refuse_taken_port(file)
