"""The image, which is linted and parsed but not built."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import ray
from packaging.requirements import Requirement

from deployments.environment import HAPROXY_BINARY
from tests.deploy.sites import ENVIRONMENT, ROOT, looks_like_a_key

DOCKERFILE = ROOT / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile with its arguments, joined to one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ").splitlines()
    pairs = [line.split(None, 1) for line in joined if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage; those before the first stage have the key ``""``."""
    by_stage: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for instruction, rest in instructions(text):
        if instruction == "FROM":
            name = rest.rpartition(" AS ")[2]
            by_stage[name] = []
        by_stage[name].append((instruction, rest))
    return by_stage


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    """The environment variables that a stage sets."""
    assignments = [rest for instruction, rest in stage if instruction == "ENV"]
    return dict(pair.split("=", 1) for rest in assignments for pair in rest.split())


STAGES = stages(DOCKERFILE.read_text())


def lint(file: Path) -> str:
    return subprocess.run(
        [HADOLINT, "--no-color", file], capture_output=True, text=True, check=False
    ).stdout


def test_dockerfile_passes_hadolint() -> None:
    """Hadolint reports nothing, and no rule is ignored."""
    assert lint(DOCKERFILE) == ""
    assert "hadolint ignore" not in DOCKERFILE.read_text()


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("--no-cache-dir --no-deps --requirement", "--no-deps --requirement", "DL3042"),
        ("/ray:${RAY}-cpu AS cpu", "/ray:latest AS cpu", "DL3007"),
        ("USER 1000\nEXPOSE", "USER root\nEXPOSE", "DL3002"),
        ("RUN pip wheel", "RUN sudo pip wheel", "DL3004"),
        ("EXPOSE 8000", "EXPOSE 80000", "DL3011"),
    ],
)
def test_hadolint_reports_wrong_edit(good: str, bad: str, rule: str, tmp_path: Path) -> None:
    """Hadolint reports a wrong edit of the Dockerfile."""
    text = DOCKERFILE.read_text()
    assert good in text
    file = tmp_path / "Dockerfile"
    file.write_text(text.replace(good, bad))
    assert rule in lint(file)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_target_has_cluster_environment(name: str) -> None:
    """A target has the variables of serve.env, requires a token, and starts HAProxy without
    splicing, by a link that its build checks.
    """
    link = "/home/ray/fingerpost-haproxy"
    assert environment(STAGES[name]) == ENVIRONMENT | {HAPROXY_BINARY: link}
    runs = " ".join(rest for instruction, rest in STAGES[name] if instruction == "RUN")
    assert f'ln -s "$(command -v fingerpost-haproxy)" {link} && test -x {link}' in runs


@pytest.mark.parametrize("name", ["wheel", "cpu", "gpu"])
def test_stage_uses_locked_ray(name: str) -> None:
    """A stage uses the locked version of Ray and Python 3.11, which the lock is for."""
    assert STAGES[""] == [("ARG", f"RAY={ray.__version__}-py311")]
    kind = "gpu" if name == "gpu" else "cpu"
    assert STAGES[name][0] == ("FROM", f"rayproject/ray:${{RAY}}-{kind} AS {name}")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_target_runs_as_image_user(name: str) -> None:
    """A target runs as the user of the base image."""
    users = [rest for instruction, rest in STAGES[name] if instruction == "USER"]
    assert users == ["1000"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_target_installs_lock_and_wheel(name: str) -> None:
    """A target installs the lock and the wheel without resolving other dependencies."""
    runs = " ".join(rest for instruction, rest in STAGES[name] if instruction == "RUN")
    assert "--no-deps --requirement /tmp/requirements/base.txt" in runs
    assert "--no-deps /tmp/dist/*.whl" in runs
    assert ("gpu.sh" in runs) is (name == "gpu")


def test_copied_files_are_in_build_context() -> None:
    """.dockerignore excludes everything except the files that the image copies, and all of them
    exist.
    """
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in ignore if not rule.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    arriving = {"configs/gateway.schema.json"}  # the wheel includes it if it exists
    assert {name for name in allowed if not (ROOT / name).exists()} <= arriving
    copied = [
        source.rstrip("/")
        for stage in STAGES.values()
        for instruction, rest in stage
        if instruction == "COPY"
        for source in rest.split()[:-1]
    ]
    for name in copied:
        assert (ROOT / name).exists()
        assert any(one == name or one.startswith(f"{name}/") for one in allowed), name
    assert not [name for name in allowed if ".env" in name and name != "configs/serve.env"]


def test_wheel_files_are_in_build_context() -> None:
    """Every file that pyproject.toml puts into the wheel is in the build context."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name.removeprefix('/')}" for name in wanted} <= set(ignore)


def test_layers_do_not_contain_keys() -> None:
    """No layer contains a key, or an argument or variable for one."""
    text = DOCKERFILE.read_text()
    assert looks_like_a_key(text) == []
    names = [rest for instruction, rest in instructions(text) if instruction in {"ARG", "ENV"}]
    assert not re.search(r"(KEY|TOKEN|SECRET|PASSWORD)\w*=", " ".join(names))


@pytest.fixture
def pip_calls(tmp_path: Path) -> str:
    """The calls of pip by requirements/gpu.sh, with their constraints."""
    pip = tmp_path / "pip"
    pip.write_text(
        '#!/bin/sh\necho "$*"\nwhile [ $# -gt 1 ]; do [ "$1" = --constraint ] && cat "$2"; shift; done\nexit 0\n'
    )
    pip.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["sh", str(ROOT / "requirements/gpu.sh")],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [file.name for file in tmp_path.iterdir()] == ["pip"], "nothing is left behind"
    return done.stdout


def test_gpu_script_constrains_vllm_to_lock(pip_calls: str) -> None:
    """Every pin of the lock is a constraint for vLLM, except numpy, which vLLM needs in an older
    version.
    """
    lock = (ROOT / "requirements/base.txt").read_text()
    pins = set(re.findall(r"^([\w.-]+)(?:\[.*\])?(==[^ ;\\]+)", lock, re.MULTILINE))
    constraints = set(re.findall(r"^([\w.-]+)(==[^ ;\n]+)", pip_calls, re.MULTILINE))
    assert {pin for pin in pins if pin[0] != "numpy"} == constraints
    assert len(constraints) > 50
    assert re.search(r"install .* vllm==[\d.]+$", pip_calls, re.MULTILINE)
    assert "uninstall --quiet --yes torchvision torchaudio torchcodec" in pip_calls


def test_pinned_vllm_satisfies_project(pip_calls: str) -> None:
    """The pinned version of vLLM satisfies the requirement in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pinned,) = re.findall(r" vllm==([\d.]+)$", pip_calls, re.MULTILINE)
    for text in project.get("optional-dependencies", {}).get("gpu", []):
        wanted = Requirement(text)
        assert wanted.name != "vllm" or wanted.specifier.contains(pinned)


def test_hadolint_is_installed() -> None:
    """Hadolint is installed, so that a missing linter does not look like a clean file."""
    assert shutil.which(HADOLINT) is not None
