"""Plano's self-hosted router: an entry of model_providers that matches routes."""

import os
from pathlib import Path
from typing import Any, Final

import pytest
from yarl import URL

from deployments.orchestrator import Orchestrator as Deployment
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.config.warnings import config_warnings
from serve_app.engines.http import HttpEngine, HttpEngineSettings
from serve_app.exchange import PATHS, Operation
from serve_app.providers.outgoing import target_of
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

MODEL: Final = "overrides.llm_routing_model"
LENGTH: Final = "overrides.orchestrator_model_context_length"
BOTH: Final = f"{MODEL} is ignored: orchestrator sets engine or model; remove one of the two"


def text_of(overrides: str, entry: str, section: str = "") -> str:
    entries = f"model_providers:\n  - {{model: openai/a}}\n  - {{{entry}}}\n"
    more = f"orchestrator: {{{section}}}\n" if section else ""
    return f"{VERSION}overrides: {{{overrides}}}\n{entries}{more}"


PLANO: Final = "model: plano/Plano-Orchestrator, base_url: 'http://h:10000'"


async def engine_of(directory: Path, text: str) -> tuple[HttpEngineSettings, HttpEngine]:
    """What the deployment makes of a configuration."""
    snapshot_of(directory, text)
    deployment = Deployment(str(directory / "gateway.yaml"))
    deployment.__del__()
    assert deployment._first is not None
    engine = deployment._first._inner
    assert isinstance(engine, HttpEngine)
    return engine._settings, engine


@pytest.mark.parametrize(
    ("named", "entry", "address", "family"),
    [
        ("plano/Plano-Orchestrator", PLANO, "http://h:10000/v1", "plano-orchestrator"),
        ("Plano-Orchestrator", PLANO, "http://h:10000/v1", "plano-orchestrator"),
        ("mine", f"{PLANO}, name: mine", "http://h:10000/v1", "plano-orchestrator"),
        (
            "ollama/hf.co/katanemo/Arch-Router-1.5B",
            "model: ollama/hf.co/katanemo/Arch-Router-1.5B, base_url: 'https://h/own/'",
            "https://h/own",
            "arch-router",
        ),
        ("vllm/m", "model: vllm/m, base_url: $WHERE", "http://w:1/v1", "generic"),
    ],
)
async def test_model_is_called_at_its_address(
    named: str,
    entry: str,
    address: str,
    family: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is called by its bare name and with its key, in the format of its family."""
    monkeypatch.setenv("WHERE", "http://w:1")
    monkeypatch.setenv("ITS_KEY", "sk-secret")
    text = text_of(f"llm_routing_model: {named}", f"{entry}, access_key: $ITS_KEY")
    settings, engine = await engine_of(tmp_path, text)
    bare = entry.removeprefix("model: ").partition(",")[0].partition("/")[2]
    endpoint = settings.server.endpoint
    assert (settings.server.model.name, endpoint.access_key) == (bare, "$ITS_KEY")
    assert settings.budget_tokens is None
    assert (settings.family, engine._family.name) == (None, family)
    path = PATHS[Operation.CHAT]
    target = target_of(endpoint, Operation.CHAT, path, os.environ, now=0.0)
    assert target.url == URL(f"{address}/chat/completions")
    assert target.headers == (("authorization", "Bearer sk-secret"),)
    assert config_warnings(snapshot_of(tmp_path, text).config, os.environ) == []


async def test_other_settings_of_the_section_are_kept(tmp_path: Path) -> None:
    """Plano's context length is used unless max_model_len is set."""
    overrides = "llm_routing_model: plano/Plano-Orchestrator, orchestrator_model_context_length: "
    section = "family: arch-router, deadline_ms: 1000, fallback: none"
    text = text_of(f"{overrides}4096", PLANO, section)
    settings, _ = await engine_of(tmp_path, text)
    assert (settings.budget_tokens, settings.family) == (4096, "arch-router")
    assert settings.deadline_s == pytest.approx(0.8)
    config = snapshot_of(tmp_path, text).config
    assert (config.orchestrator.fallback, config_warnings(config, {})) == ("none", [])
    text = text_of(f"{overrides}4096", PLANO, f"{section}, max_model_len: 512")
    assert (await engine_of(tmp_path, text))[0].budget_tokens == 512
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == [
        f"{LENGTH} is ignored; set orchestrator.max_model_len"
    ]
    text = text_of(f"{overrides}255", PLANO)
    assert (await engine_of(tmp_path, text))[0].budget_tokens is None
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == [
        f"{LENGTH} is ignored: 255 is too small; set 256 or more"
    ]


def test_first_entry_with_an_address_is_used(tmp_path: Path) -> None:
    """It is called with its own key."""
    entry = "model: vllm/m, base_url: 'http://h'}\n  - {model: vllm/m, base_url: 'http://i', access_key: $K"
    section = snapshot_of(tmp_path, text_of("llm_routing_model: vllm/m", entry)).config.orchestrator
    assert (section.engine, section.base_url, section.access_key) == ("http", "http://h", None)


def test_key_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    """That holds for the key of an entry and of the section."""
    (tmp_path / "key").write_text("sk-secret")
    texts = (
        text_of("llm_routing_model: plano/Plano-Orchestrator", f"{PLANO}, access_key: 'file:key'"),
        f"{VERSION}orchestrator: {{engine: http, model: m, base_url: 'http://h', access_key: 'file:key'}}\n",
    )
    for text in texts:
        section = snapshot_of(tmp_path, text).config.orchestrator
        assert section.access_key == f"file:{tmp_path / 'key'}"


SAID: Final[dict[str, dict[str, Any]]] = {
    "engine: embedding": {"engine": "embedding"},
    "engine: vllm, model: /m": {"engine": "vllm", "model": "/m"},
    "engine: http, model: m, base_url: 'http://i'": {
        "engine": "http",
        "model": "m",
        "base_url": "http://i",
    },
    "model: /m.onnx": {"model": "/m.onnx"},
}


@pytest.mark.parametrize("section", SAID)
def test_section_with_an_engine_or_model_takes_precedence(section: str, tmp_path: Path) -> None:
    """The override is ignored, with a warning."""
    text = text_of("llm_routing_model: plano/Plano-Orchestrator", PLANO, section)
    config = snapshot_of(tmp_path, text).config
    assert config.orchestrator == OrchestratorSection(**SAID[section])
    assert BOTH in config_warnings(config, {})


def test_section_with_the_same_server_gives_no_warning(tmp_path: Path) -> None:
    """Nothing is ignored."""
    section = "engine: http, model: Plano-Orchestrator, base_url: 'http://h:10000'"
    text = text_of("llm_routing_model: plano/Plano-Orchestrator", PLANO, section)
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == []


@pytest.mark.parametrize(
    ("named", "entry", "why"),
    [
        ("plano/other", PLANO, "model_providers has no 'plano/other'; add it, with its base_url"),
        (
            "Plano-Orchestrator",
            f"{PLANO}}}\n  - {{model: vllm/Plano-Orchestrator, base_url: 'http://i'",
            "model_providers has no 'Plano-Orchestrator'; add it, with its base_url",
        ),
        (
            "vllm/*",
            "model: vllm/*, base_url: 'http://h'",
            "model_providers has no 'vllm/*'; add it, with its base_url",
        ),
        ("openai/b", "model: openai/b", "'openai/b' has no base_url; add one"),
    ],
)
def test_model_without_an_address_is_a_warning(
    named: str, entry: str, why: str, tmp_path: Path
) -> None:
    """The embedded engine stays, the warning gives the reason, and the length is unused."""
    text = text_of(f"llm_routing_model: '{named}', orchestrator_model_context_length: 4096", entry)
    config = snapshot_of(tmp_path, text).config
    assert config.orchestrator == OrchestratorSection()
    assert config_warnings(config, {}) == [
        f"{MODEL} is ignored: {why}",
        f"{LENGTH} is ignored; set orchestrator.max_query_tokens",
    ]


def test_headers_that_are_not_sent_are_a_warning(tmp_path: Path) -> None:
    """Headers of an entry belong to requests of clients; their values are not shown."""
    entry = f"{PLANO}, headers: {{x-key: sk-secret}}, http_host: other"
    config = snapshot_of(
        tmp_path, text_of("llm_routing_model: plano/Plano-Orchestrator", entry)
    ).config
    (warning,) = config_warnings(config, {})
    whose = "headers and http_host of 'plano/Plano-Orchestrator'"
    assert warning == f"{MODEL}: routing requests lack {whose}; remove them"


def test_client_key_that_is_not_sent_is_a_warning(tmp_path: Path) -> None:
    """Equal questions of several clients share one answer."""
    text = text_of(
        "llm_routing_model: plano/Plano-Orchestrator", f"{PLANO}, passthrough_auth: true"
    )
    whose = "give 'plano/Plano-Orchestrator' an access_key"
    assert config_warnings(snapshot_of(tmp_path, text).config, {}) == [
        f"{MODEL}: routing requests carry no client's key; {whose}"
    ]
