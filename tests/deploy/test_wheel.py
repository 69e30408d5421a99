"""The wheel, installed outside the checkout."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.deploy.sites import ROOT
from tests.deploy.wheel import Installed, build, install

CONFIGS = (
    "gateway.gpu.yaml",
    "gateway.schema.json",
    "gateway.yaml",
    "serve.env",
    "serve.gpu.yaml",
    "serve.yaml",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A virtual environment with the wheel, installed once."""
    return install(wheel, tmp_path_factory.mktemp("venv"))


def test_wheel_contains_all_tracked_files(wheel: Path) -> None:
    """The wheel contains every tracked file of the packages and the example configuration, and
    nothing else.
    """
    listed = subprocess.run(
        ["git", "ls-files", "serve_app", "deployments"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {name for name in listed.stdout.split() if (ROOT / name).exists()}
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        for name in CONFIGS:
            assert (
                archive.read(f"serve_app/configs/{name}") == (ROOT / "configs" / name).read_bytes()
            )
    assert inside >= tracked | {f"serve_app/configs/{name}" for name in CONFIGS}
    suffixes = {Path(name).suffix for name in inside}
    page = {".html", ".css", ".js", ".svg"}
    assert {".onnx", ".bin", ".txt", ".json", ".py", ".env", ".yaml"} | page == suffixes


def test_installed_package_is_not_the_checkout(installed: Installed, tmp_path: Path) -> None:
    """The environment imports the packages from the wheel and not from the checkout."""
    script = "import serve_app, deployments; print(serve_app.__file__, deployments.__file__)"
    paths = installed.run(["python", "-c", script], tmp_path).stdout.split()
    assert len(paths) == 2
    assert all(name.startswith(str(installed.folder)) for name in paths)


def test_packaged_example_is_found_and_valid(installed: Installed, tmp_path: Path) -> None:
    """In an empty folder the packaged example is found under the default names of ``fingerpost
    run``.
    """
    script = (
        "from pathlib import Path\n"
        "from serve_app.cli.serve_yaml.read import read_env_file, read_serve_file\n"
        "found = read_serve_file(Path('configs/serve.yaml'))\n"
        "assert read_env_file(Path('configs/serve.env'))['RAY_SERVE_ENABLE_HA_PROXY'] == '1'\n"
        "print(found.path, found.config, found.url)\n"
    )
    done = installed.run(["python", "-c", script], tmp_path)
    serve, config, url = done.stdout.split()
    assert url == "http://127.0.0.1:8000"
    assert all(name.startswith(str(installed.folder)) for name in (serve, config))
    checked = installed.run(["fingerpost", "check", config], tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "model openai/gpt-4o, default" in checked.stdout


def test_check_finds_packaged_example(installed: Installed, tmp_path: Path) -> None:
    """In an empty folder ``fingerpost check`` finds the same packaged example as ``fingerpost
    run``.
    """
    for arguments in (["--serve", "configs/serve.yaml"], ["configs/gateway.yaml"]):
        checked = installed.run(["fingerpost", "check", *arguments], tmp_path)
        assert checked.returncode == 0, checked.stderr
        assert "model openai/gpt-4o, default" in checked.stdout


def test_engine_of_wheel_scores_text(installed: Installed, tmp_path: Path) -> None:
    """The wheel contains the model and the vocabulary that the embedded engine needs."""
    script = "from serve_app.packaged_files import PROJECT; print(PROJECT / 'configs/gateway.yaml')"
    config = installed.run(["python", "-c", script], tmp_path).stdout.strip()
    text = "Why does this raise IndexError? xs[len(xs)]"
    done = installed.run(["fingerpost", "route", "--config", config, text], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "decided: code" in done.stdout
