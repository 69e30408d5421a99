"""Providers that fail: what the client sees, and when another one is asked."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.contract.naming import HELLO
from tests.site import CHAT, DATA_PATHS, MESSAGES, RESPONSES, SECRET, TIMEOUTS, Site, eventually

pytestmark = pytest.mark.parametrize("data_path", DATA_PATHS)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_an_error_keeps_status_and_words(
    site: Site, data_path: str, status: int, error: type[openai.APIStatusError], stream: bool
) -> None:
    """The last candidate's error comes back with its status, its body and its Retry-After."""
    with pytest.raises(error) as caught:
        site.client().chat.completions.create(
            model=f"{data_path}/status-{status}", messages=HELLO, stream=stream
        )
    assert caught.value.response.status_code == status
    assert f"scripted {status}" in caught.value.message
    headers = caught.value.response.headers
    assert headers["x-fingerpost-model"] == f"{data_path}/status-{status}"
    if status == 429:
        assert headers["retry-after"] == "7"
        assert headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_hangs_is_a_timeout(site: Site, data_path: str, stream: bool) -> None:
    """A provider that does not answer is a 504 once its time is up, and is let go of then."""
    limit_s = TIMEOUTS["first_byte_s" if stream else "total_s"]
    started = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        site.client().chat.completions.create(
            model=f"{data_path}/hang", messages=HELLO, stream=stream
        )
    took = time.monotonic() - started
    assert caught.value.response.status_code == 504
    assert caught.value.code == "upstream_timeout"
    assert limit_s <= took < limit_s + 2
    eventually(lambda: site.exchange(data_path).client_left, 1)


@pytest.mark.parametrize("script", ["die-midstream", "end-midstream", "hang-midstream"])
def test_a_stream_that_breaks_off_is_an_error(site: Site, data_path: str, script: str) -> None:
    """What was said before arrives, and then the SDK raises: never a clean end."""
    heard: list[str] = []
    stream = site.client().chat.completions.create(
        model=f"{data_path}/{script}", messages=HELLO, stream=True
    )
    with pytest.raises(openai.APIError):
        heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(heard) == "half"


@pytest.mark.parametrize(
    ("script", "stream", "status"),
    [
        ("die-early", True, 502),
        ("empty-stream", True, 502),
        ("json-for-stream", True, 502),
        ("error-event", True, 429),
        ("error-200", False, 502),
        ("leak-in-200", False, 401),
        ("leak-in-200", True, 401),
        ("no-choices", False, 502),
        ("no-choices", True, 502),
        ("failed-choice", False, 503),
        ("failed-choice", True, 503),
        ("role-and-done", True, 502),
        ("json-as-stream", True, 429),
        ("status-999", False, 502),
        ("die-in-answer", False, 502),
        ("redirect", False, 502),
        ("html", False, 502),
    ],
)
def test_what_fails_before_the_commit_point_is_an_error_status(
    site: Site, data_path: str, script: str, stream: bool, status: int
) -> None:
    """Nothing has been said yet, so the client gets a status and a body in its dialect."""
    answer = site.ask(f"{data_path}/{script}", stream=stream)
    assert answer.status == status
    assert answer.json["error"]["message"]
    assert answer.headers["content-type"] == "application/json"
    assert b"<html" not in answer.body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", ["dead/gone", "status-500", "status-503", "status-429"])
def test_the_next_candidate_answers(site: Site, data_path: str, first: str, stream: bool) -> None:
    """Connection faults, 5xx and 429 go to the client's next model, and the headers say so.

    A model that has failed before rests; one that was never asked does not.
    """
    name = first if "/" in first else f"{data_path}/{first}@{time.monotonic_ns()}"
    answer = site.ask(name, stream=stream, models=[f"{data_path}/parrot"])
    assert answer.status == 200
    assert answer.headers["x-fingerpost-model"] == f"{data_path}/parrot"
    assert answer.headers["x-fingerpost-reason"] == "failover"
    rested = "/" in first and answer.headers["x-fingerpost-attempts"] == "1"
    assert rested or answer.headers["x-fingerpost-attempts"] == "2"
    assert "models" not in site.exchange(data_path).json


def test_streams_fail_over_until_the_first_word(site: Site, data_path: str) -> None:
    """A stream that dies after its role chunk costs nothing: the next model answers whole."""
    answer = site.ask(f"{data_path}/die-early", stream=True, fallbacks=[f"{data_path}/parrot"])
    assert answer.headers["x-fingerpost-reason"] == "failover"
    assert answer.body == site.exchange(data_path).answered
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "end"), [(MESSAGES, b"event: message_stop"), (RESPONSES, b"event: response.completed")]
)
def test_the_next_candidate_answers_in_the_clients_dialect(
    site: Site, data_path: str, path: str, end: bytes, stream: bool
) -> None:
    """The same where answers are translated: nothing of the first model has reached the client."""
    first = f"{data_path}/{'die-early' if stream else 'status-503'}"
    answer = site.ask(first, path=path, stream=stream, fallbacks=[f"{data_path}/parrot"])
    assert answer.status == 200, answer.body
    assert answer.headers["x-fingerpost-model"] == f"{data_path}/parrot"
    assert answer.headers["x-fingerpost-reason"] == "failover"
    assert (b'" hello"' if stream else b"You said: hi") in answer.body
    if stream:
        assert answer.body.count(end) == 1


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_a_choice_that_fails_after_content_is_an_error_event(
    site: Site, data_path: str, path: str
) -> None:
    """The client learns in the provider's words that the rest is missing."""
    answer = site.ask(f"{data_path}/failed-choice@midway", path=path, stream=True)
    assert answer.status == 200
    assert b"half" in answer.body
    assert b'"message":"scripted"' in answer.body
    for end in (b"[DONE]", b"message_stop", b"response.completed"):
        assert end not in answer.body


@pytest.mark.parametrize(
    ("path", "end"), [(CHAT, b""), (MESSAGES, b"message_stop"), (RESPONSES, b"response.completed")]
)
def test_an_event_of_any_size_may_end_a_stream(
    site: Site, data_path: str, path: str, end: bytes
) -> None:
    """A complete stream gets no error, also where its last event is too large to be held."""
    answer = site.ask(f"{data_path}/large-end", path=path, stream=True)
    assert answer.status == 200
    assert end in answer.body
    assert b"error" not in answer.body.replace(b'"error":null', b"")
    if path == CHAT:
        assert answer.body == site.exchange(data_path).answered


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/octet-stream", "application/json", "text/html"]
)
def test_a_stream_may_have_any_type(site: Site, data_path: str, kind: str) -> None:
    """Its first bytes say what it is, and the client gets it as an event stream."""
    answer = site.ask(f"{data_path}/odd-type@{kind}", stream=True)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body == site.exchange(data_path).answered


def test_the_clients_own_mistake_goes_no_further(site: Site, data_path: str) -> None:
    """A 400 of the provider is the answer; no other model is asked."""
    answer = site.ask(f"{data_path}/status-400", models=[f"{data_path}/parrot"])
    assert answer.status == 400
    assert answer.headers["x-fingerpost-attempts"] == "1"


def test_at_most_four_attempts(site: Site, data_path: str) -> None:
    """However many models are named, four exchanges are enough."""
    names = [f"{data_path}/status-500@{number}" for number in range(6)]
    answer = site.ask(names[0], models=names[1:])
    assert answer.status == 500
    assert answer.headers["x-fingerpost-attempts"] == "4"


def test_an_idle_connection_that_was_given_up_is_tried_again(site: Site, data_path: str) -> None:
    """A connection reset before any answer is tried once more on the same model."""
    answer = site.ask(f"{data_path}/reset-once@{time.monotonic_ns()}")
    assert answer.status == 200
    assert answer.headers["x-fingerpost-reason"] == "explicit"
    assert answer.headers["x-fingerpost-attempts"] == "2"


def test_many_idle_connections_that_were_given_up_lose_no_request(
    site: Site, data_path: str
) -> None:
    """After a reset no connection that was kept open is trusted, however many there are."""
    with ThreadPoolExecutor(6) as crowd:
        list(crowd.map(lambda _: site.ask(f"{data_path}/slow"), range(6)))
    for stream in (False, True, False):
        answer = site.ask(f"{data_path}/once-a-line", stream=stream)
        assert answer.status == 200
        assert int(answer.headers["x-fingerpost-attempts"]) <= 2


@pytest.mark.parametrize("script", ["leak-in-200", "leak-in-200@midway"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_under_a_200_does_not_repeat_our_key(
    site: Site, data_path: str, script: str, stream: bool
) -> None:
    """Neither complete, nor as the first event of a stream, nor as a later one."""
    answer = site.ask(f"{data_path}/{script}", stream=stream)
    assert SECRET.encode() not in answer.body
    assert b"bad key Bearer ***" in answer.body


def test_our_key_is_sent_and_never_returned(site: Site, data_path: str) -> None:
    """The provider gets our key and not the client's; an error that repeats it is cleaned."""
    answer = site.ask(f"{data_path}/leak")
    assert site.exchange(data_path).headers["authorization"] == f"Bearer {SECRET}"
    assert answer.status == 401
    assert SECRET.encode() not in answer.body
    assert b"***" in answer.body


def test_a_missing_key_is_named(site: Site, data_path: str) -> None:
    """A provider whose key is not set gives 503 with the variable's name, or another model."""
    answer = site.ask("keyless/any")
    assert answer.status == 503
    assert "FINGERPOST_TEST_UNSET" in answer.error["message"]
    assert answer.error["code"] == "provider_key_missing"
    other = site.ask("keyless/any", models=[f"{data_path}/parrot"])
    assert other.status == 200


def test_large_upstream_headers_are_no_trouble(site: Site, data_path: str) -> None:
    """60 KB of a provider's headers are read, and only what clients need goes back."""
    answer = site.ask(f"{data_path}/big-headers")
    assert answer.status == 200
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    assert "x-big" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert answer.names.count("x-request-id") <= 1
