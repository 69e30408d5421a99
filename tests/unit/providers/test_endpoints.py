"""The table of endpoints, slugs, data paths and addresses."""

import re
from pathlib import Path

import pytest

from serve_app.config.locations import ConfigError
from serve_app.domain import DataPath, ModelRef
from serve_app.exchange import Operation
from serve_app.providers.address import slug, target_url, url_fault
from serve_app.providers.endpoints import ProviderTable
from serve_app.providers.table import PROVIDERS
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of


def table(directory: Path, *entries: str) -> ProviderTable:
    """The table of these entries, each in YAML's flow style."""
    lines = "".join(f"  - {{{entry}}}\n" for entry in entries)
    return snapshot_of(directory, f"{V}model_providers:\n{lines}").providers


@pytest.mark.parametrize(
    ("interface", "base_url", "expected"),
    [
        ("openai", None, "openai"),
        ("vllm", "http://gpu:8000/v1", "vllm-gpu-8000"),
        ("vllm", "http://gpu:8000/other", "vllm-gpu-8000"),
        ("vllm", "http://gpu", "vllm-gpu-80"),
        ("vllm", "http://gpu:80", "vllm-gpu-80"),
        ("vllm", "https://gpu", "vllm-gpu"),
        ("vllm", "https://gpu:443/v1", "vllm-gpu"),
        ("vllm", "https://gpu:8443", "vllm-gpu-8443-https"),
        ("vllm", "http://10.0.0.7:8000", "vllm-10-0-0-7-8000"),
        ("vllm", "HTTP://GPU.example.com:8000", "vllm-gpu-example-com-8000"),
        ("vllm", "http://[::1]:8000", "vllm---1-8000-5068"),
        ("vllm", "$VLLM_URL", "vllm-vllm-url"),
        ("openai", "https://eu.api.openai.com/v1", "openai-eu-api-openai-com"),
    ],
)
def test_slug_names_interface_and_origin(
    interface: str, base_url: str | None, expected: str
) -> None:
    """The default origin is left out, and the path is never part of it."""
    assert slug(interface, base_url) == expected


def test_default_base_url_has_default_slug() -> None:
    """Writing out a provider's own base URL changes nothing."""
    assert slug("openai", PROVIDERS["openai"].base_url) == slug("openai", None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://gpu:8000", "http://gpu:8001"),
        ("http://gpu:8000", "https://gpu:8000"),
        ("http://gpu", "https://gpu"),
        ("http://gpu:8000", "http://cpu:8000"),
        ("$ONE", "$OTHER"),
        ("http://a.b:1", "http://a-b:1"),
        ("http://gpu:8000", "https://gpu-8000"),
        ("http://$HOST:8000", "http://$HOST:8001"),
        ("http://$HOST:8000", "https://$HOST:8000"),
        ("http://a.$DOMAIN", "http://b.$DOMAIN"),
    ],
)
def test_different_origins_have_different_slugs(one: str, other: str) -> None:
    """Scheme, host and port distinguish providers, written out or by reference."""
    assert slug("vllm", one) != slug("vllm", other)


@pytest.mark.parametrize(
    ("base_url", "interface", "expected"),
    [
        ("http://host:8000", "vllm", "http://host:8000/v1/chat/completions"),
        ("http://host:8000/", "vllm", "http://host:8000/v1/chat/completions"),
        ("http://host/v1", "vllm", "http://host/v1/chat/completions"),
        ("http://host/v1/", "vllm", "http://host/v1/chat/completions"),
        ("https://host/openai/v1/", "openai", "https://host/openai/v1/chat/completions"),
        ("https://api.openai.com/v1", "openai", "https://api.openai.com/v1/chat/completions"),
        ("http://host/a%20b", "ollama", "http://host/a%20b/chat/completions"),
        ("http://[::1]:8000", "ollama", "http://[::1]:8000/v1/chat/completions"),
    ],
)
def test_path_in_base_url_replaces_default_path(
    base_url: str, interface: str, expected: str
) -> None:
    """Without a path the provider's own is used, with one nothing is added to it."""
    assert target_url(base_url, interface, Operation.CHAT) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://h:1/a/b",
        "http://[::1]:8",
        "http://h:65535",
        "HTTP://H",
        "http://1.2.3.4/",
    ],
)
def test_valid_url_has_no_fault(url: str) -> None:
    """Scheme and host are enough."""
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "must be a URL"),
        ("h", "must be a URL"),
        ("h:80", "must be a URL"),
        ("//h", "must be a URL"),
        ("ws://h", "must be a URL"),
        ("http://", "must be a URL"),
        ("http:///v1", "must be a URL"),
        ("http://h:0", "must be a URL"),
        ("http://h:65536", "is not a URL"),
        ("http://h:x", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://u:p@h", "contains a password"),
        ("http://u@h", "contains a password"),
        ("http://h?a=b", "must end with its path"),
        ("http://h/#x", "must end with its path"),
    ],
)
def test_invalid_url_has_a_fault(url: str, text: str) -> None:
    """Strings that are not an address, or contain too much, are explained."""
    assert text in (url_fault(url) or "")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["model: openai/a"], {"openai": DataPath.DEDICATED}),
        (["model: openai/*"], {"openai": DataPath.SHARED}),
        (["model: openai/*", "model: openai/a"], {"openai": DataPath.DEDICATED}),
        (["model: openai/a, data_path: inline", "model: openai/b"], {"openai": DataPath.INLINE}),
        (["model: openai/a", "model: openai/*, data_path: shared"], {"openai": DataPath.SHARED}),
        (["model: openai/*, data_path: dedicated"], {"openai": DataPath.DEDICATED}),
        (
            ["model: vllm/a, base_url: 'http://h:1'", "model: vllm/b, base_url: 'http://h:2', data_path: inline"],
            {"vllm-h-1": DataPath.DEDICATED, "vllm-h-2": DataPath.INLINE},
        ),
        (
            ["model: vllm/a, base_url: 'http://h:1'", "model: mine/b, base_url: 'http://h:1', provider_interface: vllm"],
            {"vllm-h-1": DataPath.DEDICATED},
        ),
    ],
)  # fmt: skip
def test_each_provider_has_one_data_path(
    entries: list[str], expected: dict[str, DataPath], tmp_path: Path
) -> None:
    """The data path of an entry applies to its provider; the default is dedicated, for wildcards alone shared."""
    assert table(tmp_path, *entries).data_paths() == expected


def test_conflicting_data_paths_are_a_problem(tmp_path: Path) -> None:
    """The problem is located at the later entry."""
    entries = ["model: openai/a, data_path: inline", "model: openai/b, data_path: dedicated"]
    with pytest.raises(ConfigError) as caught:
        table(tmp_path, *entries)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (4, "model_providers[1].data_path")


def test_endpoint_is_found_by_name_then_by_wildcard(tmp_path: Path) -> None:
    """A configured model has its own endpoint; others of its provider have the wildcard's."""
    found = table(tmp_path, "model: openai/*, access_key: $W", "model: openai/a, access_key: $A")
    keys = {}
    for name in ("openai/a", "openai/b", "vllm/a"):
        endpoint = found.endpoint(ModelRef.parse(name))
        keys[name] = endpoint and endpoint.access_key
    assert keys == {"openai/a": "$A", "openai/b": "$W", "vllm/a": None}


@pytest.mark.parametrize(
    ("entry", "needed", "base_url"),
    [
        ("model: openai/a", True, "https://api.openai.com/v1"),
        ("model: openai/a, base_url: 'http://h'", False, "http://h"),
        ("model: vllm/a, base_url: 'http://h/v1'", False, "http://h/v1"),
        ("model: ollama/a, base_url: $URL", False, "$URL"),
        ("model: x/a, base_url: 'http://h', provider_interface: openai", False, "http://h"),
        ("model: azure_openai/a, base_url: 'https://h'", True, "https://h"),
        ("model: amazon_bedrock/a, base_url: 'https://h'", True, "https://h"),
        ("model: x/a, base_url: 'https://h', provider_interface: qwen", False, "https://h"),
        ("model: plano/a, base_url: 'http://h'", False, "http://h"),
    ],
)
def test_endpoint_is_as_configured(entry: str, needed: bool, base_url: str, tmp_path: Path) -> None:
    """References stay unexpanded, and only a vendor's own address needs a key."""
    (endpoint,) = table(tmp_path, entry).models.values()
    assert (endpoint.key_needed, endpoint.base_url) == (needed, base_url)


def test_endpoint_repr_hides_its_key(tmp_path: Path) -> None:
    """Its repr can be logged."""
    entry = "model: openai/a, access_key: sk-1, headers: {x-key: sk-2, authorization: sk-3}"
    shown = repr(table(tmp_path, entry))
    assert not [key for key in ("sk-1", "sk-2", "sk-3") if key in shown]


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("model: openai/a", ["access_key"]),
        ("model: openai/a, access_key: $K", ["K"]),
        ("model: openai/a, access_key: $SET", []),
        ("model: openai/a, access_key: sk-1", []),
        ("model: openai/a, passthrough_auth: true", []),
        ("model: openai/a, headers: {Authorization: Bearer x}", []),
        ("model: openai/a, headers: {X-Team: x}", ["access_key"]),
        ("model: openai/a, access_key: $K, headers: {X-Team: $T, X-Other: $K$SET}", ["K", "T"]),
        ("model: vllm/a, base_url: 'http://$HOST:1', access_key: $K", ["HOST", "K"]),
        ("model: openai/a, access_key: 'file:/nowhere/key'", ["file:/nowhere/key"]),
    ],
)
def test_missing_lists_variables_files_and_key(
    entry: str, names: list[str], tmp_path: Path
) -> None:
    """Nothing is missing that comes with a request."""
    (endpoint,) = table(tmp_path, entry).models.values()
    assert endpoint.missing({"SET": "x"}) == names


def test_file_references_are_relative_to_configuration(tmp_path: Path) -> None:
    """It applies to keys and headers, wherever a process runs."""
    entry = "model: openai/a, access_key: 'file:keys/one', headers: {X-Team: 'file:team'}"
    (endpoint,) = table(tmp_path, entry).models.values()
    assert endpoint.access_key == f"file:{tmp_path}/keys/one"
    assert endpoint.headers == (("x-team", f"file:{tmp_path}/team"),)


def test_kimis_host_gets_its_user_agent(tmp_path: Path) -> None:
    """The configuration can override it; a host in a variable is not known."""
    kimi = "model: moonshotai/kimi-for-coding, base_url: 'https://api.kimi.com/coding'"
    agents = []
    for entry in (
        kimi,
        f"{kimi}, headers: {{User-Agent: mine}}",
        "model: moonshotai/a, base_url: $U",
    ):
        (endpoint,) = table(tmp_path, entry).models.values()
        agents.append(dict(endpoint.headers).get("user-agent"))
    assert agents == ["KimiCLI/1.3", "mine", None]


def test_endpoints_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Entries of a model are its endpoints; the wildcard's are for models without an entry."""
    found = table(
        tmp_path,
        "model: openai/a, access_key: $A1",
        "model: openai/*, access_key: $W1",
        "model: openai/a, access_key: $A2",
        "model: openai/*, access_key: $W2, base_url: 'https://eu.api.openai.com/v1'",
    )
    a, b, c = (ModelRef.parse(name) for name in ("openai/a", "openai/b", "vllm/c"))
    keys = [[one.access_key for one in found.endpoints_of(model)] for model in (a, b, c)]
    assert keys == [["$A1", "$A2"], ["$W1", "$W2"], []]
    for ordinal, key in ((0, "$A1"), (1, "$A2"), (2, "$A1"), (-1, "$A1")):
        endpoint = found.endpoint(a, ordinal)
        assert endpoint is not None
        assert endpoint.access_key == key
    assert found.endpoint(c, 1) is None
    assert [one.access_key for one in found.endpoints()] == ["$A1", "$A2", "$W1", "$W2"]
    assert [one.access_key for one in found.models.values()] == ["$A1"]
    assert [one.access_key for one in found.wildcards.values()] == ["$W1"]
    assert found.data_paths() == {
        "openai": DataPath.DEDICATED,
        "openai-eu-api-openai-com": DataPath.SHARED,
    }


def test_url_with_reference_is_not_checked_in_file(tmp_path: Path) -> None:
    """The future value of a variable is not a problem of the file."""
    assert table(tmp_path, "model: vllm/a, base_url: $URL").data_paths() == {
        "vllm-url": DataPath.DEDICATED
    }


def test_fingerprint_is_that_of_address_and_authentication(tmp_path: Path) -> None:
    """It is the same in every process, whatever the values of references are."""
    entries = [
        "model: openai/a, access_key: $A",
        "model: openai/b, access_key: $A, data_path: dedicated",
        "model: openai/a, access_key: $B",
        "model: openai/c, access_key: $A, base_url: 'https://eu.api.openai.com/v1'",
        "model: openai/d, access_key: $A, headers: {x-team: one}",
        "model: openai/e",
    ]
    prints = [endpoint.fingerprint for endpoint in table(tmp_path, *entries).endpoints()]
    assert prints[0] == "c351490e556ad127"
    assert len(set(prints)) == 5
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in prints)


BOTH = {Operation.CHAT, Operation.RESPONSES}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("model: openai/a", BOTH),
        ("model: openai/a, base_url: 'https://api.openai.com/v1'", BOTH),
        ("model: openai/a, prompt_cache_key: false", set()),
        ("model: openai/a, base_url: 'https://eu.api.openai.com/v1'", set()),
        ("model: x/a, base_url: 'https://h', provider_interface: openai", set()),
        ("model: x/a, base_url: 'https://h', provider_interface: openai, prompt_cache_key: true", BOTH),
        ("model: vllm/a, base_url: 'http://h'", set()),
        ("model: anthropic/a", set()),
    ],
)  # fmt: skip
def test_cache_key_is_sent_where_it_is_known_to_be_accepted(
    entry: str, expected: set[Operation], tmp_path: Path
) -> None:
    """Other servers that speak the same API may refuse the field, so they get it on request only."""
    (endpoint,) = table(tmp_path, entry).models.values()
    assert endpoint.cache_key_in == expected
