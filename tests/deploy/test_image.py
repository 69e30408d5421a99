"""The image, which is linted and read, but not built."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import ray
from packaging.requirements import Requirement

from tests.deploy.sites import ENVIRONMENT, ROOT, looks_like_a_key

DOCKERFILE = ROOT / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile with what follows it, on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ").splitlines()
    pairs = [line.split(None, 1) for line in joined if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage; those before the first one are under ``""``."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for instruction, rest in instructions(text):
        if instruction == "FROM":
            name = rest.rpartition(" AS ")[2]
            found[name] = []
        found[name].append((instruction, rest))
    return found


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    """What a stage sets."""
    said = [rest for instruction, rest in stage if instruction == "ENV"]
    return dict(pair.split("=", 1) for rest in said for pair in rest.split())


STAGES = stages(DOCKERFILE.read_text())


def lint(file: Path) -> str:
    return subprocess.run(
        [HADOLINT, "--no-color", file], capture_output=True, text=True, check=False
    ).stdout


def test_hadolint_has_nothing_to_say() -> None:
    """Nothing at all, and nothing is ignored."""
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
def test_hadolint_finds_a_wrong_edit(good: str, bad: str, rule: str, tmp_path: Path) -> None:
    """So that the test above says something."""
    text = DOCKERFILE.read_text()
    assert good in text
    file = tmp_path / "Dockerfile"
    file.write_text(text.replace(good, bad))
    assert rule in lint(file)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_target_has_the_environment_of_every_cluster(name: str) -> None:
    """That of serve.env, but that nobody gets in without a token."""
    assert environment(STAGES[name]) == ENVIRONMENT


@pytest.mark.parametrize("name", ["wheel", "cpu", "gpu"])
def test_a_stage_is_made_of_our_ray(name: str) -> None:
    """The version of the lock, and Python 3.11, for which the lock is."""
    assert STAGES[""] == [("ARG", f"RAY={ray.__version__}-py311")]
    kind = "gpu" if name == "gpu" else "cpu"
    assert STAGES[name][0] == ("FROM", f"rayproject/ray:${{RAY}}-{kind} AS {name}")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_target_runs_as_the_images_user(name: str) -> None:
    """And nothing in between changes that."""
    users = [rest for instruction, rest in STAGES[name] if instruction == "USER"]
    assert users == ["1000"]


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_target_installs_the_lock_and_the_wheel(name: str) -> None:
    """Both without what pip would choose itself."""
    runs = " ".join(rest for instruction, rest in STAGES[name] if instruction == "RUN")
    assert "--no-deps --requirement /tmp/requirements/base.txt" in runs
    assert "--no-deps /tmp/dist/*.whl" in runs
    assert ("gpu.sh" in runs) is (name == "gpu")


def test_what_is_copied_gets_into_the_context() -> None:
    """.dockerignore leaves everything out but what the image is made of, which is all there."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in ignore if not rule.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    arriving = {"configs/gateway.schema.json"}  # the wheel takes it, if there is one
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


def test_the_images_wheel_is_the_same_as_any_other() -> None:
    """What pyproject.toml puts into it gets into the context; a file that is missing is no error."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name.removeprefix('/')}" for name in wanted} <= set(ignore)


def test_no_layer_holds_a_key() -> None:
    """Neither a value, nor an argument or a variable that would ask for one."""
    text = DOCKERFILE.read_text()
    assert looks_like_a_key(text) == []
    names = [rest for instruction, rest in instructions(text) if instruction in {"ARG", "ENV"}]
    assert not re.search(r"(KEY|TOKEN|SECRET|PASSWORD)\w*=", " ".join(names))


@pytest.fixture
def asked(tmp_path: Path) -> str:
    """What requirements/gpu.sh asks a pip for, and with which constraints."""
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


def test_vllm_is_pinned_within_what_the_lock_pins(asked: str) -> None:
    """Each line of the lock is a constraint, but numpy, of which vLLM wants an older one."""
    lock = (ROOT / "requirements/base.txt").read_text()
    pins = set(re.findall(r"^([\w.-]+)(?:\[.*\])?(==[^ ;\\]+)", lock, re.MULTILINE))
    constraints = set(re.findall(r"^([\w.-]+)(==[^ ;\n]+)", asked, re.MULTILINE))
    assert {pin for pin in pins if pin[0] != "numpy"} == constraints
    assert len(constraints) > 50
    assert re.search(r"install .* vllm==[\d.]+$", asked, re.MULTILINE)
    assert "uninstall --quiet --yes torchvision torchaudio torchcodec" in asked


def test_the_pinned_vllm_is_one_that_the_project_takes(asked: str) -> None:
    """Where pyproject.toml names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pinned,) = re.findall(r" vllm==([\d.]+)$", asked, re.MULTILINE)
    for text in project.get("optional-dependencies", {}).get("gpu", []):
        wanted = Requirement(text)
        assert wanted.name != "vllm" or wanted.specifier.contains(pinned)


def test_the_linter_is_there() -> None:
    """From the test lock; a linter that is missing must not look like a clean file."""
    assert shutil.which(HADOLINT) is not None
