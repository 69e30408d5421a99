"""``fingerpost suggest``: requests that fail, and what it needs before it makes any."""

import os
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from serve_app.cli import suggest
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.faults import EngineFaultError
from serve_app.snapshot import compile_snapshot
from tests.unit.cli.example_provider import (
    ExampleProvider,
    Reply,
    Script,
    Suggest,
    edit,
    fails,
    says,
    writes,
)
from tests.wire.test_tls import write_certificate


def test_server_without_the_options_is_asked_without_them(
    run: Suggest, provider: ExampleProvider
) -> None:
    """From the second request on it is known."""
    status, _, _ = run(scripts=(fails(400, {"error": {"message": "max_tokens?"}}), writes()))
    assert status == 0
    assert ["max_tokens" in body for body in provider.bodies] == [True, False, False]


def test_status_of_a_refused_body_is_reported(run: Suggest, provider: ExampleProvider) -> None:
    """With the message of the provider, if the options are not the reason."""
    status, _, err = run(scripts=(fails(400, {"error": {"message": "context is too long"}}),))
    assert (status, len(provider.bodies)) == (1, 4)
    assert "vllm/large returned status 400 (context is too long): try again later" in err


def test_closed_connection_is_opened_again(run: Suggest, provider: ExampleProvider) -> None:
    """Once, as in the gateway."""
    assert run(scripts=(fails(0), writes()))[0] == 0
    assert len(provider.bodies) == 3
    status, _, err = run(scripts=(fails(0),))
    assert (status, len(provider.bodies)) == (1, 7)
    assert "vllm/large: vllm closed the connection without an answer" in err


def test_body_is_changed_as_the_model_needs(
    run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """As for requests of clients."""
    edit(file, "model: vllm/large", "model: acme/gpt-5\n    provider_interface: openai")
    edit(file, "large", "gpt-5")
    edit(file, "vllm/gpt-5", "gpt-5")
    assert run()[0] == 0
    assert provider.bodies[0]["max_completion_tokens"] == 8192
    assert "max_tokens" not in provider.bodies[0]


FAULTS: Final[dict[str, tuple[Script, str]]] = {
    "401": (
        fails(401, {"error": {"message": "wrong\nkey sk-secret-1234"}}),
        "vllm/large returned status 401 (wrong key ***): the key is rejected; check $UNIT_KEY",
    ),
    "404": (fails(404), "vllm/large returned status 404: the server lacks this model or path"),
    "no completion": (fails(200, {"object": "list"}), "that is not a chat completion"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_all_requests_ends_the_command(
    fault: str, run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """At once, and nothing is written."""
    script, message = FAULTS[fault]
    before = file.read_text("utf-8")
    status, out, err = run("--write", scripts=(script,))
    assert (status, out, len(provider.bodies), file.read_text("utf-8")) == (1, "", 1, before)
    assert message in err
    assert "no examples received; nothing is written" in err
    assert "sk-secret" not in err


def parts(content: Any, finish: str = "stop") -> Script:
    choice = {"message": {"content": content}, "finish_reason": finish}
    return lambda prompt: Reply(200, {"choices": [choice]})


PASSING: Final[dict[str, tuple[Script, str]]] = {
    "429": (
        fails(429, {"error": {"message": "slow down"}}),
        "returned status 429 (slow down): try again later, or name another model with --model",
    ),
    "prose": (says("I'd rather not."), "the answer contains no JSON lists of messages"),
    "no text": (parts([{"type": "image"}, "x"]), "returned an answer without text"),
    "no tokens": (parts(None, "length"), "ran out of tokens before answering"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_request_with_a_fault_is_made_again(
    fault: str, run: Suggest, provider: ExampleProvider
) -> None:
    """At the end, and two faults in a row end the command."""
    script, message = PASSING[fault]
    status, _, err = run(scripts=(script, writes()))
    assert (status, len(provider.bodies)) == (0, 3)
    assert message in err
    status, out, err = run(scripts=(script,))
    assert (status, len(provider.bodies), out) == (1, 5, "")
    assert err.count(message) == 2


def test_text_in_parts_is_read(run: Suggest) -> None:
    """As some servers send it."""

    def answer(prompt: str) -> Reply:
        text = str(writes()(prompt).content)
        return parts([{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}])("")

    assert run(scripts=(answer,))[0] == 0


def test_what_was_received_before_a_fault_is_written(run: Suggest, file: Path) -> None:
    """The missing rest is named, and the exit status is 1."""
    status, _, err = run("--write", scripts=(writes(), fails(403)))
    assert status == 1
    assert "too few examples, left out: no route" in err
    policy = compile_snapshot(file).policy
    assert [len(route.examples) for route in policy.routes] == [20, 20]
    assert policy.no_route_examples == ()


def test_slow_model_times_out(run: Suggest, file: Path, provider: ExampleProvider) -> None:
    """The message names the setting."""

    def slow(prompt: str) -> Reply:
        time.sleep(0.6)
        return Reply(200, "{}")

    edit(file, "total_s: 20", "total_s: 0.2")
    status, _, err = run(scripts=(slow,))
    assert status == 1
    assert "timed out after 0.2 s; name a faster model with --model, or raise timeouts.total_s" in (
        err
    )


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_keeps_what_was_received(run: Suggest, file: Path) -> None:
    """Ctrl-C ends the asking, not the command."""

    def interrupt(prompt: str) -> Reply:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
        return Reply(200, "{}")

    status, _, err = run("--write", scripts=(writes(), interrupt))
    assert (status, "no route: interrupted\n" in err) == (1, True)
    assert len(compile_snapshot(file).policy.routes[0].examples) == 20


def test_server_that_cannot_be_reached_is_named(
    run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """With what to check."""
    edit(file, provider.url, "http://127.0.0.1:9")
    status, _, err = run()
    assert status == 1
    assert "vllm/large: cannot connect to vllm; check base_url, and whether the server runs" in err


def test_certificate_of_the_configuration_is_trusted(
    run: Suggest, file: Path, provider: ExampleProvider, tmp_path: Path
) -> None:
    """Over TLS as for requests of clients."""
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    provider.server.socket = context.wrap_socket(provider.server.socket, server_side=True)
    edit(file, "http://127.0.0.1", "https://localhost")
    assert "presents an untrusted certificate; add its CA to overrides" in run()[2]
    with file.open("a") as opened:
        opened.write(f"overrides: {{upstream_tls_ca_path: {certificate}}}\n")
    assert run()[0] == 0


NEEDS: Final = [
    (("access_key: $UNIT_KEY", "access_key: $NO_SUCH_KEY"), "NO_SUCH_KEY is not set; set it, or"),
    (("access_key: $UNIT_KEY", "access_key: $NO_A$NO_B"), "NO_A and NO_B are not set; set them"),
    (("access_key: $UNIT_KEY", "access_key: file:no.key"), "no.key is not set; set it"),
    (("access_key: $UNIT_KEY", "passthrough_auth: true"), "called with the key of a client"),
]


@pytest.mark.parametrize(("change", "message"), NEEDS)
def test_what_the_model_needs_is_named_before_it_is_asked(
    change: tuple[str, str], message: str, run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """A key that is not set, for example."""
    edit(file, *change)
    status, _, err = run()
    assert (status, provider.bodies) == (1, [])
    assert "model_providers: cannot ask vllm/large: " in err
    assert message in err
    assert "or name another model with --model" in err


def test_unknown_model_is_a_problem(run: Suggest) -> None:
    """The message suggests a similar one."""
    status, _, err = run("--model", "vllm/larg")
    assert status == 1
    assert "--model: no entry of model_providers is named 'vllm/larg'; did you mean" in err


def test_examples_are_printed_if_the_file_cannot_be_written(
    run: Suggest, file: Path, provider: ExampleProvider
) -> None:
    """They were paid for; here the file vanishes in the meantime."""

    def vanish(prompt: str) -> Reply:
        file.unlink(missing_ok=True)
        return writes()(prompt)

    status, out, err = run("--write", scripts=(vanish,))
    assert (status, len(yaml.safe_load(out)["no_route_examples"])) == (1, 40)
    assert "cannot read the file: No such file or directory" in err


def test_missing_engine_is_no_reason_to_lose_examples(
    run: Suggest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are shown without figures."""

    def broken(settings: EmbeddingSettings) -> EmbeddingEngine:
        raise EngineFaultError("no weights")

    monkeypatch.setattr(suggest, "EmbeddingEngine", broken)
    status, out, err = run()
    assert (status, "examples:" in out) == (0, True)
    assert "cannot measure the examples: no weights" in err
