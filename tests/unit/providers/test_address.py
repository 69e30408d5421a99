"""Addresses of operations below base URLs, for every row and for known hosts."""

import pytest

from serve_app.exchange import PATHS, Operation
from serve_app.providers.address import operations_at, slug, target_url
from serve_app.providers.table import INTERFACES, PROVIDERS

PLAIN = [name for name in INTERFACES if PROVIDERS[name].api_version is None]
MAIN = [
    (name, operation)
    for name in PLAIN
    for operation in Operation
    if operation in PROVIDERS[name].operations and operation not in PROVIDERS[name].elsewhere
]


@pytest.mark.parametrize(("name", "operation"), MAIN)
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
def test_path_replaces_default_path_of_row(
    name: str, operation: Operation, base: str, prefix: str
) -> None:
    """For any provider, only the operation's path is added to a base URL with a path."""
    origin = "/".join(base.split("/")[:3])
    assert target_url(base, name, operation) == f"{origin}{prefix}{PATHS[operation]}"


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("base", ["http://h:8000", "http://h:8000/", "http://h:8000//"])
def test_base_url_without_path_gets_path_of_row(name: str, base: str) -> None:
    """A self-hosted server has the same layout as the vendor's."""
    expected = f"http://h:8000{PROVIDERS[name].default_path}{PATHS[Operation.CHAT]}"
    assert target_url(base, name, Operation.CHAT) == expected
    assert operations_at(base, name) == PROVIDERS[name].operations


@pytest.mark.parametrize("name", INTERFACES)
def test_written_out_address_is_the_default_one(name: str) -> None:
    """A row's own base URL, with its path, without, or with a trailing slash, is the same address."""
    spec = PROVIDERS[name]
    if spec.base_url is None:
        assert slug(name, "http://h:1") != slug(name, "http://h:2")
        return
    origin = "/".join(spec.base_url.split("/")[:3])
    for base in (spec.base_url, f"{spec.base_url}/", origin):
        assert target_url(base, name, Operation.CHAT) == f"{spec.base_url}{PATHS[Operation.CHAT]}"
        assert slug(name, base) == slug(name, None)
        assert operations_at(base, name) == spec.operations
    assert slug(name, f"{origin}:8443") != slug(name, None)


@pytest.mark.parametrize(
    ("base", "interface", "operation", "expected"),
    [
        ("https://api.groq.com/openai", "groq", Operation.CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("https://api.groq.com/openai/v1", "groq", Operation.CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("https://api.groq.com", "openai", Operation.CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("https://API.groq.com/openai", "groq", Operation.CHAT, "https://API.groq.com/openai/v1/chat/completions"),
        ("https://api.groq.com/openai/v", "groq", Operation.CHAT, "https://api.groq.com/openai/v/chat/completions"),
        ("https://api.groq.com/v9", "groq", Operation.CHAT, "https://api.groq.com/v9/chat/completions"),
        ("https://generativelanguage.googleapis.com/v1beta", "gemini", Operation.CHAT, "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("https://openrouter.ai/api", "openrouter", Operation.CHAT, "https://openrouter.ai/api/v1/chat/completions"),
        ("https://api.perplexity.ai", "openai", Operation.CHAT, "https://api.perplexity.ai/chat/completions"),
        ("https://api.deepseek.com/beta", "deepseek", Operation.CHAT, "https://api.deepseek.com/beta/chat/completions"),
        ("https://api.deepseek.com/anthropic", "anthropic", Operation.MESSAGES, "https://api.deepseek.com/anthropic/v1/messages"),
        ("https://open.bigmodel.cn/api/anthropic", "anthropic", Operation.MESSAGES, "https://open.bigmodel.cn/api/anthropic/v1/messages"),
        ("https://open.bigmodel.cn/api/coding/paas/v4", "zhipu", Operation.CHAT, "https://open.bigmodel.cn/api/coding/paas/v4/chat/completions"),
        ("https://api.kimi.com/coding", "openai", Operation.CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
        ("https://api.kimi.com/coding/", "moonshotai", Operation.CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
        ("https://api.kimi.com/coding/v1", "moonshotai", Operation.CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
        ("https://api.kimi.com", "moonshotai", Operation.CHAT, "https://api.kimi.com/coding/v1/chat/completions"),
    ],
)  # fmt: skip
def test_beginning_of_known_hosts_path_is_completed(
    base: str, interface: str, operation: Operation, expected: str
) -> None:
    """Whole segments at the beginning of the host's path are completed, for any row."""
    assert target_url(base, interface, operation) == expected


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
    """A base URL may contain any part of it; below ``/v1`` there is one address for all models."""
    url = target_url(base, "azure_openai", Operation.CHAT, "a/b c")
    assert url == "/".join(base.split("/")[:3]) + expected


@pytest.mark.parametrize(
    ("base", "interface", "operation", "available"),
    [
        ("https://h", "deepseek", Operation.MESSAGES, True),
        ("https://h/v1", "deepseek", Operation.MESSAGES, True),
        ("https://h/anthropic/v1", "deepseek", Operation.MESSAGES, True),
        ("https://api.deepseek.com/anthropic", "deepseek", Operation.MESSAGES, True),
        ("https://h/v2", "deepseek", Operation.MESSAGES, False),
        ("https://h/v2", "deepseek", Operation.CHAT, True),
        ("$URL", "deepseek", Operation.MESSAGES, False),
        ("http://$HOST:$PORT", "deepseek", Operation.MESSAGES, True),
        ("http://$HOST/v1/", "deepseek", Operation.MESSAGES, True),
        ("http://$HOST/v2", "deepseek", Operation.MESSAGES, False),
        ("$URL", "deepseek", Operation.CHAT, True),
        ("https://h/any", "openrouter", Operation.MESSAGES, True),
        ("https://h", "azure_openai", Operation.RESPONSES, False),
        ("https://h/openai/v1", "azure_openai", Operation.RESPONSES, True),
        ("$URL", "azure_openai", Operation.RESPONSES, False),
        ("$URL/openai/v1/", "azure_openai", Operation.RESPONSES, True),
        ("https://h", "openai", Operation.MESSAGES, False),
    ],
)  # fmt: skip
def test_operations_depend_on_base_url(
    base: str, interface: str, operation: str, *, available: bool
) -> None:
    """A path elsewhere is available as long as the base URL has the vendor's layout."""
    assert (operation in operations_at(base, interface)) is available


def test_slugs_are_plain() -> None:
    """They consist of letters, digits and hyphens, because they are names of deployments."""
    assert slug("together_ai", None) == "together-ai"
    assert slug("azure_openai", "https://a_b.openai.azure.com").startswith(
        "azure-openai-a-b-openai"
    )


def test_query_of_a_path_is_joined_with_the_version() -> None:
    """An address has one question mark."""
    url = target_url("https://h", "azure_openai", Operation.RESPONSES, "a", "/responses/r?limit=1")
    assert url.partition("/responses/")[2] == "r?limit=1&api-version=2025-01-01-preview"
