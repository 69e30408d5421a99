"""What the launcher reads, and the environment that it makes."""

import socket
from pathlib import Path

import pytest

from serve_app.cli.errors import LaunchError
from serve_app.cli.serve_process import cluster_environment, refuse_taken_port
from serve_app.cli.serve_yaml.read import ServeFile, read_env_file, read_serve_file
from serve_app.config.locations import ConfigError

APP = "applications:\n  - args: {config: gateway.yaml}\n"


def serve_file(directory: Path, text: str) -> ServeFile:
    file = directory / "serve.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    return read_serve_file(file)


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        (APP, "0.0.0.0", 8000, "http://127.0.0.1:8000"),
        ("http_options:\n" + APP, "0.0.0.0", 8000, "http://127.0.0.1:8000"),
        ("http_options: {port: 9}\n" + APP, "0.0.0.0", 9, "http://127.0.0.1:9"),
        ("http_options: {host: 0.0.0.0}\n" + APP, "0.0.0.0", 8000, "http://127.0.0.1:8000"),
        ("http_options: {host: 127.0.0.1}\n" + APP, "127.0.0.1", 8000, "http://127.0.0.1:8000"),
        ("http_options: {host: 10.0.0.1, port: '81'}\n" + APP, "10.0.0.1", 81, "http://10.0.0.1:81"),
        ("http_options: {host: '::1'}\n" + APP, "::1", 8000, "http://[::1]:8000"),
    ],
)  # fmt: skip
def test_a_serve_file_is_read(text: str, host: str, port: int, url: str, tmp_path: Path) -> None:
    """The address with Serve's own defaults, where to reach it, and the configuration."""
    read = serve_file(tmp_path, text)
    assert (read.host, read.port, read.url) == (host, port, url)
    assert (read.path, read.config) == (tmp_path / "serve.yaml", Path("gateway.yaml"))


def test_a_home_directory_is_expanded(tmp_path: Path) -> None:
    """As a shell would."""
    read = serve_file(tmp_path, "applications: [{args: {config: ~/gateway.yaml}}]\n")
    assert read.config == Path.home() / "gateway.yaml"


@pytest.mark.parametrize("application", ["{}", "{args: }", "{args: {}}", "{name: x}"])
def test_an_application_may_name_no_file(application: str, tmp_path: Path) -> None:
    """Then it serves what the environment has keys for."""
    file = tmp_path / "serve.yaml"
    file.write_text(f"applications: [{application}]\n")
    assert read_serve_file(file).config is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "applications:\n",
        "applications: []\n",
        "applications: [x]\n",
        "applications: [{args: {config: }}]\n",
        "applications: [{args: {config: 1}}]\n",
        "applications: {args: {config: x}}\n",
        "[]\n",
        "x\n",
        "a: [\n",
        "a: \udcff\n",
        "a: !!bool x\n",
    ],
)
def test_what_is_no_serve_file_is_refused(text: str, tmp_path: Path) -> None:
    """With the file, the place and an example of how it is written."""
    with pytest.raises(ConfigError) as caught:
        serve_file(tmp_path, text)
    (problem,) = caught.value.problems
    assert caught.value.file == str(tmp_path / "serve.yaml")
    assert problem.path == "applications"
    assert "see configs/serve.yaml" in problem.message


@pytest.mark.parametrize(
    "options",
    ["[1]", "x", "{port: x}", "{port: [1]}", "{port: }", "{port: 0}", "{port: 65536}", "{host: }"],
)
def test_bad_http_options_are_named(options: str, tmp_path: Path) -> None:
    """An address that can't be read is not blamed on the application."""
    with pytest.raises(ConfigError) as caught:
        serve_file(tmp_path, f"http_options: {options}\n{APP}")
    (problem,) = caught.value.problems
    assert problem.path.startswith("http_options")


def test_a_missing_serve_file_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(ConfigError) as caught:
        read_serve_file(tmp_path / "no.yaml")
    assert "can't be read: No such file or directory" in str(caught.value)


def test_an_environment_file_is_lines(tmp_path: Path) -> None:
    """One variable each; comments and blank lines are none, and the first sign separates."""
    file = tmp_path / "serve.env"
    file.write_text("# first\n\n A=1 \nB=\nC=x=y\r\n  # B=2\nD=é # not a comment\n", "utf-8")
    assert read_env_file(file) == {"A": "1", "B": "", "C": "x=y", "D": "é # not a comment"}


def test_a_cluster_has_an_environment_of_its_own(tmp_path: Path) -> None:
    """What is set wins over the settings, and our own places win over both."""
    base = {"A": "base", "B": "base", "RAY_TMPDIR": "/elsewhere"}
    settings = {"B": "settings", "C": "settings", "RAY_SERVE_HAPROXY_SOCKET_PATH": "/x"}
    environ = cluster_environment(base, settings, tmp_path)
    assert [environ[name] for name in "ABC"] == ["base", "base", "settings"]
    assert environ["RAY_TMPDIR"] == str(tmp_path)
    assert environ["RAY_SERVE_HAPROXY_SOCKET_PATH"] == f"{tmp_path}/haproxy/admin.sock"
    assert (base["RAY_TMPDIR"], settings["B"]) == ("/elsewhere", "settings")


def test_two_clusters_share_no_place(tmp_path: Path) -> None:
    """Every path that Serve's proxy and Ray use lies in the home directory."""
    one, two = (cluster_environment({}, {}, tmp_path / name) for name in "ab")
    paths = {name for name, value in one.items() if value.startswith("/")}
    assert all(one[name].startswith(f"{tmp_path}/a") for name in paths)
    assert all(two[name].startswith(f"{tmp_path}/b") for name in paths)
    assert {"RAY_TMPDIR", "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"} < paths


def test_ports_that_are_set_stay(tmp_path: Path) -> None:
    """A port is looked for only where nobody has said one."""
    free = cluster_environment({}, {}, tmp_path)
    ports = {name for name in free if name.endswith("_PORT")}
    said = dict.fromkeys(ports, "7")
    assert ports
    assert all(free[name].isdecimal() for name in ports)
    assert cluster_environment(said, {}, tmp_path).items() >= said.items()


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_a_taken_port_is_refused(family: socket.AddressFamily, host: str) -> None:
    """And a free one is not, with either kind of address."""
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        taken.listen()
        file = ServeFile(Path("serve.yaml"), host, taken.getsockname()[1], None)
        with pytest.raises(LaunchError, match=r"already in use.*change http_options\.port in "):
            refuse_taken_port(file)
    refuse_taken_port(file)


def test_an_address_of_another_machine_is_refused() -> None:
    """With what to change, which is not the port."""
    file = ServeFile(Path("serve.yaml"), "192.0.2.1", 8000, None)
    with pytest.raises(LaunchError, match=r"Change http_options\.host in serve\.yaml"):
        refuse_taken_port(file)
