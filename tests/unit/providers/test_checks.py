"""Problems of entries of ``model_providers``: location, message and fix."""

from pathlib import Path

import pytest

from serve_app.config.locations import ConfigError
from serve_app.domain import ModelRef
from serve_app.providers.table import INTERFACES, PROVIDERS
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

ONE_KEY = "because only one key is sent; remove one of them"


def problems_of(directory: Path, *entries: str, more: str = "") -> list[tuple[str, str]]:
    """The location within model_providers and the message of each problem."""
    lines = "".join(f"  - {{{entry}}}\n" for entry in entries)
    try:
        snapshot_of(directory, f"{V}{more}model_providers:\n{lines}")
    except ConfigError as error:
        return [(p.path.removeprefix("model_providers"), p.message) for p in error.problems]
    return []


@pytest.mark.parametrize(
    ("entry", "location", "text"),
    [
        ("model: openai/a, headers: {Host: h}", "[0].headers.Host", "is set by the gateway; use http_host instead"),
        ("model: openai/a, headers: {content-LENGTH: '1'}", "[0].headers.content-LENGTH", "is set by the gateway; remove it"),
        ("model: openai/a, headers: {transfer-encoding: chunked}", "[0].headers.transfer-encoding", "is set by the gateway; remove it"),
        ("model: openai/a, headers: {Connection: close}", "[0].headers.Connection", "is set by the gateway; remove it"),
        ("model: openai/a, headers: {'x y': v}", "[0].headers.x y", "is not a valid header name"),
        ("model: openai/a, headers: {'x:': v}", "[0].headers.x:", "is not a valid header name"),
        ("model: openai/a, headers: {é: v}", "[0].headers.é", "is not a valid header name"),
        ("model: openai/a, headers: {X-A: v, x-a: w}", "[0].headers.x-a", "duplicate header (compared case-insensitively); keep one"),
        ('model: openai/a, headers: {x-a: "v\\r\\nx-b: w"}', "[0].headers.x-a", "contains a line break or another control character"),
        ("model: openai/a, http_host: 'http://h'", "[0].http_host", "must be a host, such as api.example.com, not 'http://h'"),
        ("model: openai/a, http_host: 'a b'", "[0].http_host", "must be a host, such as api.example.com, not 'a b'"),
        ("model: openai/a, passthrough_auth: true, access_key: sk-secret", "[0].passthrough_auth", f"conflicts with access_key, {ONE_KEY}"),
        ("model: openai/a, passthrough_auth: true, headers: {X-Api-Key: sk-secret}", "[0].passthrough_auth", f"conflicts with the key in headers, {ONE_KEY}"),
        ("model: openai/*, name: x", "[0].name", "a wildcard cannot have a name; remove it"),
        ("model: openai/*, display_name: x", "[0].display_name", "a wildcard cannot have a display name; remove it"),
        ("model: chatgpt/gpt-5", "[0].model", "'chatgpt' requires a subscription sign-in (OAuth), which is not supported; use openai/ with an API key"),
        ("model: chatgpt/*, base_url: 'http://h'", "[0].model", "'chatgpt' requires a subscription sign-in (OAuth), which is not supported; use openai/ with an API key"),
        ("model: my/gpt-5, base_url: 'http://h', provider_interface: chatgpt", "[0].provider_interface", "'chatgpt' requires a subscription sign-in (OAuth), which is not supported; use openai/ with an API key"),
        ("model: vllm/a, base_url: 'http://[$IP:8000'", "[0].base_url", "is not a URL: Invalid IPv6 URL"),
        ("model: azure_openai/a", "[0]", "'azure_openai' has no public address; add base_url, such as https://NAME.openai.azure.com"),
        ("model: amazon_bedrock/a", "[0]", "'amazon_bedrock' has no public address; add base_url, such as https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("model: plano/Arch-Router", "[0]", "'plano' has no public address; add base_url, such as http://host:8000/v1"),
        ("model: ollama/a", "[0]", "'ollama' has no public address; add base_url, such as http://host:11434"),
        ("model: groq/a, provider_interface: openai", "[0].provider_interface", "'groq' is a known provider; remove provider_interface"),
        ("model: my/a, base_url: 'http://h', provider_interface: grok", "[0].provider_interface", f"must be one of {', '.join(INTERFACES)}, not 'grok'"),
        ("model: perplexity/a, provider_interface: grok", "[0].provider_interface", f"must be one of {', '.join(INTERFACES)}, not 'grok'"),
        ("model: my/a, provider_interface: openai", "[0].model", "unknown provider 'my'; add base_url"),
    ],
)  # fmt: skip
def test_entry_problem_has_location_and_fix(
    entry: str, location: str, text: str, tmp_path: Path
) -> None:
    """Each entry has one problem, at its key, without the value of a header or a key."""
    assert problems_of(tmp_path, entry) == [(location, text)]


def test_passthrough_may_have_client_keys(tmp_path: Path) -> None:
    """A client sends its key of the gateway in a header of its own."""
    entry = "model: openai/*, passthrough_auth: true"
    assert problems_of(tmp_path, entry, more="client_keys: [$K]\n") == []


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("model: openai/a", True),
        ("model: openai/a, base_url: 'https://api.openai.com/v1/'", True),
        ("model: openai/a, default: true", True),
        ("model: openai/a, headers: {x-a: b}", True),
        ("model: openai/a, access_key: $OTHER", False),
        ("model: openai/a, base_url: 'https://eu.api.openai.com/v1'", False),
        ("model: openai/b", False),
        ("model: azure_openai/a, base_url: 'https://x'", False),
    ],
)
def test_model_may_have_several_endpoints(other: str, *, same: bool, tmp_path: Path) -> None:
    """Entries of one model must differ in base URL or key."""
    problems = problems_of(tmp_path, "model: openai/a", other)
    text = "duplicate entry 'openai/a'; set another base_url or access_key, or remove it"
    assert problems == ([("[1].model", text)] if same else [])


@pytest.mark.parametrize("interface", INTERFACES)
def test_unknown_provider_may_have_any_interface(interface: str, tmp_path: Path) -> None:
    """Every row applies to a server of another name, which then needs no key."""
    text = f"{V}model_providers:\n  - {{model: my/a, base_url: 'http://h', provider_interface: {interface}}}\n"
    endpoint = snapshot_of(tmp_path, text).providers.endpoint(ModelRef("my", "a"))
    assert endpoint is not None
    assert (endpoint.interface, endpoint.lacks_key) == (interface, False)


@pytest.mark.parametrize("provider", [n for n in INTERFACES if PROVIDERS[n].any_interface])
@pytest.mark.parametrize(("interface", "own"), [("openai", True), ("anthropic", False)])
def test_provider_without_row_in_plano_keeps_its_own_row(
    provider: str, interface: str, *, own: bool, tmp_path: Path
) -> None:
    """Plano's files must set an interface for them; for openai their own row is more precise."""
    text = f"{V}model_providers:\n  - {{model: {provider}/a, base_url: 'http://h', provider_interface: {interface}}}\n"
    endpoint = snapshot_of(tmp_path, text).providers.endpoint(ModelRef(provider, "a"))
    assert endpoint is not None
    assert endpoint.interface == (provider if own else interface)
