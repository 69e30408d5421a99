"""What is read of a serve.yaml and of a serve.env."""

from pathlib import Path

import pytest

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
def test_serve_file_is_read(text: str, host: str, port: int, url: str, tmp_path: Path) -> None:
    """The result has Serve's default address, the URL from this machine, and the configuration."""
    read = serve_file(tmp_path, text)
    assert (read.host, read.port, read.url) == (host, port, url)
    assert (read.path, read.config) == (tmp_path / "serve.yaml", Path("gateway.yaml"))


def test_home_folder_is_expanded(tmp_path: Path) -> None:
    """``~`` is replaced as by a shell."""
    read = serve_file(tmp_path, "applications: [{args: {config: ~/gateway.yaml}}]\n")
    assert read.config == Path.home() / "gateway.yaml"


@pytest.mark.parametrize("application", ["{}", "{args: }", "{args: {}}", "{name: x}"])
def test_application_without_config_is_read(application: str, tmp_path: Path) -> None:
    """The gateway is then configured by the keys in the environment."""
    file = tmp_path / "serve.yaml"
    file.write_text(f"applications: [{application}]\n")
    assert read_serve_file(file).config is None


APPLICATIONS = (
    "must be a list of applications, each with `args: {config: PATH}` or no args; "
    "see configs/serve.yaml"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: file is empty; start with `applications:`"),
        ("applications:\n", f"line 1: applications: {APPLICATIONS}"),
        ("http_options: {}\n", f"line 1: applications: {APPLICATIONS}"),
        ("applications: []\n", f"line 1: applications: {APPLICATIONS}"),
        ("applications: [x]\n", f"line 1: applications: {APPLICATIONS}"),
        ("applications: [{args: {config: }}]\n", f"line 1: applications: {APPLICATIONS}"),
        ("applications: [{args: {config: 1}}]\n", f"line 1: applications: {APPLICATIONS}"),
        ("applications: {args: {config: x}}\n", f"line 1: applications: {APPLICATIONS}"),
        ("applications: []\napplications: []\n", "line 2: applications: duplicate key; keep one"),
        ("[]\n", "line 1: must be a mapping of keys, such as `applications:`"),
        ("x\n", "line 1: must be a mapping of keys, such as `applications:`"),
        ("a: [\n", "line 2: invalid YAML: expected the node content, but found '<stream end>'"),
        ("a: \udcff\n", "line 1: invalid YAML: invalid start byte; save it as plain text in UTF-8"),
        ("a: !!bool x\n", "line 1: invalid YAML: 'x' does not match its tag"),
    ],
)
def test_a_file_that_is_not_a_serve_file_is_refused(
    text: str, expected: str, tmp_path: Path
) -> None:
    """With its line, as every other YAML file."""
    with pytest.raises(ConfigError) as caught:
        serve_file(tmp_path, text)
    (problem,) = caught.value.problems
    assert (caught.value.file, str(problem)) == (str(tmp_path / "serve.yaml"), expected)


@pytest.mark.parametrize(
    "options",
    ["[1]", "x", "{port: x}", "{port: [1]}", "{port: }", "{port: 0}", "{port: 65536}", "{host: }"],
)
def test_bad_http_options_are_refused(options: str, tmp_path: Path) -> None:
    """The problem is at the options, not at the application."""
    with pytest.raises(ConfigError) as caught:
        serve_file(tmp_path, f"http_options: {options}\n{APP}")
    (problem,) = caught.value.problems
    assert str(problem) == (
        "line 1: http_options: must have a host, and a port from 1 to 65535; "
        "write `{host: 127.0.0.1, port: 8000}`"
    )


def test_missing_serve_file_is_refused(tmp_path: Path) -> None:
    """The message has the reason of the system."""
    with pytest.raises(ConfigError) as caught:
        read_serve_file(tmp_path / "no.yaml")
    assert "cannot read the file: No such file or directory" in str(caught.value)


def test_environment_file_is_read_by_lines(tmp_path: Path) -> None:
    """The first equals sign separates; comments and blank lines are skipped."""
    file = tmp_path / "serve.env"
    file.write_text("# first\n\n A=1 \nB=\nC=x=y\r\n  # B=2\nD=é # not a comment\n", "utf-8")
    assert read_env_file(file) == {"A": "1", "B": "", "C": "x=y", "D": "é # not a comment"}
