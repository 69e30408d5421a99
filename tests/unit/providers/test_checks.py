"""What is wrong with an entry of ``model_providers``: where, what, and the way out."""

from pathlib import Path

import pytest

from serve_app.config.locations import ConfigError
from serve_app.domain import ModelRef
from serve_app.providers.table import INTERFACES, PROVIDERS
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

TAKE_OUT = "goes to the provider; take one of them out"


def problems_of(directory: Path, *entries: str, more: str = "") -> list[tuple[str, str]]:
    """The place within model_providers, and the text, of each problem."""
    lines = "".join(f"  - {{{entry}}}\n" for entry in entries)
    try:
        snapshot_of(directory, f"{V}{more}model_providers:\n{lines}")
    except ConfigError as error:
        return [(p.path.removeprefix("model_providers"), p.message) for p in error.problems]
    return []


@pytest.mark.parametrize(
    ("entry", "place", "text"),
    [
        ("model: openai/a, headers: {Host: h}", "[0].headers.Host", "is ours to set; write http_host in place of it"),
        ("model: openai/a, headers: {content-LENGTH: '1'}", "[0].headers.content-LENGTH", "is ours to set; take it out"),
        ("model: openai/a, headers: {transfer-encoding: chunked}", "[0].headers.transfer-encoding", "is ours to set; take it out"),
        ("model: openai/a, headers: {Connection: close}", "[0].headers.Connection", "is ours to set; take it out"),
        ("model: openai/a, headers: {'x y': v}", "[0].headers.x y", "is no name of a header"),
        ("model: openai/a, headers: {'x:': v}", "[0].headers.x:", "is no name of a header"),
        ("model: openai/a, headers: {é: v}", "[0].headers.é", "is no name of a header"),
        ("model: openai/a, headers: {X-A: v, x-a: w}", "[0].headers.x-a", "stands there twice, in other letters; keep one"),
        ('model: openai/a, headers: {x-a: "v\\r\\nx-b: w"}', "[0].headers.x-a", "holds a line break or another control sign"),
        ("model: openai/a, http_host: 'http://h'", "[0].http_host", "must be a host, such as api.example.com, not 'http://h'"),
        ("model: openai/a, http_host: 'a b'", "[0].http_host", "must be a host, such as api.example.com, not 'a b'"),
        ("model: openai/a, passthrough_auth: true, access_key: sk-secret", "[0].passthrough_auth", f"the client's key or access_key {TAKE_OUT}"),
        ("model: openai/a, passthrough_auth: true, headers: {X-Api-Key: sk-secret}", "[0].passthrough_auth", f"the client's key or that in headers {TAKE_OUT}"),
        ("model: openai/*, name: x", "[0].name", "a wildcard can't have a name; hints name one model"),
        ("model: chatgpt/gpt-5", "[0].model", "'chatgpt' signs in with a subscription (OAuth), which is not supported; use openai/ with an API key"),
        ("model: chatgpt/*, base_url: 'http://h'", "[0].model", "'chatgpt' signs in with a subscription (OAuth), which is not supported; use openai/ with an API key"),
        ("model: my/gpt-5, base_url: 'http://h', provider_interface: chatgpt", "[0].provider_interface", "'chatgpt' signs in with a subscription (OAuth), which is not supported; use openai/ with an API key"),
        ("model: vllm/a, base_url: 'http://[$IP:8000'", "[0].base_url", "is no URL: Invalid IPv6 URL"),
        ("model: azure_openai/a", "[0]", "'azure_openai' has no public address; add base_url, such as https://NAME.openai.azure.com"),
        ("model: amazon_bedrock/a", "[0]", "'amazon_bedrock' has no public address; add base_url, such as https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("model: plano/Arch-Router", "[0]", "'plano' has no public address; add base_url, such as http://host:8000/v1"),
        ("model: ollama/a", "[0]", "'ollama' has no public address; add base_url, such as http://host:11434"),
        ("model: groq/a, provider_interface: openai", "[0].provider_interface", "'groq' is a provider that we know; take provider_interface out"),
        ("model: my/a, base_url: 'http://h', provider_interface: grok", "[0].provider_interface", f"must be one of {', '.join(INTERFACES)}, not 'grok'"),
        ("model: perplexity/a, provider_interface: grok", "[0].provider_interface", f"must be one of {', '.join(INTERFACES)}, not 'grok'"),
        ("model: my/a, provider_interface: openai", "[0].model", "'my' is no provider that we know; add base_url"),
    ],
)  # fmt: skip
def test_an_entry_is_explained(entry: str, place: str, text: str, tmp_path: Path) -> None:
    """One problem each, at its key, without the value of a header or a key."""
    assert problems_of(tmp_path, entry) == [(place, text)]


def test_clients_keys_are_for_one_of_the_two(tmp_path: Path) -> None:
    """With client_keys a client has no second key for the provider."""
    found = problems_of(
        tmp_path, "model: openai/*, passthrough_auth: true", more="client_keys: [$K]\n"
    )
    text = (
        "a client can show one key, and client_keys asks for one of the gateway's; "
        "take one of the two out"
    )
    assert found == [("[0].passthrough_auth", text)]


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
def test_a_model_may_have_several_endpoints(other: str, *, same: bool, tmp_path: Path) -> None:
    """Entries of one model differ by their base URL or their key."""
    found = problems_of(tmp_path, "model: openai/a", other)
    text = "'openai/a' stands there twice; give it another base_url or access_key, or take it out"
    assert found == ([("[1].model", text)] if same else [])


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_unknown_provider_may_speak_as_any_other(interface: str, tmp_path: Path) -> None:
    """Every row can be lent to a server of another name, which needs no key then."""
    text = f"{V}model_providers:\n  - {{model: my/a, base_url: 'http://h', provider_interface: {interface}}}\n"
    endpoint = snapshot_of(tmp_path, text).providers.endpoint(ModelRef("my", "a"))
    assert endpoint is not None
    assert (endpoint.interface, endpoint.lacks_key) == (interface, False)


@pytest.mark.parametrize("provider", [n for n in INTERFACES if PROVIDERS[n].any_interface])
@pytest.mark.parametrize(("interface", "own"), [("openai", True), ("anthropic", False)])
def test_providers_that_plano_has_no_row_for_keep_their_own(
    provider: str, interface: str, *, own: bool, tmp_path: Path
) -> None:
    """Plano's files must say an interface for them; openai is what their row knows better."""
    text = f"{V}model_providers:\n  - {{model: {provider}/a, base_url: 'http://h', provider_interface: {interface}}}\n"
    endpoint = snapshot_of(tmp_path, text).providers.endpoint(ModelRef(provider, "a"))
    assert endpoint is not None
    assert endpoint.interface == (provider if own else interface)
