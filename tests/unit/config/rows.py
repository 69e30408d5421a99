"""Rows for the providers of Plano that a test names, wherever the table has none of its own."""

import pytest

from serve_app.providers import spec
from serve_app.providers.spec import ProviderSpec

PUBLIC = (
    *("anthropic", "gemini", "groq", "deepseek", "mistral", "digitalocean", "vercel"),
    *("openrouter", "edenai", "together_ai"),
)
OWN = ("azure_openai", "plano")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every provider that Plano knows has a row; real ones win."""
    public = {name: ProviderSpec(f"https://{name}.example/v1") for name in PUBLIC}
    own = {name: ProviderSpec(None) for name in OWN}
    monkeypatch.setattr(spec, "PROVIDERS", {**public, **own, **spec.PROVIDERS})
