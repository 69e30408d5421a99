"""The configuration without a file: all models of the well-known providers."""

from collections.abc import Mapping
from typing import Final

from serve_app.config.schema.gateway import NEWEST
from serve_app.domain import Json

NO_FILE: Final = "the configuration without a file"
"""The name of this configuration in messages, instead of a file."""

KEYS: Final[Mapping[str, str]] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "digitalocean": "DO_API_KEY",
    "vercel": "AI_GATEWAY_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "edenai": "EDENAI_API_KEY",
}
"""Providers by name, each with the environment variable of its key."""


def synthesise(environ: Mapping[str, str]) -> dict[str, Json]:
    """The content of a file with a wildcard for each provider.

    Its key is that of the environment; without one, the client's own key is sent.
    """
    entries = [
        {"model": f"{provider}/*"}
        | ({"access_key": f"${name}"} if environ.get(name) else {"passthrough_auth": True})
        for provider, name in KEYS.items()
    ]
    return {"version": NEWEST, "model_providers": entries}
