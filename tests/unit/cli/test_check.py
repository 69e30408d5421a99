"""``fingerpost check``: what it says of files, and when that is bad."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.cli.main import main
from serve_app.cli.summary import summary, summary_json
from tests.unit.cli.checkpoints import write_checkpoint
from tests.unit.config_texts import VERSION
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


def test_a_good_file_is_summed_up(run: Run, tmp_path: Path) -> None:
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
def test_strictly_they_are_failures(text: str, why: str, run: Run, tmp_path: Path) -> None:
    """Exit status 1; all is shown, and then what it failed for."""
    snapshot = snapshot_of(tmp_path, text)
    file = tmp_path / "gateway.yaml"
    assert run(file, "--strict") == (1, "\n".join(summary(snapshot)) + "\n", why)


def test_strictly_a_clean_file_is_good(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its keys set and nothing to note."""
    monkeypatch.setenv("UNIT_KEY", "x")
    status, out, err = run(gateway(tmp_path, KEYED), "--strict")
    assert (status, err) == (0, "")
    assert "UNIT_KEY is set" in out


def read(run: Run, *arguments: object) -> tuple[int, Any]:
    status, out, err = run(*arguments, "--json")
    assert err == ""
    return status, json.loads(out)


@pytest.mark.parametrize("strict", [False, True])
def test_programs_get_one_object(strict: bool, run: Run, tmp_path: Path) -> None:
    """What the configuration comes to, and whether that is good."""
    snapshot = snapshot_of(tmp_path, KEYED)
    file = tmp_path / "gateway.yaml"
    status, found = read(run, file, *(["--strict"] if strict else []))
    expected = {"ok": not strict, "file": str(file), "serve": None, "problems": []}
    assert (status, found) == (int(strict), {**expected, **summary_json(snapshot)})
    assert found["warnings"] == []


def test_programs_get_problems(run: Run, tmp_path: Path) -> None:
    """With the same keys, each with its file, and its line where it has one."""
    good = read(run, gateway(tmp_path, KEYED))[1]
    status, found = read(
        run, gateway(tmp_path, VERSION + "zzz: 1\nmodel_providers: 1\n"), "--strict"
    )
    assert (status, found["ok"], list(found)) == (1, False, list(good))
    assert [(p["line"], p["place"]) for p in found["problems"]] == [
        (2, "zzz"),
        (3, "model_providers"),
    ]
    assert found["problems"][1]["message"] == "must be a list, not 1"
    assert {p["file"] for p in found["problems"]} == {found["file"]}
    assert (found["version"], found["models"], found["warnings"]) == (None, [], [])
    missing = read(run, tmp_path / "no.yaml")[1]["problems"][0]
    assert (missing["line"], missing["place"]) == (None, "")


def test_a_serve_file_names_the_configuration(run: Run, tmp_path: Path) -> None:
    """Which is summed up, with the names that entries under deployments may have."""
    snapshot = snapshot_of(tmp_path, KEYED)
    status, out, err = run("--serve", serve(tmp_path))
    assert (status, err) == (0, "")
    names = "Ingress, Orchestrator, Affinity, provider-shared, provider-openai"
    assert out.splitlines() == [*summary(snapshot), f"deployments {names}"]
    found = read(run, "--serve", serve(tmp_path))[1]
    assert (found["ok"], found["file"]) == (True, str(tmp_path / "gateway.yaml"))
    assert found["serve"] == str(tmp_path / "serve.yaml")


def test_both_files_are_told_about(run: Run, tmp_path: Path) -> None:
    """First what is wrong with the serve file."""
    bad = gateway(tmp_path, VERSION + "zzz: 1\n")
    file = serve(tmp_path, SERVE + "    deploiments: []\n")
    status, out, err = run("--serve", file)
    assert (status, out) == (1, "")
    assert err.startswith(
        f"{file} has 1 problem:\n"
        "  line 5: applications[0].deploiments: unknown key; did you mean 'deployments'?\n"
        f"{bad} has 1 problem:\n  line 2: zzz: unknown key"
    )
    found = read(run, "--serve", file)[1]
    assert [p["file"] for p in found["problems"]] == [str(file), str(bad)]
    gateway(tmp_path, KEYED)
    found = read(run, "--serve", file)[1]
    assert (len(found["problems"]), found["models"], found["ok"]) == (1, ["openai/a"], False)


@pytest.mark.parametrize("good", [True, False])
def test_a_serve_file_that_can_not_be_read_hides_nothing(
    good: bool, run: Run, tmp_path: Path
) -> None:
    """A configuration that is named beside it is checked all the same."""
    file = gateway(tmp_path, KEYED if good else VERSION + "zzz: 1\n")
    missing = tmp_path / "no.yaml"
    found = read(run, file, "--serve", missing)[1]
    problems = [problem["file"] for problem in found["problems"]]
    assert problems == [str(missing), *([] if good else [str(file)])]
    assert found["models"] == (["openai/a"] if good else [])
    status, out, err = run("--serve", missing)
    assert (status, out) == (1, "")
    assert err == f"{missing} has 1 problem:\n  cannot read the file: No such file or directory\n"


def test_notes_on_a_serve_file_are_shown(run: Run, tmp_path: Path) -> None:
    """And strictly they are failures."""
    gateway(tmp_path, VERSION)
    text = SERVE + "    deployments: [{{name: Ingress, num_replicas: 2}}]\n"
    file = serve(tmp_path, text)
    note = (
        f"{file}: line 5: applications[0].deployments[0].num_replicas: "
        "ignored: the deployment autoscales; add `autoscaling_config: null`"
    )
    status, out, err = run("--serve", file)
    assert (status, err, f"\nwarning: {note}\n" in out) == (0, "", True)
    status, found = read(run, "--serve", file, "--strict")
    assert (status, found["warnings"]) == (1, [note])


def test_another_application_has_no_configuration(run: Run, tmp_path: Path) -> None:
    """So there is nothing to sum up, and that is bad."""
    file = tmp_path / "serve.yaml"
    file.write_text("applications: []\n")
    found = read(run, "--serve", file)[1]
    assert (found["ok"], found["file"], found["deployments"]) == (False, None, [])


def test_without_a_serve_file_ray_is_left_alone(tmp_path: Path) -> None:
    """It takes seconds to import, and a configuration can be checked where it is not installed."""
    asked = (
        "import sys; from serve_app.cli.main import main; status = main(['check', sys.argv[1]]); "
        "sys.exit(status or 'ray' in sys.modules)"
    )
    command = [sys.executable, "-c", asked, str(gateway(tmp_path, KEYED))]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_weights_are_looked_at(run: Run, tmp_path: Path) -> None:
    """What vLLM could not load is a note, as the engine's machine may be another one."""
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


def test_strictly_weights_must_be_sound(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a hub are not looked at."""
    monkeypatch.setenv("UNIT_KEY", "x")
    section = "orchestrator: {engine: vllm, model: a/b%s}\n"
    file = gateway(tmp_path, KEYED + section % "")
    status, _, err = run(file, "--strict")
    assert (status, err) == (1, "--strict: 1 warning\n")
    file = gateway(tmp_path, KEYED + section % ", download: true")
    assert run(file, "--strict")[0] == 0


def test_a_model_that_its_settings_have_no_room_for_is_told(run: Run, tmp_path: Path) -> None:
    """Without a GPU: what of the settings contradicts the model does so everywhere."""
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
