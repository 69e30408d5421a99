"""What Serve takes of a serve.yaml in silence, and a deployment would then suffer from."""

from pathlib import Path
from typing import Final

import pytest

from serve_app.app import build
from serve_app.cli.serve_yaml.check import check_serve
from serve_app.cli.serve_yaml.pitfalls import AT_MOST, AT_MOST_ELSE, DRAIN_S
from tests.deploy.sites import CONFIGS, graph
from tests.unit.config_texts import VERSION

HTTP: Final = "http_options: {host: 127.0.0.1}\n"
APP: Final = """\
applications:
  - import_path: serve_app.app:build
    args: {config: gateway.yaml}
"""
MODELS: Final = "model_providers: [{model: openai/a, access_key: $UNIT_KEY}]\n"
VLLM: Final = "orchestrator: {engine: vllm, model: /m, device: %s}\n"
ROUTES: Final = "routing_preferences: [{name: a, description: b, models: [openai/a]}]\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIT_KEY", "x")
    Path("gateway.yaml").write_text(VERSION + MODELS)


def found(text: str) -> tuple[list[str], list[str]]:
    """The problems, and the notes, each with its place."""
    Path("serve.yaml").write_text(text)
    checked = check_serve(Path("serve.yaml"))
    problems = [f"{p.path}: {p.message}" for error in checked.errors for p in error.problems]
    return problems, [note.split(": ", 2)[2] for note in checked.warnings]


def deployed(*entries: str) -> str:
    return HTTP + APP + "    deployments:\n" + "".join(f"      - {entry}\n" for entry in entries)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    """Serve takes any number."""
    problems, _ = found(HTTP.replace("1}", f"1, port: {port}}}") + APP)
    assert problems == ["http_options.port: must be from 1 to 65535"]


@pytest.mark.parametrize(
    ("port", "whose"),
    [
        (6379, "Ray's head"),
        (8265, "Ray's dashboard"),
        (8404, "HAProxy's statistics"),
        (8500, "Serve's fallback proxy"),
        (9101, "HAProxy's metrics"),
        (30000, "ingress replicas"),
        (31000, "ingress replicas"),
    ],
)
def test_a_port_that_is_taken_is_refused(port: int, whose: str) -> None:
    """By what listens on the same node."""
    problems, _ = found(HTTP.replace("1}", f"1, port: {port}}}") + APP)
    said = f"port {port} is used by {whose}; choose another one, such as 8000"
    assert problems == [f"http_options.port: {said}"]


@pytest.mark.parametrize("port", [1, 80, 8000, 29999, 31001, 65535])
def test_any_other_port_is_good(port: int) -> None:
    """The first and the last one, too."""
    assert found(HTTP.replace("1}", f"1, port: {port}}}") + APP) == ([], [])


def test_where_nothing_would_listen_is_told() -> None:
    """Serve runs the replicas, and nobody reaches them."""
    problems, _ = found(HTTP + APP + "proxy_location: Disabled\n")
    assert problems == ["proxy_location: 'Disabled' starts no proxy; set 'HeadOnly' or 'EveryNode'"]


def test_tls_that_would_not_be_is_told() -> None:
    """HAProxy has no word of a certificate, so the keys of clients would go in clear."""
    tls = HTTP.replace("1}", "1, ssl_keyfile: /k, ssl_certfile: /c}")
    problems, _ = found(tls + APP)
    assert [problem.split(";")[0] for problem in problems] == [
        "http_options.ssl_certfile: HAProxy does not terminate TLS",
        "http_options.ssl_keyfile: HAProxy does not terminate TLS",
    ]


@pytest.mark.parametrize("entry", ["Ingress", "", "[a]", "5"])
def test_an_entry_that_is_no_mapping_is_told(entry: str) -> None:
    """Serve's own schema stumbles over it; its neighbours are checked all the same."""
    problems, _ = found(
        deployed("{name: Ingress}", entry, "{name: provider-shared, num_replica: 1}")
    )
    assert problems == [
        "applications[0].deployments[1]: must be a mapping of keys; add a `name:`",
        "applications[0].deployments[2].num_replica: unknown key; did you mean 'num_replicas'?",
    ]


def test_what_serve_stumbles_over_is_a_problem() -> None:
    """And no traceback."""
    problems, _ = found(deployed("{name: Ingress, num_replicas: 2, gang_scheduling_config: x}"))
    assert any("of a type that Serve does not expect" in problem for problem in problems)
    problems, _ = found(APP.replace("serve_app.app:build", "[1]"))
    assert "applications[0].import_path: must be a string, not a list" in problems


@pytest.mark.parametrize(
    ("entry", "target", "most"),
    [
        ("{name: Ingress, max_ongoing_requests: 100, autoscaling_config: {target_ongoing_requests: 200}}", 200, 100),
        ("{name: provider-openai, autoscaling_config: {target_ongoing_requests: 1001}}", 1001, 1000),
        ("{name: Orchestrator, autoscaling_config: {target_ongoing_requests: 65}}", 65, 64),
    ],
)  # fmt: skip
def test_a_target_that_is_never_there_is_noted(entry: str, target: int, most: int) -> None:
    """A replica takes fewer requests than the number that would add one."""
    said = (
        "applications[0].deployments[0].autoscaling_config.target_ongoing_requests: "
        f"{target} is above max_ongoing_requests ({most}), so the deployment never scales up; "
        "lower it"
    )
    assert found(deployed(entry)) == ([], [said])


@pytest.mark.parametrize(
    "entry",
    [
        "{name: Ingress, max_ongoing_requests: 200, autoscaling_config: {target_ongoing_requests: 200}}",
        "{name: Orchestrator, autoscaling_config: {target_ongoing_requests: 64}}",
        "{name: Ingress, autoscaling_config: {max_replicas: 2}}",
        "{name: Affinity, graceful_shutdown_timeout_s: 1}",
        "{name: Ingress, graceful_shutdown_timeout_s: 600}",
    ],
)
def test_what_can_be_reached_is_not_noted(entry: str) -> None:
    """Nor a short end of what carries no stream."""
    assert found(deployed(entry)) == ([], [])


def test_what_cuts_streams_is_noted() -> None:
    """A replica's end, or Serve's own limit, before the longest answer is over."""
    text = deployed("{name: provider-openai, graceful_shutdown_timeout_s: 10}")
    text = text.replace("127.0.0.1}", "127.0.0.1, request_timeout_s: 5}")
    assert found(text) == (
        [],
        [
            "http_options.request_timeout_s: 5 s is below timeouts.total_s (600 s), so Serve cuts longer answers; raise it, or remove it",
            "applications[0].deployments[0].graceful_shutdown_timeout_s: 10 s is below timeouts.total_s (600 s), so a replica that stops cuts its streams; raise it",
        ],
    )


def test_longer_answers_ask_for_longer_ends() -> None:
    """Of each deployment that carries them, unless it has been given the time."""
    Path("gateway.yaml").write_text(VERSION + MODELS + "timeouts: {total_s: 1200}\n")
    _, (note,) = found(deployed("{name: Ingress, graceful_shutdown_timeout_s: 1260}"))
    assert note == (
        "applications[0].deployments: replicas of provider-shared, provider-openai that stop cut "
        "their streams after 660 s, before timeouts.total_s (1200 s); "
        "raise their graceful_shutdown_timeout_s"
    )
    names = ("Ingress", "provider-shared", "provider-openai")
    given = [f"{{name: {name}, graceful_shutdown_timeout_s: 1260}}" for name in names]
    assert found(deployed(*given)) == ([], [])


def test_what_is_taken_for_the_builders_is() -> None:
    """The options of a deployment that serve.yaml says nothing of."""
    deployments = graph(build({"config": str(CONFIGS / "gateway.yaml")}))
    assert {"Ingress", "Orchestrator", "provider-shared", "provider-openai"} <= deployments.keys()
    for name, deployment in deployments.items():
        config = deployment._deployment_config
        assert config.max_ongoing_requests == AT_MOST.get(name, AT_MOST_ELSE), name
        if name not in {"Orchestrator", "Affinity"}:
            assert config.graceful_shutdown_timeout_s == DRAIN_S, name
