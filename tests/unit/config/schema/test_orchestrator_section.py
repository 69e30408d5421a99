"""The section ``orchestrator``, and warnings about likely mistakes in it."""

from pathlib import Path
from typing import get_args

import pytest

from serve_app.config.load import load
from serve_app.config.locations import ConfigError
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.schema.routes import MAX_EXAMPLES
from serve_app.config.warnings import config_warnings
from serve_app.scoring.prompt import FAMILIES
from tests.unit.config_texts import ONE_MODEL, VERSION
from tests.unit.fakes import snapshot_of


def model_of(directory: Path, name: str) -> str | None:
    """Where the model is that a configuration in this folder names."""
    return snapshot_of(
        directory, f"{VERSION}orchestrator: {{model: {name!r}}}\n"
    ).config.orchestrator.model


def test_settings_have_defaults(tmp_path: Path) -> None:
    """They are the shipped model and its thresholds."""
    expected = OrchestratorSection(
        engine="embedding",
        model=None,
        min_confidence=0.2,
        min_margin=0.0,
        max_query_tokens=64,
        threads=1,
        deadline_ms=None,
        fallback="embedding",
    )
    assert expected.deadline_s == 0.3
    for text in (VERSION, f"{VERSION}orchestrator: {{}}\n"):
        assert snapshot_of(tmp_path, text).config.orchestrator == expected


def test_settings_can_be_set(tmp_path: Path) -> None:
    """Integers are accepted for thresholds."""
    text = "{engine: embedding, min_confidence: 1, min_margin: 0.2, max_query_tokens: 8, threads: 4, deadline_ms: 60000}"
    assert snapshot_of(
        tmp_path, f"{VERSION}orchestrator: {text}\n"
    ).config.orchestrator == OrchestratorSection(
        min_confidence=1, min_margin=0.2, max_query_tokens=8, threads=4, deadline_ms=60_000
    )


@pytest.mark.parametrize(
    ("text", "deadline_s", "generates"),
    [
        ("engine: embedding", 0.3, False),
        ("engine: embedding, deadline_ms: 40", 0.04, False),
        ("engine: vllm, model: m", 5.0, True),
        ("engine: vllm, model: m, device: cpu", 5.0, True),
        ("engine: vllm, model: m, device: cuda", 0.5, True),
        ("engine: vllm, model: m, device: cuda, deadline_ms: 800", 0.8, True),
        ("engine: vllm, model: m, task: embed", 5.0, False),
        ("engine: http, model: m, base_url: 'http://h'", 5.0, True),
    ],
)
def test_default_deadline_depends_on_the_engine(
    text: str, deadline_s: float, *, generates: bool, tmp_path: Path
) -> None:
    """Language models read whole conversations."""
    section = snapshot_of(tmp_path, f"{VERSION}orchestrator: {{{text}}}\n").config.orchestrator
    assert (section.deadline_s, section.generates) == (deadline_s, generates)


def test_families_of_the_schema_are_those_of_the_engines() -> None:
    """The schema cannot import them and repeats them."""
    families = get_args(OrchestratorSection.model_fields["family"].annotation)
    assert families == ("auto", *FAMILIES)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("engine: vllm, model: models/a", "{here}/models/a"),
        (
            "engine: vllm, model: katanemo/Arch-Router-1.5B, download: true",
            "katanemo/Arch-Router-1.5B",
        ),
        ("engine: http, model: 'a/b:latest', base_url: 'http://h'", "a/b:latest"),
    ],
)
def test_model_names_of_servers_and_hubs_are_kept(text: str, model: str, tmp_path: Path) -> None:
    """A folder for vLLM is relative to the file."""
    config = snapshot_of(tmp_path, f"{VERSION}orchestrator: {{{text}}}\n").config
    assert config.orchestrator.model == model.format(here=tmp_path)
    assert config_warnings(config, {}) == []


def test_key_of_the_server_is_not_shown(tmp_path: Path) -> None:
    """Its address, which may contain a password, is not shown either."""
    text = "engine: http, model: m, base_url: 'http://u:p@h', access_key: hunter2"
    (tmp_path / "gateway.yaml").write_text(f"{VERSION}orchestrator: {{{text}}}\n", "utf-8")
    shown = repr(load(tmp_path / "gateway.yaml").config)
    assert "hunter2" not in shown
    assert "u:p" not in shown


def test_relative_model_starts_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder and the spelling of the file's path do not matter."""
    assert model_of(tmp_path, "m.onnx") == str(tmp_path / "m.onnx")
    assert model_of(tmp_path, "models/m.onnx") == str(tmp_path / "models" / "m.onnx")
    monkeypatch.chdir(tmp_path)
    assert model_of(Path(), "m.onnx") == str(tmp_path / "m.onnx")


def test_absolute_model_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde means the home folder, or is part of the name for an unknown user."""
    monkeypatch.setenv("HOME", "/home/me")
    assert model_of(tmp_path, "/models/m.onnx") == "/models/m.onnx"
    assert model_of(tmp_path, "~/m.onnx") == "/home/me/m.onnx"
    assert model_of(tmp_path, "~no_such_user/m") == str(tmp_path / "~no_such_user" / "m")


def test_relative_model_is_resolved_beside_a_problem(tmp_path: Path) -> None:
    """Other problems of the file do not matter."""
    (tmp_path / "gateway.yaml").write_text(
        f"{VERSION}zzz: 1\norchestrator: {{model: m.onnx}}\n", "utf-8"
    )
    loaded = load(tmp_path / "gateway.yaml")
    assert loaded.config.orchestrator.model == str(tmp_path / "m.onnx")
    assert [problem.path for problem in loaded.problems] == ["zzz"]


@pytest.mark.parametrize("key", ["model", "reranker"])
@pytest.mark.parametrize("name", ["m.onnx", "x" * 300, "a/b/c"])
def test_missing_model_is_a_warning(name: str, key: str, tmp_path: Path) -> None:
    """It may exist on the machine of the engine."""
    config = snapshot_of(tmp_path, f"{VERSION}orchestrator: {{{key}: {name!r}}}\n").config
    kind = "file" if name == "m.onnx" else "file or folder"
    assert config_warnings(config, {}) == [
        f"orchestrator.{key}: no {kind} {tmp_path / name} on this machine; correct the path"
    ]


@pytest.mark.parametrize("name", ["m.onnx", "."])
def test_existing_model_gives_no_warning(name: str, tmp_path: Path) -> None:
    """Its content is checked by the engine; it may be a folder."""
    (tmp_path / "m.onnx").touch()
    text = f"{VERSION}orchestrator: {{model: {name}, reranker: {name}}}\n"
    config = snapshot_of(tmp_path, text).config
    assert config_warnings(config, {}) == []
    assert config.orchestrator.reranker == str(tmp_path / name)


def test_prefixes_need_a_model(tmp_path: Path) -> None:
    """The bundled one has none."""
    text = f"{VERSION}orchestrator: {{query_prefix: 'query: ', passage_prefix: ''}}\n"
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == [
        f"orchestrator.{name} is ignored: the bundled model has no prefixes; remove it"
        for name in ("query_prefix", "passage_prefix")
    ]


def test_reranker_needs_the_embedded_engine(tmp_path: Path) -> None:
    """Other engines ignore it and say so."""
    text = "{engine: http, model: m, base_url: 'http://h', reranker: r, reranker_below: 0.3}"
    config = snapshot_of(tmp_path, f"{VERSION}orchestrator: {text}\n").config
    assert config_warnings(config, {}) == [
        f"orchestrator.{name} is ignored: engine http does not use it; remove it"
        for name in ("reranker", "reranker_below")
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 3, MAX_EXAMPLES])
def test_single_example_is_a_warning(count: int, tmp_path: Path) -> None:
    """It helps little; none, two or more give no warning."""
    route = "  - {name: %s, description: d, models: [gpt-4o], examples: %s}\n"
    text = f"{ONE_MODEL}routing_preferences:\n" + route % ("a b", ["x"] * count) + route % ("c", [])
    result = config_warnings(snapshot_of(tmp_path, text).config, {})
    assert result == ["route 'a b': a single example helps little; add two more"] * (count == 1)


def test_ignored_keys_of_plano_are_warnings(tmp_path: Path) -> None:
    """There is a line for each key that is present."""
    text = (
        f"{ONE_MODEL}listeners: [{{type: model, name: x}}]\nmode: llm\nrouting_preferences:\n  - {{name: a, "
        "description: d, models: [gpt-4o], selection_policy: {prefer: fastest}}\n"
    )
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == [
        "listeners is ignored; set host and port under http_options of serve.yaml",
        "mode is ignored: this gateway only serves models; remove it",
    ]
    assert config_warnings(snapshot_of(tmp_path, ONE_MODEL).config, {}) == []


@pytest.mark.parametrize("place", ["orchestrator", "orchestrator.when_unsure"])
def test_more_routes_than_a_decision_has_are_a_warning(place: str, tmp_path: Path) -> None:
    """Such a question is never sent, whichever of both engines would get it."""
    engine = "engine: decision, model: m, base_url: 'http://h'"
    section = engine if place == "orchestrator" else f"when_unsure: {{{engine}}}"
    text = f"{ONE_MODEL}orchestrator: {{{section}}}\nrouting_preferences:\n"
    most = "".join(f"  - {{name: r{n}, description: d, models: [gpt-4o]}}\n" for n in range(254))
    assert config_warnings(snapshot_of(tmp_path, text + most).config, {}) == []
    more = f"{text}{most}  - {{name: x, description: d, models: [gpt-4o]}}\n"
    assert config_warnings(snapshot_of(tmp_path, more).config, {}) == [
        (
            f"{place}: engine decision cannot choose among 255 routes, only among 254; merge some, "
            "or use another engine"
        )
    ]


HTTP = "engine: http, model: m, base_url: 'http://h'"
WHO = {
    "embedding": "engine embedding",
    HTTP: "engine http",
    "engine: vllm, model: m, download: true, device: cpu": "engine vllm with task generate and device cpu",
    "engine: vllm, model: m, download: true, task: embed": "engine vllm with task embed and device auto",
}


@pytest.mark.parametrize(
    ("engine", "text", "unused"),
    [
        ("embedding", "mode: trie, base_url: 'h', access_key: sk-1", ("mode", "base_url", "access_key")),
        ("embedding", "max_query_tokens: 9, threads: 2, min_margin: 0.1, mode: auto", ()),
        ("embedding", "fallback: none, family: generic", ("fallback", "family")),
        (HTTP, "min_confidence: 0.5, kv_cache_mb: 99, dtype: float16", ("min_confidence", "kv_cache_mb", "dtype")),
        (HTTP, "family: generic, max_model_len: 999, access_key: $K, threads: 2, fallback: none", ()),
        ("engine: vllm, model: m, download: true, device: cpu", "gpu_memory_gb: 5", ("gpu_memory_gb",)),
        ("engine: vllm, model: m, download: true, device: cpu", "mode: json, family: generic, dtype: float32", ()),
        ("engine: vllm, model: m, download: true, task: embed", "mode: json, family: generic", ("family", "mode")),
        ("engine: vllm, model: m, download: true, task: embed", "gpu_memory_gb: 5, quantization: fp8", ()),
    ],
)  # fmt: skip
def test_settings_of_other_engines_are_warnings(
    engine: str, text: str, unused: tuple[str, ...], tmp_path: Path
) -> None:
    """Defaults give no warning."""
    section = text if engine == "embedding" else f"{engine}, {text}"
    config = snapshot_of(tmp_path, f"{VERSION}orchestrator: {{{section}}}\n").config
    assert config_warnings(config, {"K": "x"}) == [
        f"orchestrator.{name} is ignored: {WHO[engine]} does not use it; remove it"
        for name in unused
    ]


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("h:1", "must be a URL with scheme and host, such as http://host:8000/v1, not 'h:1'"),
        ("http://u:hunter2@h", "contains a password; move it to access_key"),
        ("http://h/v1?key=hunter2", "must end with its path; remove everything from '?' or '#'"),
        (
            "https://h/v1/chat/completions/",
            "must end before /chat/completions, which the gateway adds; remove that part",
        ),
        ("http://[$IP:8000", "is not a URL: Invalid IPv6 URL"),
    ],
)
def test_invalid_base_url_is_a_problem(url: str, fault: str, tmp_path: Path) -> None:
    """It has the same checks as that of a provider, with its line."""
    text = f"{VERSION}orchestrator:\n  engine: http\n  model: m\n  base_url: {url!r}\n"
    with pytest.raises(ConfigError) as raised:
        snapshot_of(tmp_path, text)
    (problem,) = raised.value.problems
    assert (problem.path, problem.message) == ("orchestrator.base_url", fault)
    assert problem.line == text.splitlines().index(f"  base_url: {url!r}") + 1
    assert "hunter2" not in str(raised.value)


def test_base_url_of_another_engine_is_not_checked(tmp_path: Path) -> None:
    """It gives a warning; that of a provider is reported at its entry."""
    snapshot_of(tmp_path, f"{VERSION}orchestrator: {{base_url: 'h:1'}}\n")
    entry = "{model: vllm/m, base_url: 'h:1'}"
    text = f"{VERSION}model_providers: [{entry}]\noverrides: {{llm_routing_model: vllm/m}}\n"
    with pytest.raises(ConfigError) as raised:
        snapshot_of(tmp_path, text)
    assert [problem.path for problem in raised.value.problems] == ["model_providers[0].base_url"]
