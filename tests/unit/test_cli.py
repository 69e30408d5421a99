"""The command line: what it prints, and how it ends."""

from pathlib import Path

import pytest

from serve_app.cli import example, main, summary
from tests.unit.config.broken import V
from tests.unit.fakes import setup_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, access_key: $UNIT_KEY, default: true}}
  - {{model: vllm/b, base_url: "http://h:1", access_key: "${{UNIT_A}}-$UNIT_B"}}
  - {{model: ollama/*, base_url: $UNIT_URL}}
model_aliases:
  fast: {{target: a}}
routing_preferences:
  - {{name: code, description: d, models: [a, vllm/b]}}
"""
NAMES = ("UNIT_KEY", "UNIT_A", "UNIT_B", "UNIT_URL")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_a_summary_says_what_is_served(tmp_path: Path) -> None:
    """Providers, models, aliases and routes, with the variables that are not set."""
    setup = setup_of(tmp_path, TEXT)
    lines = [line for line in summary(setup) if not line.startswith("note: ")]
    assert lines == [
        f"policy {setup.policy.version}",
        "provider openai (dedicated)",
        "provider vllm-h-1 (dedicated)",
        "provider ollama-unit-url (shared)",
        "model openai/a, default  [UNIT_KEY is not set]",
        "model vllm/b  [UNIT_A and UNIT_B is not set]",
        "models ollama/*  [UNIT_URL is not set]",
        "alias fast -> openai/a",
        "route code -> openai/a, vllm/b",
    ]


def test_a_summary_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the value of a variable nor a key that stands in the file."""
    for name in NAMES:
        monkeypatch.setenv(name, "sk-1")
    text = TEXT.replace("$UNIT_KEY", "sk-1") + "client_keys: [sk-1]\n"
    setup = setup_of(tmp_path, text)
    shown = "\n".join([*summary(setup), example(setup, "http://x")])
    assert "sk-1" not in shown
    assert "not set" not in shown


def test_a_summary_tells_that_a_key_is_missing(tmp_path: Path) -> None:
    """A vendor that needs a key and has none configured can't answer."""
    setup = setup_of(tmp_path, V + "model_providers:\n  - model: openai/a\n")
    assert "model openai/a  [access_key is not set]" in summary(setup)


@pytest.mark.parametrize(
    ("set_", "model"),
    [
        (["UNIT_KEY"], "openai/a"),
        (["UNIT_A", "UNIT_B"], "vllm/b"),
        (list(NAMES), "openai/a"),
    ],
)
def test_an_example_works(
    set_: list[str], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names a model whose keys are there, the default if it can."""
    for name in set_:
        monkeypatch.setenv(name, "x")
    text = example(setup_of(tmp_path, TEXT), "http://h:8000")
    assert text.startswith("  curl http://h:8000/v1/chat/completions ")
    assert f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}' in text


@pytest.mark.parametrize("set_", [[], ["UNIT_A"]])
def test_without_keys_an_example_asks_for_them(
    set_: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What works without any key is the list of models."""
    for name in set_:
        monkeypatch.setenv(name, "x")
    text = example(setup_of(tmp_path, TEXT), "http://h:8000")
    assert text.startswith("  curl http://h:8000/v1/models\n")
    assert "make demo" in text


def test_an_example_needs_a_configured_key(tmp_path: Path) -> None:
    """A vendor's model without access_key is none that works."""
    setup = setup_of(tmp_path, V + "model_providers:\n  - {model: openai/a, default: true}\n")
    assert "/v1/models" in example(setup, "http://h")


@pytest.mark.parametrize(
    ("keys", "header"),
    [
        ("[$UNIT_KEY]", ' -H "Authorization: Bearer $UNIT_KEY"'),
        ("['${UNIT_KEY}']", ' -H "Authorization: Bearer $UNIT_KEY"'),
        ("[sk-1]", ' -H "Authorization: Bearer ..."'),
    ],
)
def test_an_example_shows_the_client_key_by_name(keys: str, header: str, tmp_path: Path) -> None:
    """The shell expands the variable; a literal key is not repeated."""
    text = example(setup_of(tmp_path, f"{TEXT}client_keys: {keys}\n"), "http://h")
    assert text.startswith(f"  curl{header} http://h/")


def test_check_sums_a_good_file_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0, the summary on standard output."""
    setup = setup_of(tmp_path, TEXT)
    assert main(["check", str(tmp_path / "gateway.yaml")]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("\n".join(summary(setup)) + "\n", "")


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_file_fails(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, all problems on standard error, no traceback."""
    bad = tmp_path / "gateway.yaml"
    bad.write_text(V + "zzz: 1\nmodel_providers: 1\n")
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
def test_a_missing_file_fails(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1 and the reason."""
    assert main([command, str(tmp_path / "no.yaml")]) == 1
    assert "can't be read: No such file or directory" in capsys.readouterr().err


def test_run_needs_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started without the environment file."""
    setup_of(tmp_path, V)
    file = tmp_path / "serve.yaml"
    file.write_text(
        "http_options: {host: 127.0.0.1}\n"
        f"applications: [{{args: {{config: '{tmp_path}/gateway.yaml'}}}}]\n"
    )
    assert main(["run", str(file), "--env", str(tmp_path / "no.env")]) == 1
    assert "no.env can't be read: No such file" in capsys.readouterr().err


def test_run_refuses_an_open_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without client keys nothing listens where other machines reach it."""
    setup_of(tmp_path, V)
    file = tmp_path / "serve.yaml"
    file.write_text(f"applications: [{{args: {{config: '{tmp_path}/gateway.yaml'}}}}]\n")
    assert main(["run", str(file)]) == 1
    assert "Serve listens on 0.0.0.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["check"], ["run", "a", "b"], ["check", "--x"]]
)
def test_a_wrong_command_is_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And how it is used goes to standard error."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: fingerpost" in capsys.readouterr().err
