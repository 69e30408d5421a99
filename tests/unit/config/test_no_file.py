"""The configuration of a gateway without a file."""

import pytest

from serve_app.config.load import load, raise_problems
from serve_app.config.locations import ConfigError
from serve_app.config.warnings import config_warnings
from serve_app.config.without_file import KEYS, NO_FILE
from serve_app.snapshot import compile_snapshot

PROVIDERS = [
    "openai",
    "anthropic",
    "gemini",
    "groq",
    "deepseek",
    "mistral",
    "digitalocean",
    "vercel",
    "openrouter",
    "edenai",
]


def test_every_provider_of_plano_is_served() -> None:
    """Each is a wildcard; without a key in the environment clients send theirs."""
    loaded = load(None, {})
    entries = loaded.config.model_providers
    assert [entry.model for entry in entries] == [f"{name}/*" for name in PROVIDERS]
    assert all(entry.passthrough_auth and entry.access_key is None for entry in entries)
    assert (loaded.file, loaded.problems, config_warnings(loaded.config, {})) == (NO_FILE, (), [])
    assert loaded.config.version == "v0.4.0"


@pytest.mark.parametrize(("provider", "name"), KEYS.items())
def test_key_in_the_environment_is_referenced(provider: str, name: str) -> None:
    """Only its name is used, and an empty key does not count."""
    for value in ("sk-secret", ""):
        config = load(None, {name: value, "OTHER": "x"}).config
        result = {
            entry.model: (entry.access_key, entry.passthrough_auth)
            for entry in config.model_providers
        }
        expected = (f"${name}", False) if value else (None, True)
        assert result.pop(f"{provider}/*") == expected
        assert set(result.values()) == {(None, True)}


def test_version_depends_on_the_keys() -> None:
    """Another variable gives another version, another value does not."""
    versions = [
        load(None, environ).version
        for environ in ({}, {"DO_API_KEY": "a"}, {"DO_API_KEY": "b"}, {"GROQ_API_KEY": "a"})
    ]
    assert versions[1] == versions[2]
    assert len({*versions}) == 3
    assert all(len(version) == 12 for version in versions)


def test_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used if none is passed."""
    for name in KEYS.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MISTRAL_API_KEY", "x")
    assert load(None).version == load(None, {"MISTRAL_API_KEY": "x"}).version


def test_problems_name_the_missing_file() -> None:
    """The text replaces the file's name, and there is no line."""
    loaded = load(None, {})
    with pytest.raises(ConfigError) as caught:
        raise_problems(loaded, [loaded.problem(("model_providers", 1, "model"), "is nothing")])
    assert str(caught.value) == (
        "the configuration without a file has 1 problem:\n  model_providers[1].model: is nothing"
    )


def test_any_model_of_a_provider_can_be_named() -> None:
    """There is no default model, and there are no routes."""
    snapshot = compile_snapshot(None, {"OPENAI_API_KEY": "x"})
    assert snapshot.policy.wildcards == frozenset(PROVIDERS)
    result = snapshot.policy.resolve("groq/llama-4")
    assert result is not None
    assert str(result[0]) == "groq/llama-4"
    assert (snapshot.policy.default, snapshot.policy.routes) == (None, ())
    assert snapshot.providers.wildcards["openai"].access_key == "$OPENAI_API_KEY"
