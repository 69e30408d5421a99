"""The command line: its output, and its exit status."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from serve_app.cli import serve_process
from serve_app.cli.errors import LaunchError
from serve_app.cli.main import COMMANDS, main
from serve_app.cli.version import installed_version
from serve_app.packaged_files import PROJECT
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of


@pytest.mark.parametrize("command", ["check", "run"])
def test_bad_file_fails(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status is 1, and all problems go to standard error without a traceback."""
    bad = tmp_path / "gateway.yaml"
    bad.write_text(VERSION + "zzz: 1\nmodel_providers: 1\n")
    (tmp_path / "serve.yaml").write_text(
        f"http_options: {{host: 127.0.0.1}}\napplications: [{{args: {{config: '{bad}'}}}}]\n"
    )
    file = bad if command == "check" else tmp_path / "serve.yaml"
    assert main([command, str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{bad} has 2 problems:\n  line 2: zzz: unknown key")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["check", "run"])
def test_missing_file_fails(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 1, with the reason."""
    assert main([command, str(tmp_path / "no.yaml")]) == 1
    expected = "cannot read the file: No such file or directory; check its path"
    assert expected in capsys.readouterr().err


def test_run_needs_the_environment_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started without it."""
    snapshot_of(tmp_path, VERSION)
    file = tmp_path / "serve.yaml"
    file.write_text(
        "http_options: {host: 127.0.0.1}\n"
        f"applications: [{{args: {{config: '{tmp_path}/gateway.yaml'}}}}]\n"
    )
    assert main(["run", str(file), "--env", str(tmp_path / "no.env")]) == 1
    assert f"cannot read {tmp_path}/no.env: No such file" in capsys.readouterr().err


SERVE: Final = """\
http_options: {{host: 127.0.0.1}}
applications:
  - import_path: serve_app.app:build
    args: {{config: {config}}}
    deployments: [{entry}]
"""


def serve_file(folder: Path, entry: str) -> Path:
    config, file = folder / "gateway.yaml", folder / "serve.yaml"
    config.write_text(f"{VERSION}model_providers: [{{model: openai/a}}]\n")
    file.write_text(SERVE.format(config=config, entry=entry))
    return file


def test_run_refuses_what_serve_would_never_deploy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Serve would wait without end, and hardly report it."""
    assert main(["run", str(serve_file(tmp_path, "{name: provider-openia}"))]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "line 5: applications[0].deployments[0].name" in captured.err
    assert captured.err.endswith("did you mean 'provider-openai'?\n")


@pytest.mark.parametrize(
    ("entry", "end"), [("", "the log\n"), ("{name: Ingress, num_replica: 2}", "'num_replicas'?\n")]
)
def test_failed_start_reports_problems_of_the_file(
    entry: str,
    end: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They follow the end of Serve's log; a good file adds nothing."""

    def fails(*_: object, **__: object) -> None:
        raise LaunchError("serve run ended:\nthe log")

    monkeypatch.setattr(serve_process, "run", fails)
    assert main(["run", str(serve_file(tmp_path, entry))]) == 1
    captured = capsys.readouterr().err
    assert captured.startswith("serve run ended:\nthe log\n")
    assert captured.endswith(end)


def test_run_refuses_other_machines_without_client_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing listens where other machines can reach it."""
    snapshot_of(tmp_path, VERSION)
    file = tmp_path / "serve.yaml"
    file.write_text(f"applications: [{{args: {{config: '{tmp_path}/gateway.yaml'}}}}]\n")
    assert main(["run", str(file)]) == 1
    assert "Serve listens on 0.0.0.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["check"], ["check", "--json"], ["run", "a", "b"], ["check", "--x"],
        ["check", "a", "b"], ["check", "--serve"], ["migrate"], ["migrate", "a", "b"],
    ],
)  # fmt: skip
def test_usage_error_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The usage goes to standard error."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fingerpost" in capsys.readouterr().err


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command is named, and the exit status is 0."""
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert (out.startswith("usage: fingerpost"), err) == (True, "")
    assert re.findall(r"^    (\w+) ", out, re.MULTILINE) == list(COMMANDS)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """As pyproject.toml has it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"fingerpost {project['version']}\n", "")


def test_version_of_a_checkout_is_that_of_its_project_file(tmp_path: Path) -> None:
    """Without an installed package and without that file it is unknown."""
    assert installed_version("no-such-package", tmp_path) == "unknown"
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.8.9"\n')
    assert installed_version("no-such-package", tmp_path) == "7.8.9"
    (tmp_path / "pyproject.toml").write_text("[project")
    assert installed_version("no-such-package", tmp_path) == "unknown"


OLD: Final = "# ours\nversion: v0.3.0\nmodel_providers:\n  - model: openai/gpt-4o  # best\n"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    file = tmp_path / "plano_config.yaml"
    file.write_bytes(OLD.encode())
    file.chmod(0o640)
    return file


def test_migrate_prints_the_new_format(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The comments are kept, the changes go to standard error, and the file is not changed."""
    assert main(["migrate", str(old)]) == 0
    out, err = capsys.readouterr()
    assert out == OLD.replace("v0.3.0", "v0.4.0")
    assert err == "version: changed from v0.3.0 to v0.4.0\n"
    assert old.read_bytes() == OLD.encode()


def test_migrate_replaces_the_file(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mode is kept, and a second run changes nothing."""
    assert main(["migrate", "--write", str(old)]) == 0
    assert capsys.readouterr().out == ""
    assert old.read_bytes() == OLD.replace("v0.3.0", "v0.4.0").encode()
    assert old.stat().st_mode & 0o777 == 0o640
    before = old.stat().st_mtime_ns
    assert main(["migrate", "--write", str(old)]) == 0
    assert f"{old} has the format of v0.4 already\n" in capsys.readouterr().err
    assert old.stat().st_mtime_ns == before


def test_migrate_prints_warnings(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They go to standard error, so that standard output can be redirected to a file."""
    twice = "      routing_preferences: [{name: code, description: %s}]\n"
    text = (
        OLD.replace("  # best", "")
        + twice[2:] % "one"
        + "  - model: openai/b\n"
        + twice[2:] % "two"
    )
    old.write_text(text)
    assert main(["migrate", str(old)]) == 0
    out, err = capsys.readouterr()
    assert "version: v0.4.0" in out
    assert err.splitlines()[-1] == (
        "warning: model_providers[1].routing_preferences[0].description is ignored: "
        "route 'code' keeps the first one; remove this one"
    )


@pytest.mark.parametrize("write", [[], ["--write"]])
def test_invalid_file_is_not_migrated(
    write: list[str], old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 1, and the reason goes to standard error."""
    for content, why in (
        (b"a: [\n", "has 1 problem:\n  line 2: invalid YAML"),
        (b"\xff\xfe", "cannot read the file: it is not UTF-8"),
    ):
        old.write_bytes(content)
        assert main(["migrate", *write, str(old)]) == 1
        out, err = capsys.readouterr()
        assert (out, why in err, old.read_bytes()) == ("", True, content)
    old.unlink()
    assert main(["migrate", *write, str(old)]) == 1
    expected = "cannot read the file: No such file or directory; check its path"
    assert expected in capsys.readouterr().err


def test_migrate_does_not_replace_a_link(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The link would become a file."""
    link = old.with_name("link.yaml")
    link.symlink_to(old)
    assert main(["migrate", "--write", str(link)]) == 1
    assert f"{link} has 1 problem:\n  a link to {old}" in capsys.readouterr().err
    assert old.read_bytes() == OLD.encode()
