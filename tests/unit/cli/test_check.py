"""``fingerpost check``: what it reports, and when it fails."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli.main import main
from serve_app.cli.summary import summary, summary_json
from tests.unit.config_texts import VERSION
from tests.unit.engines.vllm.checkpoints import write_checkpoint
from tests.unit.fakes import snapshot_of

KEYED: Final = VERSION + "model_providers:\n  - {model: openai/a, access_key: $UNIT_KEY}\n"
NOTED: Final = (
    VERSION + "routing_preferences: [{name: a, description: b, models: [vllm/m], examples: [x]}]\n"
)
NOTED_MODEL: Final = "model_providers: [{model: vllm/m, base_url: 'http://h'}]\n"
SERVE: Final = """\
http_options: {{host: 127.0.0.1}}
applications:
  - import_path: serve_app.app:build
    args: {{config: '{config}'}}
"""

Run = Callable[..., tuple[int, str, str]]
"""A command's exit status, and what it wrote to both outputs."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: object) -> tuple[int, str, str]:
        status = main(["check", *map(str, arguments)])
        return status, *capsys.readouterr()

    return command


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIT_KEY", raising=False)


def gateway(directory: Path, text: str) -> Path:
    file = directory / "gateway.yaml"
    file.write_text(text)
    return file


def serve(directory: Path, text: str = SERVE) -> Path:
    file = directory / "serve.yaml"
    file.write_text(text.format(config=directory / "gateway.yaml"))
    return file


def test_good_file_is_summarized(run: Run, tmp_path: Path) -> None:
    """Unset keys and warnings are shown, and are not failures."""
    for text in (KEYED, NOTED + NOTED_MODEL):
        snapshot = snapshot_of(tmp_path, text)
        assert run(tmp_path / "gateway.yaml") == (0, "\n".join(summary(snapshot)) + "\n", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (KEYED, "--strict: UNIT_KEY is not set\n"),
        (NOTED + NOTED_MODEL, "--strict: 1 warning\n"),
        (KEYED + "client_keys: [$UNIT_KEY]\nlisteners: [{type: model, name: x}]\n", "--strict: UNIT_KEY is not set, 2 warnings\n"),
    ],
)  # fmt: skip
def test_strict_check_fails_for_unset_keys_and_warnings(
    text: str, why: str, run: Run, tmp_path: Path
) -> None:
    """The exit status is 1, and the reasons follow the summary."""
    snapshot = snapshot_of(tmp_path, text)
    file = tmp_path / "gateway.yaml"
    assert run(file, "--strict") == (1, "\n".join(summary(snapshot)) + "\n", why)


def test_missing_version_is_a_warning(run: Run, tmp_path: Path) -> None:
    """The file is good, the warning names the line to add, and a strict check fails."""
    file = gateway(tmp_path, KEYED.removeprefix(VERSION))
    status, out, err = run(file)
    assert (status, err) == (0, "")
    assert "warning: version is missing: the file is read as v0.4.0" in out
    assert "add the line `version: v0.4.0`" in out
    assert run(file, "--strict")[::2] == (1, "--strict: UNIT_KEY is not set, 1 warning\n")


def test_strict_check_accepts_a_clean_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys are set, and there is no warning."""
    monkeypatch.setenv("UNIT_KEY", "x")
    status, out, err = run(gateway(tmp_path, KEYED), "--strict")
    assert (status, err) == (0, "")
    assert "UNIT_KEY is set" in out


def read(run: Run, *arguments: object) -> tuple[int, Any]:
    status, out, err = run(*arguments, "--json")
    assert err == ""
    return status, json.loads(out)


@pytest.mark.parametrize("strict", [False, True])
def test_json_has_the_summary_and_the_verdict(strict: bool, run: Run, tmp_path: Path) -> None:
    """The output is one object."""
    snapshot = snapshot_of(tmp_path, KEYED)
    file = tmp_path / "gateway.yaml"
    status, report = read(run, file, *(["--strict"] if strict else []))
    expected = {"ok": not strict, "file": str(file), "serve": None, "problems": []}
    assert (status, report) == (int(strict), {**expected, **summary_json(snapshot)})
    assert report["warnings"] == []


def test_json_has_the_problems(run: Run, tmp_path: Path) -> None:
    """Each has its file, and its line if there is one; all other keys are present as well."""
    good = read(run, gateway(tmp_path, KEYED))[1]
    status, report = read(
        run, gateway(tmp_path, VERSION + "zzz: 1\nmodel_providers: 1\n"), "--strict"
    )
    assert (status, report["ok"], list(report)) == (1, False, list(good))
    assert [(p["line"], p["place"]) for p in report["problems"]] == [
        (2, "zzz"),
        (3, "model_providers"),
    ]
    assert report["problems"][1]["message"] == "must be a list, not 1"
    assert {p["file"] for p in report["problems"]} == {report["file"]}
    assert (report["version"], report["models"], report["warnings"]) == (None, [], [])
    missing = read(run, tmp_path / "no.yaml")[1]["problems"][0]
    assert (missing["line"], missing["place"]) == (None, "")


def test_serve_file_names_the_configuration(run: Run, tmp_path: Path) -> None:
    """The summary lists the names that entries under deployments may have."""
    snapshot = snapshot_of(tmp_path, KEYED)
    status, out, err = run("--serve", serve(tmp_path))
    assert (status, err) == (0, "")
    names = "Ingress, Orchestrator, Affinity, provider-shared, provider-openai"
    assert out.splitlines() == [*summary(snapshot), f"deployments {names}"]
    report = read(run, "--serve", serve(tmp_path))[1]
    assert (report["ok"], report["file"]) == (True, str(tmp_path / "gateway.yaml"))
    assert report["serve"] == str(tmp_path / "serve.yaml")


def test_problems_of_both_files_are_reported(run: Run, tmp_path: Path) -> None:
    """Those of the serve.yaml come first."""
    bad = gateway(tmp_path, VERSION + "zzz: 1\n")
    file = serve(tmp_path, SERVE + "    deploiments: []\n")
    status, out, err = run("--serve", file)
    assert (status, out) == (1, "")
    assert err.startswith(
        f"{file} has 1 problem:\n"
        "  line 5: applications[0].deploiments: unknown key; did you mean 'deployments'?\n"
        f"{bad} has 1 problem:\n  line 2: zzz: unknown key"
    )
    report = read(run, "--serve", file)[1]
    assert [p["file"] for p in report["problems"]] == [str(file), str(bad)]
    gateway(tmp_path, KEYED)
    report = read(run, "--serve", file)[1]
    assert (len(report["problems"]), report["models"], report["ok"]) == (1, ["openai/a"], False)


@pytest.mark.parametrize("good", [True, False])
def test_unreadable_serve_file_does_not_hide_the_configuration(
    good: bool, run: Run, tmp_path: Path
) -> None:
    """A configuration that is named beside it is checked all the same."""
    file = gateway(tmp_path, KEYED if good else VERSION + "zzz: 1\n")
    missing = tmp_path / "no.yaml"
    report = read(run, file, "--serve", missing)[1]
    problems = [problem["file"] for problem in report["problems"]]
    assert problems == [str(missing), *([] if good else [str(file)])]
    assert report["models"] == (["openai/a"] if good else [])
    status, out, err = run("--serve", missing)
    assert (status, out) == (1, "")
    why = "cannot read the file: No such file or directory; check its path"
    assert err == f"{missing} has 1 problem:\n  {why}\n"


def test_warnings_about_a_serve_file_are_shown(run: Run, tmp_path: Path) -> None:
    """They are failures with --strict."""
    gateway(tmp_path, VERSION)
    text = SERVE + "    deployments: [{{name: Ingress, num_replicas: 2}}]\n"
    file = serve(tmp_path, text)
    warning = (
        f"{file}: line 5: applications[0].deployments[0].num_replicas: "
        "ignored: the deployment autoscales; add `autoscaling_config: null`"
    )
    status, out, err = run("--serve", file)
    assert (status, err, f"\nwarning: {warning}\n" in out) == (0, "", True)
    status, report = read(run, "--serve", file, "--strict")
    assert (status, report["warnings"]) == (1, [warning])


def test_file_without_applications_has_no_summary(run: Run, tmp_path: Path) -> None:
    """The result is not good."""
    file = tmp_path / "serve.yaml"
    file.write_text("applications: []\n")
    report = read(run, "--serve", file)[1]
    assert (report["ok"], report["file"], report["deployments"]) == (False, None, [])


def test_check_of_a_configuration_does_not_import_ray(tmp_path: Path) -> None:
    """Ray takes seconds to import, and may not be installed."""
    code = (
        "import sys; from serve_app.cli.main import main; status = main(['check', sys.argv[1]]); "
        "sys.exit(status or 'ray' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(gateway(tmp_path, KEYED))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unusable_weights_are_warnings(run: Run, tmp_path: Path) -> None:
    """They are not problems, because the engine may run on another machine."""
    section = "orchestrator: {engine: vllm, model: weights%s}\n"
    file = gateway(tmp_path, KEYED + section % "")
    where = "warning: orchestrator.model, on this machine: "
    status, out, _ = run(file)
    assert (status, out.count(where)) == (0, 1)
    assert f"{where}there is no folder {tmp_path / 'weights'}; check orchestrator.model, " in out
    write_checkpoint(tmp_path / "weights", model__safetensors=None, tokenizer__json=None)
    status, out, _ = run(file)
    assert (status, out.count(where)) == (0, 2)
    assert "weights has no *.safetensors; " in out
    assert "weights has no tokenizer; " in out
    write_checkpoint(tmp_path / "weights", config__json={"architectures": ["BertModel"]})
    assert "is an embedding model; set `task: embed`" in run(file)[1]
    assert where not in run(gateway(tmp_path, KEYED + section % ", task: embed"))[1]


def test_unusable_weights_of_the_better_engine_are_warnings(run: Run, tmp_path: Path) -> None:
    """The warning names its own key."""
    section = "orchestrator: {when_unsure: {engine: vllm, model: weights}}\n"
    status, out, _ = run(gateway(tmp_path, KEYED + section))
    where = "warning: orchestrator.when_unsure.model, on this machine: there is no folder "
    assert (status, out.count(where)) == (0, 1)


def test_strict_check_fails_for_unusable_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are downloaded are not checked."""
    monkeypatch.setenv("UNIT_KEY", "x")
    section = "orchestrator: {engine: vllm, model: a/b%s}\n"
    file = gateway(tmp_path, KEYED + section % "")
    status, _, err = run(file, "--strict")
    assert (status, err) == (1, "--strict: 1 warning\n")
    file = gateway(tmp_path, KEYED + section % ", download: true")
    assert run(file, "--strict")[0] == 0


def test_settings_that_contradict_the_model_are_warnings(run: Run, tmp_path: Path) -> None:
    """No GPU is needed to find them."""
    config = {"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 1024}
    model = write_checkpoint(tmp_path / "weights", config__json=config)
    section = "orchestrator: {engine: vllm, model: weights, %s}\n"
    where = "orchestrator.model, on this machine"
    out = run(gateway(tmp_path, KEYED + section % "max_model_len: 2048"))[1]
    limit = f"2048 exceeds the 1024 tokens that {model} supports; lower it"
    assert f"warning: {where}: orchestrator.max_model_len: {limit}\n" in out
    out = run(gateway(tmp_path, KEYED + section % "gpu_memory_gb: 1"))[1]
    assert f"warning: {where}: {model} needs about 1.6 GiB of the GPU, but " in out
    assert where not in run(gateway(tmp_path, KEYED + section % "gpu_memory_gb: 4"))[1]
