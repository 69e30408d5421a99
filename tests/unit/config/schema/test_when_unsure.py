"""The section ``orchestrator.when_unsure``, and models of ``model_providers`` that engines ask."""

from pathlib import Path
from typing import Final

import pytest

from serve_app.config.locations import ConfigError
from serve_app.config.warnings import config_warnings
from serve_app.snapshot import Snapshot
from tests.unit.config_texts import VERSION
from tests.unit.fakes import snapshot_of

PROVIDERS: Final = """
model_providers:
  - {model: openai/gpt-4o-mini, access_key: $KEY}
  - {model: openai/gpt-4o}
  - {model: groq/llama, access_key: $KEY}
  - {model: vllm/*, base_url: 'http://gpu:8000'}
  - {model: mistral/m, passthrough_auth: true}
model_aliases: {fast: {target: openai/gpt-4o-mini}}
"""


BLIND: Final = (
    "orchestrator.when_unsure only helps while the engine is unavailable: {how} has no "
    "probabilities, so no call is close; use another engine first"
)


def configured(folder: Path, section: str) -> Snapshot:
    return snapshot_of(folder, f"{VERSION}{PROVIDERS}orchestrator:\n{section}")


def problem_of(folder: Path, section: str) -> tuple[str, str, str]:
    """The line, the path and the message of the only problem."""
    with pytest.raises(ConfigError) as raised:
        configured(folder, section)
    (problem,) = raised.value.problems
    line = (folder / "gateway.yaml").read_text("utf-8").splitlines()[problem.line - 1]
    return line.strip(), problem.path, problem.message


def when_unsure(keys: str, first: str = "") -> str:
    return f"{first}  when_unsure:\n" + "".join(f"    {key}\n" for key in keys.split(", "))


def test_close_calls_may_go_to_a_model_of_a_provider(tmp_path: Path) -> None:
    """There is a default limit, and no warning."""
    snapshot = configured(tmp_path, when_unsure("engine: http, model: openai/gpt-4o-mini"))
    better = snapshot.config.orchestrator.when_unsure
    assert better is not None
    assert (better.below, better.base_url, better.deadline_ms) == (0.5, None, None)
    assert config_warnings(snapshot.config, {"KEY": "x"}) == []


@pytest.mark.parametrize(
    ("section", "whole_s", "first_s", "reads_all"),
    [
        (when_unsure("engine: http, model: vllm/m"), 5.0, 0.3, True),
        (when_unsure("engine: http, model: vllm/m, deadline_ms: 900"), 1.2, 0.3, True),
        (when_unsure("engine: http, model: vllm/m", "  deadline_ms: 1000\n"), 1.0, 0.3, True),
        (when_unsure("engine: http, model: vllm/m", "  deadline_ms: 200\n"), 0.2, 0.2, True),
        (when_unsure("engine: http, model: vllm/m, deadline_ms: 900", "  deadline_ms: 1000\n"), 1.0, 0.3, True),
        (when_unsure("engine: vllm, model: m, device: cuda"), 0.5, 0.3, True),
        (when_unsure("engine: vllm, model: m, task: embed"), 5.0, 0.3, False),
        (when_unsure("engine: http, model: vllm/m", "  engine: vllm\n  model: n\n  device: cuda\n"), 5.0, 0.5, True),
        (when_unsure("engine: http, model: vllm/m", "  engine: http\n  model: vllm/n\n"), 5.0, 5.0, True),
        ("  engine: embeddings\n  model: vllm/e\n", 5.0, 5.0, False),
        ("  engine: decision\n  model: vllm/d\n  api: systemone\n", 5.0, 5.0, True),
        (when_unsure("engine: decision, model: vllm/d, api: systemone"), 5.0, 0.3, True),
    ],
)  # fmt: skip
def test_deadline_is_for_both_engines(
    section: str, whole_s: float, first_s: float, *, reads_all: bool, tmp_path: Path
) -> None:
    """A configured one limits both; without, a request waits as long as for the slower engine alone."""
    found = configured(tmp_path, section).config.orchestrator
    assert found.deadline_s == pytest.approx(whole_s)
    assert found.first_deadline_s == pytest.approx(first_s)
    assert found.reads_conversations is reads_all


UNKNOWN: Final = "no entry of model_providers is named "


@pytest.mark.parametrize(
    ("section", "line", "path", "message"),
    [
        (when_unsure("engine: http, model: openai/gpt-5"), "model: openai/gpt-5", "when_unsure.model", f"{UNKNOWN}'openai/gpt-5'; did you mean 'openai/gpt-4o'?"),
        (when_unsure("engine: http, model: 42/x"), "model: 42/x", "when_unsure.model", f"{UNKNOWN}'42/x'; add it to model_providers, or set base_url"),
        (when_unsure("engine: http, model: 'vllm/*'"), "model: 'vllm/*'", "when_unsure.model", "'vllm/*' is a wildcard; name one of its models"),
        (when_unsure("engine: http, model: mistral/m"), "model: mistral/m", "when_unsure.model", "'mistral/m' cannot be asked: its entry has passthrough_auth, and the Orchestrator has no client's key; name a model whose entry has an access_key"),
        (when_unsure("engine: http, base_url: 'http://h'"), "when_unsure:", "when_unsure", "engine http needs `model:`; add it"),
        (when_unsure("engine: http, model: fast"), "when_unsure:", "when_unsure", "engine http needs `base_url:`, or `model: provider/name` of model_providers; add it"),
        (when_unsure("engine: http"), "when_unsure:", "when_unsure", "engine http needs `model:`; add it"),
        (when_unsure("model: openai/gpt-4o"), "when_unsure:", "when_unsure.engine", "missing; add `engine:`"),
        (when_unsure("engine: embedding, model: m"), "engine: embedding", "when_unsure.engine", "must be 'http', 'vllm' or 'decision', not 'embedding'"),
        (when_unsure("engine: http, model: openai/gpt-4o, below: 0"), "below: 0", "when_unsure.below", "must be greater than 0"),
        (when_unsure("engine: http, model: openai/gpt-4o, below: 1.5"), "below: 1.5", "when_unsure.below", "must be at most 1"),
        (when_unsure("engine: http, model: openai/gpt-4o, bellow: 0.5"), "bellow: 0.5", "when_unsure.bellow", "unknown key; did you mean 'below'?"),
        (when_unsure("engine: http, model: m, base_url: 'h:1'"), "base_url: 'h:1'", "when_unsure.base_url", "must be a URL with scheme and host, such as http://host:8000/v1, not 'h:1'"),
        (when_unsure("engine: http, model: openai/gpt-4o, deadline_ms: 300", "  deadline_ms: 300\n"), "deadline_ms: 300", "when_unsure.deadline_ms", "300 does not fit into orchestrator.deadline_ms (300), which limits both engines; lower it, or raise that"),
        (when_unsure("engine: http, model: openai/gpt-4o", "  engine: http\n  model: openai/gpt-4o\n"), "model: openai/gpt-4o", "when_unsure.model", "is the engine and the model of orchestrator; name a better model, or remove orchestrator.when_unsure"),
        (when_unsure("engine: vllm, model: b", "  engine: vllm\n  model: a\n"), "engine: vllm", "when_unsure.engine", "a replica runs one vLLM; serve one of the models by a server of its own, and ask it by engine http"),
        ("  engine: embeddings\n  model: groq/llama\n", "model: groq/llama", "model", "'groq/llama' cannot be asked: its provider does not support /embeddings; name a model whose provider does"),
        ("  engine: decision\n  model: groq/llama\n", "model: groq/llama", "model", "'groq/llama' cannot be asked: its provider does not support /decisions; name a model whose provider does"),
        (when_unsure("engine: decision, model: groq/unknown, api: systemone"), "model: groq/unknown", "when_unsure.model", f"{UNKNOWN}'groq/unknown'; add it to model_providers, or set base_url"),
        ("  engine: decision\n  model: m\n", "orchestrator:", "", "engine decision needs `base_url:`, or `model: provider/name` of model_providers; add it"),
        ("  engine: decision\n  model: m\n  base_url: http://h\n  api: jev\n", "api: jev", "api", "must be 'decisions' or 'systemone', not 'jev'"),
        ("  engine: embeddings\n", "orchestrator:", "", "engine embeddings needs `model:`; add it"),
        ("  engine: embeddings\n  model: small\n", "orchestrator:", "", "engine embeddings needs `base_url:`, or `model: provider/name` of model_providers; add it"),
        ("  engine: embeddings\n  model: 'openai/*'\n", "model: 'openai/*'", "model", "'openai/*' is a wildcard; name one of its models"),
        ("  engine: http\n  model: openai/unknown\n", "model: openai/unknown", "model", f"{UNKNOWN}'openai/unknown'; add it to model_providers, or set base_url"),
    ],
)  # fmt: skip
def test_problem_has_its_line_and_a_way_out(
    section: str, line: str, path: str, message: str, tmp_path: Path
) -> None:
    """The message names what is wrong with the key, and what to do."""
    whole = f"orchestrator.{path}" if path else "orchestrator"
    assert problem_of(tmp_path, section) == (line, whole, message)


def test_model_of_a_broken_entry_is_not_unknown(tmp_path: Path) -> None:
    """The entry has a problem of its own, which is enough."""
    text = f"{VERSION}model_providers:\n  - {{model: vllm/m, base_url: 'h:1'}}\n  - {{model: vllm/n, zzz: 1}}\n"
    with pytest.raises(ConfigError) as raised:
        snapshot_of(
            tmp_path, f"{text}orchestrator: {{when_unsure: {{engine: http, model: vllm/n}}}}\n"
        )
    assert {problem.path for problem in raised.value.problems} == {
        "model_providers[0].base_url",
        "model_providers[1].zzz",
    }


@pytest.mark.parametrize(
    ("section", "warnings"),
    [
        (
            when_unsure("engine: http, model: vllm/m, kv_cache_mb: 99, threads: 2, max_query_tokens: 9"),
            [
                f"orchestrator.when_unsure.{name} is ignored: engine http does not use it; remove it"
                for name in ("kv_cache_mb", "threads", "max_query_tokens")
            ],
        ),
        (when_unsure("engine: vllm, model: m, threads: 2, max_query_tokens: 9, min_confidence: 0.4"), []),
        (
            when_unsure("engine: http, model: vllm/m, access_key: $KEY"),
            ["orchestrator.when_unsure.access_key is ignored: that of the entry of model_providers is sent; remove it"],
        ),
        (
            when_unsure("engine: http, model: m, base_url: $URL, access_key: $SECOND"),
            [
                f"orchestrator.when_unsure.{key}: {name} is not set; set it, or its server cannot be called"
                for key, name in (("base_url", "URL"), ("access_key", "SECOND"))
            ],
        ),
        (
            when_unsure("engine: http, model: vllm/m", "  engine: http\n  model: openai/gpt-4o\n"),
            [
                BLIND.format(how="engine http"),
            ],
        ),
        (
            when_unsure("engine: http, model: vllm/m", "  engine: vllm\n  model: n\n  mode: json\n"),
            [
                BLIND.format(how="mode json"),
            ],
        ),
        (when_unsure("engine: http, model: vllm/m", "  engine: vllm\n  model: n\n"), []),
        ("  engine: embeddings\n  model: vllm/e\n  min_confidence: 0.3\n  fallback: none\n", []),
        ("  engine: decision\n  model: groq/llama\n  api: systemone\n  min_margin: 0.1\n  max_model_len: 999\n", []),
        (when_unsure("engine: decision, model: groq/llama, api: systemone", "  engine: decision\n  model: d\n  base_url: http://h\n"), []),
        (
            when_unsure("engine: decision, model: groq/llama, api: systemone, family: generic, threads: 2"),
            [
                f"orchestrator.when_unsure.{name} is ignored: engine decision does not use it; remove it"
                for name in ("family", "threads")
            ],
        ),
        (
            when_unsure("engine: http, model: vllm/m, api: systemone"),
            ["orchestrator.when_unsure.api is ignored: engine http does not use it; remove it"],
        ),
        (
            "  engine: embeddings\n  model: vllm/e\n  family: generic\n  mode: trie\n",
            [
                f"orchestrator.{name} is ignored: engine embeddings does not use it; remove it"
                for name in ("family", "mode")
            ],
        ),
    ],
)  # fmt: skip
def test_ignored_and_unset_keys_are_warnings(
    section: str, warnings: list[str], tmp_path: Path
) -> None:
    """They have the whole path of their key."""
    assert config_warnings(configured(tmp_path, section).config, {"KEY": "x"}) == warnings


def test_paths_of_both_engines_start_at_the_file(tmp_path: Path) -> None:
    """Names of models on servers stay as they are."""
    section = configured(
        tmp_path, when_unsure("engine: vllm, model: weights/b, access_key: 'file:key'")
    ).config.orchestrator
    assert section.when_unsure is not None
    assert section.when_unsure.model == str(tmp_path / "weights" / "b")
    assert section.when_unsure.access_key == f"file:{tmp_path / 'key'}"
    section = configured(tmp_path, "  engine: embeddings\n  model: vllm/e\n").config.orchestrator
    assert section.model == "vllm/e"


def test_keys_of_both_servers_are_not_shown(tmp_path: Path) -> None:
    """Neither are their addresses."""
    section = when_unsure(
        "engine: http, model: m, base_url: 'http://secret-host', access_key: hunter2"
    )
    shown = repr(configured(tmp_path, section).config)
    assert "hunter2" not in shown
    assert "secret-host" not in shown
