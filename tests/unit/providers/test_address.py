"""Base URLs: what their paths mean, for every row, and on hosts that are known."""

import pytest

from serve_app.providers.address import slug, spoken, target_url
from serve_app.providers.table import CHAT, INTERFACES, MESSAGES, PATHS, PROVIDERS, RESPONSES

PLAIN = [name for name in INTERFACES if PROVIDERS[name].api_version is None]
MAIN = [
    (name, path)
    for name in PLAIN
    for path in PATHS
    if path in PROVIDERS[name].paths and path not in PROVIDERS[name].elsewhere
]


@pytest.mark.parametrize(("name", "path"), MAIN)
@pytest.mark.parametrize(
    ("base", "prefix"),
    [
        ("http://h:8000/v1", "/v1"),
        ("http://h:8000/v1/", "/v1"),
        ("https://h/a/b", "/a/b"),
        ("https://h/a/b//", "/a/b"),
        ("https://h/a%2Fb", "/a%2Fb"),
    ],
)
def test_a_path_replaces_that_of_the_row(name: str, path: str, base: str, prefix: str) -> None:
    """Whatever the provider: with a path in the base URL nothing but the request's is added."""
    origin = "/".join(base.split("/")[:3])
    assert target_url(base, name, path) == f"{origin}{prefix}{path}"


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("base", ["http://h:8000", "http://h:8000/", "http://h:8000//"])
def test_without_a_path_that_of_the_row_holds(name: str, base: str) -> None:
    """A server of one's own is laid out as the vendor's is."""
    expected = f"http://h:8000{PROVIDERS[name].default_path}{CHAT}"
    assert target_url(base, name, CHAT) == expected
    assert spoken(base, name) == PROVIDERS[name].paths


@pytest.mark.parametrize("name", INTERFACES)
def test_an_address_written_out_is_the_usual_one(name: str) -> None:
    """A row's own base URL, with its path, without, or with a slash more, is the same place."""
    spec = PROVIDERS[name]
    if spec.base_url is None:
        assert slug(name, "http://h:1") != slug(name, "http://h:2")
        return
    origin = "/".join(spec.base_url.split("/")[:3])
    for base in (spec.base_url, f"{spec.base_url}/", origin):
        assert target_url(base, name, CHAT) == f"{spec.base_url}{CHAT}"
        assert slug(name, base) == slug(name, None)
        assert spoken(base, name) == spec.paths
    assert slug(name, f"{origin}:8443") != slug(name, None)


@pytest.mark.parametrize(
    ("base", "interface", "path", "expected"),
    [
        ("https://api.groq.com/openai", "groq", CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("https://api.groq.com/openai/v1", "groq", CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("https://api.groq.com", "openai", CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("https://API.groq.com/openai", "groq", CHAT, "https://API.groq.com/openai/v1/chat/completions"),
        ("https://api.groq.com/openai/v", "groq", CHAT, "https://api.groq.com/openai/v/chat/completions"),
        ("https://api.groq.com/v9", "groq", CHAT, "https://api.groq.com/v9/chat/completions"),
        ("https://generativelanguage.googleapis.com/v1beta", "gemini", CHAT, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("https://openrouter.ai/api", "openrouter", CHAT, "https://openrouter.ai/api/v1/chat/completions"),
        ("https://api.perplexity.ai", "openai", CHAT, "https://api.perplexity.ai/chat/completions"),
        ("https://api.deepseek.com/beta", "deepseek", CHAT, "https://api.deepseek.com/beta/chat/completions"),
        ("https://api.deepseek.com/anthropic", "anthropic", MESSAGES, "https://api.deepseek.com/anthropic/v1/messages"),
        ("https://open.bigmodel.cn/api/anthropic", "anthropic", MESSAGES, "https://open.bigmodel.cn/api/anthropic/v1/messages"),
        ("https://open.bigmodel.cn/api/coding/paas/v4", "zhipu", CHAT, "https://open.bigmodel.cn/api/coding/paas/v4/chat/completions"),
        ("https://api.kimi.com/coding", "openai", CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
        ("https://api.kimi.com/coding/", "moonshotai", CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
        ("https://api.kimi.com/coding/v1", "moonshotai", CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
        ("https://api.kimi.com", "moonshotai", CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
    ],
)  # fmt: skip
def test_on_a_known_host_the_beginning_of_its_path_is_enough(
    base: str, interface: str, path: str, expected: str
) -> None:
    """Whole steps that its own path begins with are completed, whoever's row applies."""
    assert target_url(base, interface, path) == expected


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://me.openai.azure.com", "/openai/deployments/a%2Fb%20c/chat/completions?api-version=2025-01-01-preview"),
        ("https://me.openai.azure.com/openai", "/openai/deployments/a%2Fb%20c/chat/completions?api-version=2025-01-01-preview"),
        ("https://me.openai.azure.com/openai/deployments/", "/openai/deployments/a%2Fb%20c/chat/completions?api-version=2025-01-01-preview"),
        ("https://me.openai.azure.com/openai/deployments/mine", "/openai/deployments/mine/chat/completions?api-version=2025-01-01-preview"),
        ("https://apim.example.com/team", "/team/deployments/a%2Fb%20c/chat/completions?api-version=2025-01-01-preview"),
        ("https://me.openai.azure.com/openai/v1", "/openai/v1/chat/completions"),
        ("https://me.openai.azure.com/openai/v1/", "/openai/v1/chat/completions"),
    ],
)  # fmt: skip
def test_azure_has_an_address_for_each_deployment(base: str, expected: str) -> None:
    """A base URL may hold any part of it; below ``/v1`` there is one address for all models."""
    url = target_url(base, "azure_openai", CHAT, "a/b c")
    assert url == "/".join(base.split("/")[:3]) + expected


@pytest.mark.parametrize(
    ("base", "interface", "path", "there"),
    [
        ("https://h", "deepseek", MESSAGES, True),
        ("https://h/v1", "deepseek", MESSAGES, True),
        ("https://h/anthropic/v1", "deepseek", MESSAGES, True),
        ("https://api.deepseek.com/anthropic", "deepseek", MESSAGES, True),
        ("https://h/v2", "deepseek", MESSAGES, False),
        ("https://h/v2", "deepseek", CHAT, True),
        ("$URL", "deepseek", MESSAGES, False),
        ("http://$HOST:$PORT", "deepseek", MESSAGES, True),
        ("http://$HOST/v1/", "deepseek", MESSAGES, True),
        ("http://$HOST/v2", "deepseek", MESSAGES, False),
        ("$URL", "deepseek", CHAT, True),
        ("https://h/any", "openrouter", MESSAGES, True),
        ("https://h", "azure_openai", RESPONSES, False),
        ("https://h/openai/v1", "azure_openai", RESPONSES, True),
        ("$URL", "azure_openai", RESPONSES, False),
        ("$URL/openai/v1/", "azure_openai", RESPONSES, True),
        ("https://h", "openai", MESSAGES, False),
    ],
)  # fmt: skip
def test_what_is_spoken_depends_on_the_base_url(
    base: str, interface: str, path: str, *, there: bool
) -> None:
    """A path beside the usual one is there as long as the base URL is laid out as the vendor's."""
    assert (path in spoken(base, interface)) is there


def test_names_of_provider_clients_are_plain() -> None:
    """Letters, digits and hyphens: they are names of deployments."""
    assert slug("together_ai", None) == "together-ai"
    assert slug("azure_openai", "https://a_b.openai.azure.com").startswith(
        "azure-openai-a-b-openai"
    )
