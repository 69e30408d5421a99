"""Client keys, limits and budgets as the official SDKs meet them over HTTP."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import openai
import pytest

from tests.scripted_provider import ScriptedProvider
from tests.site import SECRET, Site, eventually, write_config
from tests.wire.conftest import serve_api

MODEL = "inline/parrot"
HELLO: list[Any] = [{"role": "user", "content": "hi"}]
KEYS = [
    {"key": "fp-narrow", "name": "narrow", "allow": ["fast"]},
    {"key": "fp-slow", "name": "slow", "limits": {"requests_per_minute": 1}},
    {"key": "fp-poor", "name": "poor", "budget": {"usd": 0.001, "window": "day"}},
    {"key": "fp-rich", "name": "rich", "budget": {"usd": 1000}},
    {"key": "fp-one", "name": "one", "limits": {"concurrent": 1}},
]


@pytest.fixture(scope="module")
def keyed(
    tmp_path_factory: pytest.TempPathFactory,
    providers: dict[str, ScriptedProvider],
    environ: Mapping[str, str],
) -> Iterator[Site]:
    """A gateway with a client key for each rule."""
    config = write_config(tmp_path_factory.mktemp("keys"), providers)
    more = {"client_keys": KEYS, "prices": {MODEL: {"input": 1000.0, "output": 1000.0}}}
    config.write_text(json.dumps({**json.loads(config.read_text()), **more}))
    with serve_api(config, providers, environ) as running:
        yield running


def ask(site: Site, key: str, model: str = MODEL) -> Any:
    with site.client(api_key=key) as client:
        return client.chat.completions.create(model=model, messages=HELLO)


def send_message(site: Site, key: str) -> Any:
    """The raw response to a message."""
    with anthropic.Anthropic(base_url=site.url, api_key=key, max_retries=0) as client:
        raw = client.messages.with_raw_response
        return raw.create(model=MODEL, max_tokens=5, messages=HELLO)


def test_sdk_meets_what_a_key_may_not_use(keyed: Site) -> None:
    """OpenAI's SDK raises its own error for a model that is not allowed, and lists the others."""
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask(keyed, "fp-narrow")
    assert caught.value.code == "model_not_allowed"
    assert ask(keyed, "fp-narrow", "fast").choices
    with keyed.client(api_key="fp-narrow") as client:
        listed = client.models.list()
    assert [model.id for model in listed] == ["dedicated/parrot", "fast"]
    with pytest.raises(anthropic.PermissionDeniedError):
        send_message(keyed, "fp-narrow")
    with pytest.raises(openai.AuthenticationError):
        ask(keyed, "fp-unknown")


def test_sdk_meets_a_limit(keyed: Site) -> None:
    """Both SDKs raise their error of a rate limit, with the wait in its headers."""
    assert ask(keyed, "fp-slow").choices
    with pytest.raises(openai.RateLimitError) as caught:
        ask(keyed, "fp-slow")
    assert caught.value.code == "rate_limit_exceeded"
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 65
    assert caught.value.response.headers["x-ratelimit-limit-requests"] == "1"
    with pytest.raises(anthropic.RateLimitError) as refused:
        send_message(keyed, "fp-slow")
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_sdk_meets_a_spent_budget(keyed: Site) -> None:
    """After the answer that spends it, both SDKs get a 429 that they must not retry."""
    assert ask(keyed, "fp-poor").choices
    with pytest.raises(openai.RateLimitError) as caught:
        ask(keyed, "fp-poor")
    assert caught.value.code == "spending_cap_reached"
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(anthropic.RateLimitError) as refused:
        send_message(keyed, "fp-poor")
    body: Any = refused.value.body
    assert body["error"]["type"] == "billing_error"


def test_stream_holds_its_slot_to_its_end(keyed: Site) -> None:
    """A stream counts as under way until its client leaves, and not a moment longer."""
    with keyed.client(api_key="fp-one") as client:
        stream = client.chat.completions.create(model="inline/endless", messages=HELLO, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            ask(keyed, "fp-one")
        assert "1 request at once" in caught.value.message
        stream.close()

    def is_free() -> bool:
        try:
            return bool(ask(keyed, "fp-one").choices)
        except openai.RateLimitError:
            return False

    eventually(is_free, 5)


def test_messages_carry_the_standing_of_the_budget(keyed: Site) -> None:
    """Anthropic's SDK sees the headers from which Claude Code makes its notice."""
    raw = send_message(keyed, "fp-rich")
    assert raw.headers["anthropic-ratelimit-unified-status"] == "allowed"
    assert raw.headers["anthropic-ratelimit-unified-overage-utilization"] == "0.00"


def test_no_key_reaches_a_provider(keyed: Site) -> None:
    """The client's key is replaced by the provider's own."""
    ask(keyed, "fp-rich")
    sent = keyed.exchange("inline").headers
    assert sent["authorization"] == f"Bearer {SECRET}"
    assert "fp-rich" not in json.dumps(dict(sent))
