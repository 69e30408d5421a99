"""Fixtures for ``fingerpost suggest``: a provider on loopback, a configuration, and the command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from serve_app.cli import suggest
from serve_app.cli.main import main
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from tests.unit.cli.example_provider import ExampleProvider, Script, Suggest
from tests.unit.evaluation.labelled_sets import TopicModel

TEXT: Final = """\
version: v0.4.0
model_providers:
  - model: vllm/small   # cheap
    base_url: {url}
  - model: vllm/large
    base_url: {url}/v1
    access_key: $UNIT_KEY
    headers: {{x-team: blue}}
    default: true
routing_preferences:
  # the first one
  - name: code
    description: writing, explaining and debugging code
    models: [vllm/large]
  - name: 'poems: all'
    description: poems, song lyrics and rhymes
    models: [small, large]
    examples: ["a haiku"]
timeouts: {{total_s: 20, connect_s: 5}}
"""


@pytest.fixture
def provider() -> Iterator[ExampleProvider]:
    with ExampleProvider() as running:
        yield running


@pytest.fixture
def file(tmp_path: Path, provider: ExampleProvider, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with two routes, whose models the provider serves, and whose key is set."""
    monkeypatch.setenv("UNIT_KEY", "sk-secret-1234")
    written = tmp_path / "gateway.yaml"
    written.write_text(TEXT.format(url=provider.url), "utf-8")
    return written


@pytest.fixture
def run(
    file: Path,
    provider: ExampleProvider,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Suggest:
    """Runs the command on the file; the provider answers by the scripts."""

    def engine(settings: EmbeddingSettings) -> EmbeddingEngine:
        return EmbeddingEngine(settings, TopicModel())

    monkeypatch.setattr(suggest, "EmbeddingEngine", engine)

    def command(*options: str, scripts: tuple[Script, ...] = ()) -> tuple[int, str, str]:
        if scripts:
            provider.scripts.clear()
            provider.scripts.extend(scripts)
        status = main(["suggest", str(file), *options])
        return status, *capsys.readouterr()

    return command
