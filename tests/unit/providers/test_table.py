"""The rows: what they say of models, and that they are of one piece."""

from urllib.parse import urlsplit

import pytest

from serve_app.dialects.json_edits import NO_QUIRK, Quirk, read_document, rewrite_document
from serve_app.exchange import Operation
from serve_app.providers.table import INTERFACES, PROVIDERS, ProviderSpec, host_headers, quirk_of

SAMPLING = '"temperature":0.2,"top_p":1,"n":2,"presence_penalty":0,"frequency_penalty":0'
KIMI = (
    '"stream_options":{"include_usage":true},"reasoning_effort":"low","web_search_options":{},'
    '"service_tier":"auto","store":true,"thinking":{"type":"enabled"}'
)


@pytest.mark.parametrize(
    ("interface", "model", "sent", "received"),
    [
        ("openai", "o3", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "o1-mini", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "o4-mini-2025-04-16", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "gpt-5", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "gpt-5.1-codex", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "gpt-5-chat-latest", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "gpt-5", '"max_tokens":5,"max_completion_tokens":6', '"max_completion_tokens":6'),
        ("azure_openai", "gpt-5-mini", '"max_tokens":5', '"max_completion_tokens":5'),
        ("github", "openai/o3", '"max_tokens":5', '"max_completion_tokens":5'),
        ("openai", "gpt-4o", '"max_tokens":5', '"max_tokens":5'),
        ("openai", "gpt-50", '"max_tokens":5', '"max_tokens":5'),
        ("openai", "o3x", '"max_tokens":5', '"max_tokens":5'),
        ("openai", "ft:gpt-4o:o3", '"max_tokens":5', '"max_tokens":5'),
        ("vllm", "gpt-5", '"max_tokens":5', '"max_tokens":5'),
        ("openrouter", "openai/o3", '"max_tokens":5', '"max_tokens":5'),
        ("openai", "gpt-5", '"temperature":0.2', ""),
        ("openai", "gpt-5-nano-2025-08-07", '"temperature":0', ""),
        ("openai", "o3-mini", '"temperature":0.2,"n":1', '"n":1'),
        ("openai", "gpt-5", '"temperature":1.0', '"temperature":1.0'),
        ("openai", "gpt-5.1", '"temperature":0.2', '"temperature":0.2'),
        ("openai", "gpt-5-chat-latest", '"temperature":0.2', '"temperature":0.2'),
        ("openai", "gpt-4o", '"temperature":0.2', '"temperature":0.2'),
        ("mistral", "mistral-large", '"max_completion_tokens":5', '"max_tokens":5'),
        ("mistral", "x", '"max_completion_tokens":5,"max_tokens":6', '"max_tokens":6'),
        ("xai", "grok-4", '"web_search_options":{"a":1},"n":1', '"n":1'),
        ("openai", "gpt-4o", '"web_search_options":{"a":1}', '"web_search_options":{"a":1}'),
        ("moonshotai", "kimi-k3", f'{SAMPLING},"stop":[]', '"stop":[]'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"none"', '"reasoning_effort":"low"'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"minimal"', '"reasoning_effort":"low"'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"low"', '"reasoning_effort":"low"'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"medium"', '"reasoning_effort":"high"'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"high"', '"reasoning_effort":"high"'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"max"', '"reasoning_effort":"max"'),
        ("moonshotai", "kimi-k3", '"reasoning_effort":"xhigh"', ""),
        ("moonshotai", "kimi-k3", '"reasoning_effort":null', ""),
        ("moonshotai", "kimi-k3.1", SAMPLING, SAMPLING),
        ("openrouter", "moonshotai/kimi-k3", SAMPLING, SAMPLING),
        ("openai", "kimi-for-coding", f'{KIMI},"n":1', '"n":1'),
        ("moonshotai", "kimi-for-coding", f'{KIMI},"n":1', '"n":1'),
        ("mistral", "kimi-for-coding", '"store":true,"max_completion_tokens":5', '"max_tokens":5'),
        ("openai", "kimi-for-coding-2", KIMI, KIMI),
    ],
)  # fmt: skip
def test_quirks_correct_refused_requests(
    interface: str, model: str, sent: str, received: str
) -> None:
    """Fields that a provider would refuse are corrected; everything else stays as it is."""
    document = read_document(f'{{"model":"x","messages":[],{sent}}}'.encode(), unique=frozenset())
    quirk = quirk_of(interface, model, Operation.CHAT)
    body = rewrite_document(document, model=model, cut=frozenset(), quirk=quirk).decode()
    rest = f",{received}" if received else ""
    assert body == f'{{"model":"{model}","messages":[]{rest}}}'


@pytest.mark.parametrize(
    ("interface", "model", "path", "any_at_all"),
    [
        ("openai", "gpt-5", Operation.CHAT, True),
        ("openai", "gpt-5", Operation.RESPONSES, True),
        ("openai", "gpt-5", Operation.EMBEDDINGS, False),
        ("openai", "gpt-4o", Operation.CHAT, False),
        ("mistral", "mistral-embed", Operation.EMBEDDINGS, False),
        ("moonshotai", "kimi-k3", Operation.MESSAGES, False),
        ("xai", "grok-4", Operation.RESPONSES, False),
    ],
)
def test_quirk_applies_to_its_operations_only(
    interface: str, model: str, path: str, *, any_at_all: bool
) -> None:
    """Other dialects have other keys; without a quirk the result is always the same object."""
    assert (quirk_of(interface, model, path) is not NO_QUIRK) is any_at_all


def test_reasoning_model_fixes_temperature_of_responses() -> None:
    """In requests for responses, only the temperature of a reasoning model is changed."""
    assert quirk_of("openai", "gpt-5", Operation.RESPONSES) == Quirk(values={"temperature": {1: 1}})


ROWS = [pytest.param(spec, id=name) for name, spec in PROVIDERS.items()]


@pytest.mark.parametrize("spec", ROWS)
def test_row_is_consistent(spec: ProviderSpec) -> None:
    """Its operations exist, and its base URL ends with its default path."""
    assert spec.operations <= set(Operation)
    assert set(spec.elsewhere) <= spec.operations
    assert spec.base_url is None or urlsplit(spec.base_url).path == spec.default_path


@pytest.mark.parametrize("model", ["o3", "gpt-5", "kimi-k3", "kimi-for-coding", "any"])
def test_key_has_at_most_one_quirk(model: str) -> None:
    """For any provider, a key is either dropped, renamed or valued, and is not a new name."""
    for interface in INTERFACES:
        for path in Operation:
            quirk = quirk_of(interface, model, path)
            keys = [*quirk.drop, *quirk.rename, *quirk.values, *quirk.rename.values()]
            assert len(keys) == len(set(keys)), (interface, path)


def test_operations_of_well_known_rows() -> None:
    """Anthropic is asked in its own dialect alone, xAI has responses, vLLM no messages."""
    assert PROVIDERS["anthropic"].operations == {Operation.MESSAGES, Operation.COUNT_TOKENS}
    assert PROVIDERS["xai"].operations == {Operation.CHAT, Operation.RESPONSES}
    assert Operation.MESSAGES not in PROVIDERS["vllm"].operations


def test_interfaces_are_the_supported_rows() -> None:
    """They are all rows except those that are refused."""
    assert set(PROVIDERS) - set(INTERFACES) == {"chatgpt"}


def test_host_may_require_headers() -> None:
    """Kimi's coding plan answers its own program only."""
    assert dict(host_headers("api.kimi.com")) == {"user-agent": "KimiCLI/1.3"}
    assert host_headers("api.openai.com") == ()
