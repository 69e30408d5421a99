"""What Claude Code needs of a gateway's errors: type, status, headers, and words that it knows.

The patterns are those by which the program tells the classes of errors after which it tries again
with less. Source: Claude Code 2.1.332.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_app.access_errors import SpendingCapReached
from serve_app.dialects.registry import error_dialect
from serve_app.domain import SpentCap
from serve_app.requests.answer import error_headers
from tests.scripted_provider import ScriptedProvider
from tests.site import MESSAGES, Answered, Site
from tests.wire.claude_code import (
    BODY,
    BODY_BYTES,
    ENVIRON,
    ERRORS,
    MAIN,
    TOO_LONG,
    script_for,
    write_contract_config,
)
from tests.wire.conftest import serve_api

COUNT = f"{MESSAGES}/count_tokens"


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    """A provider that speaks three dialects."""
    with ScriptedProvider(find=script_for) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, provider: ScriptedProvider) -> Iterator[Site]:
    """The gateway that Claude Code is pointed to."""
    config = write_contract_config(tmp_path_factory.mktemp("contract"), provider.url)
    with serve_api(config, {"all": provider}, ENVIRON) as running:
        yield running


def send(
    site: Site, fields: dict[str, Any], headers: dict[str, str] = MAIN, path: str = MESSAGES
) -> Answered:
    """Sends a request as the program does."""
    body = json.dumps({**BODY, **fields}).encode()
    return site.send(body, path=f"{path}?beta=true", headers=headers)


def expect(answer: Answered, status: int, kind: str) -> str:
    """Fails unless it is this error in Anthropic's envelope; its message."""
    assert answer.status == status, answer.body
    assert answer.json["type"] == "error"
    assert answer.json["error"]["type"] == kind
    return str(answer.json["error"]["message"])


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 1}', b'{"model": 1}'])
def test_error_400_for_a_malformed_request(body: bytes, site: Site) -> None:
    """It is an invalid_request_error with a message."""
    answer = site.send(body, path=MESSAGES, headers=MAIN)
    assert expect(answer, 400, "invalid_request_error")


def test_error_401_is_not_tried_again(site: Site) -> None:
    """Without the header the program waits for minutes before it says anything."""
    for key in ({"authorization": "Bearer sk-wrong"}, {"authorization": ""}):
        for path in (MESSAGES, COUNT, "/v1/messages/other"):
            answer = site.send(b"{}", path=path, headers={**MAIN, **key})
            expect(answer, 401, "authentication_error")
            assert answer.headers["x-should-retry"] == "false"


def test_error_403_for_a_client_that_may_not_ask(
    tmp_path: Path, provider: ScriptedProvider, site: Site
) -> None:
    """The gateway's own and a provider's are a permission_error."""
    config = write_contract_config(tmp_path, provider.url, client_keys=None)
    with serve_api(config, {}, ENVIRON, peer="192.0.2.7") as open_site:
        expect(send(open_site, {}), 403, "permission_error")
    expect(send(site, {"model": "native/forbidden"}), 403, "permission_error")


@pytest.mark.parametrize("chunked", [False, True])
def test_error_413_over_the_size_cap(chunked: bool, site: Site) -> None:
    """With and without a content-length."""
    body = json.dumps({**BODY, "system": "x" * BODY_BYTES}).encode()
    sent = iter([body[:1000], body[1000:]]) if chunked else body
    answer = site.send(sent, path=MESSAGES, headers=MAIN)
    assert str(BODY_BYTES) in expect(answer, 413, "request_too_large")


@pytest.mark.parametrize("model", ["native/limited", "chat/foreign-limited"])
def test_error_429_has_retry_after(model: str, site: Site) -> None:
    """A provider's limit keeps its status and how long to wait."""
    answer = send(site, {"model": model})
    expect(answer, 429, "rate_limit_error")
    assert answer.headers["retry-after"] == "7"


def test_error_429_for_a_spending_cap_of_ours() -> None:
    """The program shows our sentence, and does not ask again before the reset."""
    message = "The monthly budget of 50 USD is spent; it resets on 1 December, or ask your admin"
    error = SpendingCapReached(SpentCap("monthly", 1796083200.7, 37799.2, message))
    body = json.loads(error_dialect(MESSAGES, ()).render_error(error))
    assert error.status == 429
    assert body == {"type": "error", "error": {"type": "billing_error", "message": message}}
    assert dict(error_headers(error)) == {
        "retry-after": "37800",
        "x-should-retry": "false",
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": "1796083200",
        "anthropic-ratelimit-unified-overage-reset": "1796083200",
        "anthropic-ratelimit-unified-overage-utilization": "1",
        "anthropic-ratelimit-unified-overage-surpassed-threshold": "1",
        "anthropic-ratelimit-unified-overage-period": "monthly",
        "anthropic-ratelimit-unified-overage-disabled-reason": "org_spend_cap_reached",
    }
    past = SpendingCapReached(SpentCap("daily", 1.0, -5.0, message))
    assert dict(error_headers(past))["retry-after"] == "1"


@pytest.mark.parametrize(
    ("model", "status"), [("chat/unpaid", 402), ("chat/quota", 429), ("native/quota", 429)]
)
def test_error_of_billing_keeps_its_type(model: str, status: int, site: Site) -> None:
    """A provider that wants money is not taken for one that wants time."""
    expect(send(site, {"model": model}), status, "billing_error")


@pytest.mark.parametrize("model", ["chat/m", "claude-chat"])
def test_error_501_for_an_endpoint_that_is_missing(model: str, site: Site) -> None:
    """Counting tokens at a provider that can't is refused for good, also behind an alias."""
    answer = send(site, {"model": model}, path=COUNT)
    expect(answer, 501, "not_supported")
    assert answer.headers["x-should-retry"] == "false"


def test_error_501_behind_routes_that_all_lack_it(
    tmp_path: Path, provider: ScriptedProvider
) -> None:
    """A policy whose candidates all lack the endpoint answers as one that is named."""
    routes = [
        {"name": name, "description": name, "models": [f"{name}/claude-sonnet-4-5"]}
        for name in ("chat", "responses")
    ]
    config = write_contract_config(tmp_path, provider.url, routing_preferences=routes)
    parsed = json.loads(config.read_text())
    del parsed["model_providers"][0]["default"]
    config.write_text(json.dumps(parsed))
    with serve_api(config, {}, ENVIRON) as lacking:
        for model in ("claude-auto", "auto"):
            answer = send(lacking, {"model": model}, path=COUNT)
            expect(answer, 501, "not_supported")
            assert answer.headers["x-should-retry"] == "false"


def test_count_behind_routes_finds_the_candidate_that_can(site: Site) -> None:
    """A policy with one candidate that counts is asked there."""
    assert send(site, {"model": "claude-auto"}, path=COUNT).json == {"input_tokens": 77}


@pytest.mark.parametrize("model", ["native/overloaded", "chat/foreign-busy"])
def test_error_529_says_overloaded(model: str, site: Site) -> None:
    """The program waits and asks again."""
    expect(send(site, {"model": model}), 529, "overloaded_error")


@pytest.mark.parametrize(
    ("model", "status"), [("native/broken", 500), ("chat/foreign-broken", 503)]
)
def test_error_5xx_is_an_api_error(model: str, status: int, site: Site) -> None:
    """Every other failure of a provider."""
    expect(send(site, {"model": model}), status, "api_error")


def test_compaction_reads_native_words_verbatim(site: Site) -> None:
    """Nothing is put before or after the provider's words, nor into its envelope."""
    for name in ("too-long", "input-too-long"):
        answer = send(site, {"model": f"native/{name}"})
        assert answer.status == 400
        assert answer.json == ERRORS[name][1]
    assert send(site, {"model": "native/too-long"}).json["error"]["message"] == TOO_LONG
    answer = send(site, {"model": "native/too-large"})
    assert (answer.status, answer.json) == ERRORS["too-large"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("context", r"^prompt is too long: This model's maximum context length is 8192 tokens"),
        (
            "answer",
            r"^max_tokens: 32000 > 4096, which is the maximum allowed number of output tokens for .+$",
        ),
        (
            "together",
            r"input length and `max_tokens` exceed context limit: 9000 \+ 32000 > 32768",
        ),
    ],
)
def test_compaction_reads_foreign_words_after_its_own(name: str, pattern: str, site: Site) -> None:
    """Another vendor's words follow those by which the program compacts or asks for less."""
    message = expect(send(site, {"model": f"chat/{name}"}), 400, "invalid_request_error")
    assert re.search(pattern, message)
    assert ERRORS[name][1]["error"]["message"] in message


SYSTEM = {"role": "system", "content": "Be brief."}
TURN = {"role": "user", "content": "Hello"}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "not-of-this-provider"}
DEGRADABLE: dict[str, dict[str, Any]] = {
    "mid-conversation system message": {"messages": [TURN, SYSTEM, TURN]},
    "cache_control": {
        "messages": [{**TURN, "content": [{**BODY["messages"][0]["content"][0]}]}],
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    },
    "thinking signature": {
        "messages": [
            TURN,
            {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "Hi"}]},
            TURN,
        ]
    },
    "redacted thinking": {
        "messages": [
            TURN,
            {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "e30="}]},
            TURN,
        ]
    },
    "thinking enabled": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    "thinking adaptive": {"thinking": {"type": "adaptive"}},
    "structured output": {
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    },
    "effort": {"output_config": {"effort": "max"}},
    "max_tokens": {"max_tokens": 128_000},
}
"""Fields by the class of error that a provider may have for them."""


@pytest.mark.parametrize("fields", DEGRADABLE.values(), ids=DEGRADABLE)
@pytest.mark.parametrize("model", ["chat/m", "responses/m"])
def test_degradable_input_is_translated(model: str, fields: dict[str, Any], site: Site) -> None:
    """What other vendors have no word for is left out or said otherwise, and does not fail."""
    answer = send(site, {**fields, "model": model})
    assert answer.status == 200, answer.body
    assert answer.json["content"]
    assert site.exchange("all").path.rpartition("/")[2] in {"completions", "responses"}


def media(kind: str, source: dict[str, str]) -> dict[str, Any]:
    """A turn that shows something."""
    return {"messages": [{"role": "user", "content": [{"type": kind, "source": source}]}]}


FILE = {"type": "file", "file_id": "file_1"}
URL = {"type": "url", "url": "https://example.com/a.pdf"}


@pytest.mark.parametrize(
    ("model", "fields", "words"),
    [
        ("chat/m", media("image", FILE), "could not process image"),
        ("responses/m", media("image", FILE), "could not process image"),
        ("chat/m", media("document", FILE), "does not support pdf input"),
        ("chat/m", media("document", URL), "does not support pdf input"),
        ("responses/m", media("document", FILE), "does not support pdf input"),
    ],
)
def test_degradable_media_is_refused_in_known_words(
    model: str, fields: dict[str, Any], words: str, site: Site
) -> None:
    """The program leaves the image or the document out and goes on."""
    answer = send(site, {**fields, "model": model})
    message = expect(answer, 400, "invalid_request_error")
    assert words in message.lower()
    assert message.startswith("messages[0]: ")


@pytest.mark.parametrize("name", ["invalid", "too-long"])
def test_errors_in_streams_are_complete_answers(name: str, site: Site) -> None:
    """An error before the first event has its status, also where a stream was asked for."""
    answer = send(site, {"model": f"native/{name}", "stream": True})
    assert (answer.status, answer.json) == ERRORS[name]
