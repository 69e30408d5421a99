"""The pages in docs/operate compared with the files that they describe."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serve_app.app import build
from serve_app.cli.main import main
from serve_app.telemetry.metrics import Metric
from tests.deploy.kubernetes import schema_problems
from tests.deploy.kustomize import named, overlay
from tests.deploy.sites import (
    CONFIGS,
    DOCS,
    ENVIRONMENT,
    ROOT,
    Json,
    graph,
    least,
    looks_like_a_key,
)

TEXT = DOCS
TIMES = "\N{MULTIPLICATION SIGN}"
MADE = {"dist/fingerpost-0.1.0-py3-none-any.whl"}


def blocks(language: str) -> list[str]:
    """The code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_named_files_exist() -> None:
    """Every file that a sentence, a table or a command names exists."""
    inside = (
        r"(?<![\w/.~-])((?:configs|requirements|docs|serve_app|tests|benchmarks|dist)/[\w./-]*\w)"
    )
    named = set(re.findall(inside, TEXT)) | {"cluster.yaml", "Dockerfile", ".dockerignore"}
    assert len(named) > 20
    assert [name for name in named - MADE if not (ROOT / name).exists()] == []


def test_make_targets_exist() -> None:
    """Every make target in the text exists."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)$", TEXT, re.MULTILINE))
    assert {"run", "wheel", "install"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_wheel_and_image_have_project_version() -> None:
    """Every name of the wheel and of an image has the project's version."""
    (version,) = re.findall(
        r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert set(re.findall(r"fingerpost-([\d.]+)-py3", TEXT)) == {version}
    tags = re.findall(r"fingerpost:([\d.]+)-[cg]pu", TEXT)
    for file in [ROOT / "Dockerfile", *(CONFIGS / "kuberay").rglob("*.yaml")]:
        tags += re.findall(r"fingerpost:([\d.]+)-[cg]pu", file.read_text())
    assert set(tags) == {version}


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.split("\n")[0].strip())
def test_yaml_blocks_are_valid(block: str) -> None:
    """Every YAML block is valid, and Kubernetes objects fit their schemas."""
    content: Json = yaml.safe_load(block)
    assert content
    if "kind" in content:
        assert list(schema_problems(content)) == []


def test_shell_blocks_are_valid() -> None:
    """Bash parses every shell block."""
    for block in blocks("sh"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_named_metrics_exist() -> None:
    """Every metric that the text names exists, with Ray's prefix."""
    known = {f"ray_{metric.value}" for metric in Metric}
    named = set(re.findall(r"`(ray_(?:fingerpost|gen_ai)_\w+)`", TEXT))
    assert len(named) >= 10
    assert named <= known


def _measured(load: str, process: str) -> float:
    """Milliseconds of one process, or of all, at eight concurrent requests."""
    text = (ROOT / "benchmarks/results/overhead.md").read_text()
    kind, variant = load.split()
    if process == "all":
        (row,) = re.findall(rf"^\| {kind} c=8 \| {variant} \|(.*)\|$", text, re.MULTILINE)
        return float(row.split("|")[4])
    (line,) = re.findall(rf"^- {kind} c=8 {variant}: (.*)$", text, re.MULTILINE)
    (milliseconds,) = re.findall(rf"{process}\S* ([\d.]+)", line)
    return float(milliseconds)


ROWS = {
    "complete answer, `dedicated`": "unary fingerpost-dedicated",
    "complete answer, `inline`": "unary fingerpost-inline",
    "stream of 52 events, `dedicated`": "stream fingerpost-dedicated",
    "stream of 52 events, `inline`": "stream fingerpost-inline",
}


@pytest.mark.parametrize("row", ROWS)
def test_costs_match_measurements(row: str) -> None:
    """The costs in the table match the recorded measurements within a tenth or the last digit."""
    (cells,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", TEXT, re.MULTILINE)
    figures = [cell.strip() for cell in cells.split("|")]
    processes = ("fingerpost:Ingress", "fingerpost:provider", "haproxy", "all")
    for figure, process in zip(figures, processes, strict=True):
        if figure:
            measured = _measured(ROWS[row], process)
            assert float(figure) == pytest.approx(measured, rel=0.1, abs=0.06), process


SCALED = {
    "decisions: the Orchestrator alone": "decisions",
    "complete answers, `dedicated`: that provider's client alone": "answers, dedicated",
    "complete answers, `inline`: the ingress alone": "answers, inline",
}


@pytest.mark.parametrize("row", SCALED)
def test_scaling_times_match_measurements(row: str) -> None:
    """The scaling times in the table match the recorded run."""
    (cells,) = re.findall(rf"^\| {re.escape(row)} \|(.*)\|$", TEXT, re.MULTILINE)
    text = (ROOT / "benchmarks/results/autoscaling.md").read_text()
    (line,) = re.findall(rf"^\| \d+ clients, {SCALED[row]} \|(.*)\|$", text, re.MULTILINE)
    assert line.split("|")[2:] == cells.split("|")


def test_example_sums_are_correct() -> None:
    """The example's sums follow from its own figures."""
    total, ingress, client = 3.6, 2.0, 1.4
    stream = total + 300 * 0.33
    assert f"300 {TIMES} 0.33 ms | {stream:.0f} ms" in TEXT
    cores = 20 * stream / 1e3
    assert f"{cores:.1f} cores" in TEXT
    spare = cores / 0.6
    assert f"{cores:.1f} / 0.6 | {spare:.1f} cores" in TEXT
    shares = round(ingress / total, 2), round(client / total, 2)
    for share in shares:
        assert f"{spare:.1f} {TIMES} {share} | {spare * share:.1f} cores" in TEXT
    assert (
        f"200 {TIMES} 20 {TIMES} 0.33 ms {TIMES} {shares[0]} = {200 * 20 * 0.33e-3 * shares[0]:.2f}"
        in TEXT
    )


def test_named_deployments_exist() -> None:
    """Every deployment in an example exists in the graph of the packaged configuration."""
    there = graph(build({"config": str(CONFIGS / "gateway.yaml")}))
    named = {name for block in blocks("yaml") for name in re.findall(r"- name: (\S+)", block)}
    assert {"Ingress", "provider-openai", "Orchestrator"} <= named <= {*there, "fingerpost"}


@pytest.mark.parametrize("site", ["cpu", "gpu"])
def test_medium_size_matches_files(site: str) -> None:
    """The CPUs of the medium size match the files; a GPU replaces the Orchestrator's two CPUs."""
    wanted = least(yaml.safe_load((CONFIGS / f"ec2/{site}/serve.yaml").read_text()))
    assert "2 + 1.5 + 0.25 + 2 = 5.75 CPUs" in TEXT
    assert wanted["CPU"] == (5.75 if site == "cpu" else 3.75)


def test_shutdown_times_match_files() -> None:
    """The shutdown times in the text match each other and the files."""
    stop = ENVIRONMENT["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]
    assert f"`RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S`, {stop} s" in TEXT
    service = (CONFIGS / "kuberay/base/rayservice.yaml").read_text()
    assert f"rayClusterDeletionDelaySeconds: {stop}" in service
    assert f"`rayClusterDeletionDelaySeconds`, {stop} s" in TEXT


def test_text_does_not_contain_keys() -> None:
    """The text does not contain a string that looks like a key."""
    assert looks_like_a_key(TEXT) == []


CHECKS = sorted(
    {
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("fingerpost check --serve ")
    }
)


@pytest.mark.parametrize("line", CHECKS)
def test_documented_checks_pass(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented check commands succeed for the files that the text extracts."""
    service = named(overlay(CONFIGS / "kuberay/overlays/cpu"), "RayService", "fingerpost")
    (tmp_path / "serve.yaml").write_text(service["spec"]["serveConfigV2"])
    (tmp_path / "configs").symlink_to(CONFIGS)
    monkeypatch.chdir(tmp_path)
    assert main(line.split()[1:]) == 0


def test_text_documents_check_for_both_clusters() -> None:
    """The text documents a check command for both kinds of cluster."""
    assert {line.split()[3] for line in CHECKS} >= {"configs/ec2/cpu/serve.yaml", "serve.yaml"}


def test_documented_script_extracts_application(tmp_path: Path) -> None:
    """The documented Python script extracts serveConfigV2 from the objects."""
    (script,) = re.findall(r"^python -c '\n(.*?)'$", TEXT, re.DOTALL | re.MULTILINE)
    objects = overlay(CONFIGS / "kuberay/overlays/cpu")
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    service = named(objects, "RayService", "fingerpost")
    assert (tmp_path / "serve.yaml").read_text() == service["spec"]["serveConfigV2"]


def test_documented_shutdown_deletes_redis_last() -> None:
    """The documented commands delete the cluster and wait for it before they delete Redis."""
    (block,) = [block for block in blocks("sh") if "delete rayservice" in block]
    commands = [line.split(" -n fingerpost ")[-1].split()[:2] for line in block.splitlines()]
    assert [" ".join(words) for words in commands] == [
        "delete rayservice",
        "wait --for=delete",
        "kubectl delete",
    ]
