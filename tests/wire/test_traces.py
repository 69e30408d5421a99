"""Traces, received by a collector: the spans of a request, their parents, and what is not in them."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.collector import Collector, ExportedSpan, collecting
from tests.scripted_provider import ScriptedProvider
from tests.site import CHAT, PROMPTS, SECRET, Site, closed_port, write_config
from tests.wire.conftest import serve_api

TOKEN: Final = "otlp-token-0123456789"
PARENT: Final = f"00-{'ab' * 16}-{'cd' * 8}-01"
UNSAMPLED: Final = f"00-{'ab' * 16}-{'cd' * 8}-00"
PROMPT: Final = f"{PROMPTS['code']}: the words umbrella and lighthouse"
ANSWER: Final = ["Fin", "ger", "post"]
ENVIRON: Final = {"FINGERPOST_TEST_KEY": SECRET, "FINGERPOST_TEST_OTLP": TOKEN}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@contextmanager
def traced(
    folder: Path, providers: dict[str, ScriptedProvider], endpoint: str, **telemetry: Any
) -> Iterator[Site]:
    """A gateway that exports its traces; what is left is exported at the end."""
    file = write_config(folder, providers)
    config = json.loads(file.read_text())
    traces = telemetry.pop("traces", {"sample": 1})
    headers = {"authorization": "Bearer $FINGERPOST_TEST_OTLP"}
    config["telemetry"] = {
        "traces": {"endpoint": endpoint, "headers": headers, **traces},
        **telemetry,
    }
    file.write_text(json.dumps(config))
    with serve_api(file, providers, ENVIRON) as site:
        yield site


def send(site: Site, headers: dict[str, str] | None = None, **fields: Any) -> None:
    body = {"messages": [{"role": "user", "content": PROMPT}], **fields}
    assert site.send(json.dumps(body).encode(), headers=headers).body


def by_name(spans: list[ExportedSpan]) -> dict[str, ExportedSpan]:
    assert len({span.span_id for span in spans}) == len(spans)
    return {span.name: span for span in spans}


def test_stream_that_fell_over_has_a_span_for_each_step(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """A streamed request has a server span, and below it its decision, the attempt that failed, and
    the one that answered until the stream's end.
    """
    with traced(tmp_path, providers, collector.url) as site:
        before = time.time()
        send(site, model="dedicated/status-500", fallbacks=["inline/slow"], stream=True)
        after = time.time()
    spans = by_name(collector.spans)
    server, decision = spans[f"POST {CHAT}"], spans["decide"]
    first, second = spans["chat status-500"], spans["chat slow"]
    assert len(spans) == 4
    assert {span.trace_id for span in spans.values()} == {server.trace_id}
    assert server.parent_id == ""
    assert {span.parent_id for span in (decision, first, second)} == {server.span_id}
    kinds = [span.kind for span in (server, decision, first, second)]
    assert kinds == ["server", "internal", "client", "client"]
    assert before <= server.began <= decision.began <= decision.ended <= first.began
    assert first.began < first.ended <= second.began < second.ended == server.ended <= after
    assert second.ended - second.began > 0.2, "the attempt ends with its stream"

    assert first.is_error
    assert first.attributes["error.type"] == "500"
    assert not first.attributes["fingerpost.fallback"]
    assert not second.is_error
    assert "error.type" not in second.attributes
    assert second.attributes["fingerpost.fallback"]
    assert second.attributes["gen_ai.provider.name"] == "inline"
    assert second.attributes["gen_ai.request.model"] == "slow"
    assert second.attributes["gen_ai.operation.name"] == "chat"
    assert 0 < second.attributes["gen_ai.response.time_to_first_chunk"] < 0.2
    assert decision.attributes["fingerpost.reason"] == "explicit"
    candidates = ["dedicated/status-500", "inline/slow"]
    assert decision.attributes["fingerpost.candidates"] == candidates
    assert not server.is_error
    expected = {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "gen_ai.request.model": "dedicated/status-500",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "slow",
        "fingerpost.attempts": 2,
        "fingerpost.fallback": True,
        "fingerpost.reason": "failover",
    }
    assert expected.items() <= server.attributes.items()


def test_answer_has_its_tokens_and_scores(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """The attempt that answers has the tokens that its provider counts, and a decision by content
    has the scores.
    """
    with traced(tmp_path, providers, collector.url, attributes={"team.name": "search"}) as site:
        send(site, model="auto")
    spans = by_name(collector.spans)
    decision, attempt = spans["decide"], spans["chat coder"]
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 3
    assert attempt.attributes["gen_ai.usage.output_tokens"] == 5
    assert attempt.attributes["gen_ai.response.model"] == "coder"
    assert decision.attributes["fingerpost.route"] == "code"
    assert decision.attributes["fingerpost.tier"] == "embedding"
    names = decision.attributes["fingerpost.score.routes"]
    scores = dict(zip(names, decision.attributes["fingerpost.score.values"], strict=True))
    assert max(scores, key=lambda name: scores[name]) == "code"
    resource = collector.resources[0]
    assert resource["service.name"] == "fingerpost"
    assert resource["service.instance.id"] == "replica-1"
    assert resource["team.name"] == "search"


def test_spans_hold_no_key_and_no_text(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """No key of a provider, a client or the collector and no text of a conversation is exported,
    while the collector itself gets its own header.
    """
    own = {"authorization": "Bearer sk-client-secret", "x-api-key": "sk-other-secret"}
    with traced(tmp_path, providers, collector.url) as site:
        send(site, own, model="auto")
        send(site, own, model="dedicated/parrot", stream=True)
        send(site, own, model="dedicated/status-401")
        send(site, own, model="no/such-model")
    sent = b"".join(body for _, body in collector.bodies)
    assert len(collector.spans) == 10
    for secret in (SECRET, TOKEN, "sk-client", "sk-other", "umbrella", "lighthouse", *ANSWER[:2]):
        assert secret.encode() not in sent.replace(b"fingerpost", b""), secret
    assert {headers["authorization"] for headers in collector.headers} == {f"Bearer {TOKEN}"}


def test_content_is_exported_if_switched_on(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """With telemetry.content the server span holds the conversation as the conventions write it."""
    with traced(tmp_path, providers, collector.url, content=True) as site:
        send(site, model="dedicated/parrot")
    server = by_name(collector.spans)[f"POST {CHAT}"]
    messages = json.loads(server.attributes["gen_ai.input.messages"])
    assert messages == [{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}]


@pytest.mark.parametrize("sample", [0, 1])
def test_share_decides_without_a_parent(
    sample: int,
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    collector: Collector,
) -> None:
    """A share of 0 exports nothing and one of 1 everything, and the provider hears the decision."""
    with traced(tmp_path, providers, collector.url, traces={"sample": sample}) as site:
        for _ in range(3):
            send(site, model="dedicated/parrot")
        told = [site.exchange("dedicated", -1 - n).headers["traceparent"] for n in range(3)]
    assert len(collector.spans) == 9 * sample
    assert {int(header[-2:], 16) & 1 for header in told} == {sample}
    assert len({header[:35] for header in told}) == 3


def test_share_of_a_half_exports_about_half(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """Of many requests about the configured share is exported, each with all of its spans."""
    with traced(tmp_path, providers, collector.url, traces={"sample": 0.5}) as site:
        for _ in range(60):
            send(site, model="dedicated/parrot")
    traces = [span.trace_id for span in collector.spans]
    assert 12 <= len(set(traces)) <= 48
    assert {traces.count(trace) for trace in traces} == {3}


@pytest.mark.parametrize(
    ("parent", "sample", "spans"), [(PARENT, 0, 4), (UNSAMPLED, 1, 0)], ids=["sampled", "unsampled"]
)
def test_trace_of_the_client_is_continued(
    parent: str,
    sample: int,
    spans: int,
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    collector: Collector,
) -> None:
    """A client's traceparent decides about sampling; its span is the parent of ours, and the
    provider gets the span of its own attempt, or that of the request if nothing is sampled.
    """
    headers = {"traceparent": parent, "tracestate": "vendor=1"}
    with traced(tmp_path, providers, collector.url, traces={"sample": sample}) as site:
        send(site, headers, model="dedicated/status-500", fallbacks=["inline/parrot"])
        told = [site.exchange(name).headers for name in ("dedicated", "inline")]
    assert len(collector.spans) == spans
    parents = [told_one["traceparent"].split("-") for told_one in told]
    assert {trace for _, trace, _, _ in parents} == {"ab" * 16}
    assert {flags for *_, flags in parents} == {parent[-2:]}
    assert {told_one["tracestate"] for told_one in told} == {"vendor=1"}
    ids = [span for _, _, span, _ in parents]
    assert len({*ids, "cd" * 8}) == (3 if spans else 2)
    if spans:
        found = by_name(collector.spans)
        assert found[f"POST {CHAT}"].parent_id == "cd" * 8
        assert found["chat status-500"].span_id == ids[0]
        assert found["chat parrot"].span_id == ids[1]


def test_client_cannot_force_traces_if_told_so(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """Without follow_client the share decides, and the client's trace is continued all the same."""
    traces = {"sample": 0, "follow_client": False}
    with traced(tmp_path, providers, collector.url, traces=traces) as site:
        send(site, {"traceparent": PARENT}, model="dedicated/parrot")
        told = site.exchange("dedicated").headers["traceparent"]
    assert collector.spans == []
    assert told.startswith(f"00-{'ab' * 16}-")
    assert told.endswith("-00")


def test_without_tracing_the_header_passes_unchanged(site: Site) -> None:
    """A gateway that exports no traces passes a client's traceparent on as it is."""
    send(site, {"traceparent": PARENT}, model="dedicated/parrot")
    assert site.exchange("dedicated").headers["traceparent"] == PARENT


@pytest.mark.parametrize("code", [429, 500])
def test_failed_request_has_a_span(
    code: int,
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    collector: Collector,
) -> None:
    """The server span of a request without an answer has its status; it is an error from 500."""
    with traced(tmp_path, providers, collector.url) as site:
        send(site, model=f"dedicated/status-{code}@x")
    server = by_name([s for s in collector.spans if s.kind == "server"])[f"POST {CHAT}"]
    assert server.attributes["error.type"] == str(code)
    assert server.attributes["http.response.status_code"] == code
    assert server.is_error is (code == 500)
    assert "gen_ai.response.model" not in server.attributes


def test_broken_stream_is_an_error_of_its_attempt(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """A stream that breaks off marks both the request and the attempt as failed."""
    with traced(tmp_path, providers, collector.url) as site:
        send(site, model="dedicated/die-midstream", stream=True)
    spans = by_name(collector.spans)
    for span in (spans[f"POST {CHAT}"], spans["chat die-midstream"]):
        assert span.is_error
        assert span.attributes["error.type"] == "broken"


def test_refused_request_has_a_span_of_its_own(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """A request that no model can answer has a server span with its error alone."""
    with traced(tmp_path, providers, collector.url) as site:
        send(site, {"traceparent": PARENT}, model="no/such-model")
    (server,) = collector.spans
    assert server.attributes["error.type"] == "model_not_found"
    assert server.parent_id == "cd" * 8


def test_typed_question_of_our_own_has_a_span(
    tmp_path: Path, providers: dict[str, ScriptedProvider], collector: Collector
) -> None:
    """A typed question that the gateway's own orchestrator answers has a server span and a decision,
    and no attempt.
    """
    question = {"type": "predicate", "instructions": "The customer asks for a refund"}
    body = {"model": "fingerpost/route", "input": "umbrella", "questions": [question]}
    with traced(tmp_path, providers, collector.url) as site:
        assert site.send(json.dumps(body).encode(), path="/v1/decisions").status == 200
    spans = by_name(collector.spans)
    assert set(spans) == {"POST /v1/decisions", "decide"}
    assert spans["POST /v1/decisions"].attributes["gen_ai.request.model"] == "fingerpost/route"
    assert b"umbrella" not in b"".join(body for _, body in collector.bodies)


def test_collector_that_is_down_costs_nothing_and_is_logged_once(
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a collector every request is answered, and one line names it without its key."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    port = closed_port()
    with (
        caplog.at_level(logging.WARNING),
        traced(
            tmp_path,
            providers,
            f"http://user:{TOKEN}@127.0.0.1:{port}",
            traces={"sample": 1, "timeout_s": 0.2},
        ) as site,
    ):
        for _ in range(4):
            send(site, model="dedicated/parrot")
            time.sleep(0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 3.5, "the end does not wait for the collector"
    lines = [line for line in caplog.messages if "telemetry" in line]
    assert len(lines) == 1, caplog.messages
    assert f"127.0.0.1:{port} does not take spans" in lines[0]
    assert TOKEN not in caplog.text


def test_slow_collector_delays_no_request(
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a collector does not answer, requests are as quick as ever, and the end is bounded."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    collector.pause_s = 5.0
    with traced(tmp_path, providers, collector.url) as site:
        send(site, model="dedicated/parrot")
        time.sleep(0.1)  # now the export waits
        began = time.monotonic()
        for _ in range(5):
            send(site, model="dedicated/parrot")
        took_s = time.monotonic() - began
        ending = time.monotonic()
    assert took_s < 2.0
    assert time.monotonic() - ending < 4.5


def test_collector_that_comes_back_gets_the_next_spans(
    tmp_path: Path,
    providers: dict[str, ScriptedProvider],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collector that is started later gets what comes then, and its return is logged."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    port = closed_port()
    with caplog.at_level(logging.WARNING):
        where = f"http://127.0.0.1:{port}"
        with traced(tmp_path, providers, where, traces={"sample": 1, "timeout_s": 0.2}) as site:
            send(site, model="dedicated/parrot")
            time.sleep(0.4)
            with collecting(port) as collector:
                send(site, model="inline/parrot")
                time.sleep(0.4)
    assert any(span.name == "chat parrot" for span in collector.spans)
    lines = [line for line in caplog.messages if "telemetry" in line]
    assert [("again" in line) for line in lines[:2]] == [False, True]
