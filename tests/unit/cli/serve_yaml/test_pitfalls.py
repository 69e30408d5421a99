"""Options of a serve.yaml that Serve accepts, with an effect that nobody intends."""

from pathlib import Path
from typing import Final

import pytest

from serve_app.app import build
from serve_app.cli.serve_yaml.check import check_serve
from serve_app.graph import deployments_of
from serve_app.snapshot import compile_snapshot
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


def check_text(text: str) -> tuple[list[str], list[str]]:
    """The problems and the warnings, each with its path."""
    Path("serve.yaml").write_text(text)
    checked = check_serve(Path("serve.yaml"))
    problems = [f"{p.path}: {p.message}" for error in checked.errors for p in error.problems]
    return problems, [note.split(": ", 2)[2] for note in checked.warnings]


def deployed(*entries: str) -> str:
    return HTTP + APP + "    deployments:\n" + "".join(f"      - {entry}\n" for entry in entries)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_invalid_port_is_refused(port: int) -> None:
    """Serve accepts any number."""
    problems, _ = check_text(HTTP.replace("1}", f"1, port: {port}}}") + APP)
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
def test_port_of_another_service_is_refused(port: int, whose: str) -> None:
    """The message names the service that listens on it on every node."""
    problems, _ = check_text(HTTP.replace("1}", f"1, port: {port}}}") + APP)
    message = f"port {port} is used by {whose}; choose another one, such as 8000"
    assert problems == [f"http_options.port: {message}"]


@pytest.mark.parametrize("port", [1, 80, 8000, 29999, 31001, 65535])
def test_any_other_port_is_accepted(port: int) -> None:
    """The first and the last port are accepted, too."""
    assert check_text(HTTP.replace("1}", f"1, port: {port}}}") + APP) == ([], [])


def test_disabled_proxy_is_refused() -> None:
    """Serve would run the replicas, and no client could reach them."""
    problems, _ = check_text(HTTP + APP + "proxy_location: Disabled\n")
    assert problems == ["proxy_location: 'Disabled' starts no proxy; set 'HeadOnly' or 'EveryNode'"]


def test_tls_options_are_refused() -> None:
    """HAProxy does not support certificates, so client keys would be sent unencrypted."""
    tls = HTTP.replace("1}", "1, ssl_keyfile: /k, ssl_certfile: /c}")
    problems, _ = check_text(tls + APP)
    assert [problem.split(";")[0] for problem in problems] == [
        "http_options.ssl_certfile: HAProxy does not terminate TLS",
        "http_options.ssl_keyfile: HAProxy does not terminate TLS",
    ]


@pytest.mark.parametrize("entry", ["Ingress", "", "[a]", "5"])
def test_deployment_that_is_not_a_mapping_is_refused(entry: str) -> None:
    """Serve's own schema would crash on it; the other entries are checked all the same."""
    problems, _ = check_text(
        deployed("{name: Ingress}", entry, "{name: provider-shared, num_replica: 1}")
    )
    assert problems == [
        "applications[0].deployments[1]: must be a mapping of keys; add a `name:`",
        "applications[0].deployments[2].num_replica: unknown key; did you mean 'num_replicas'?",
    ]


def test_value_that_crashes_serve_is_a_problem() -> None:
    """The command prints no traceback."""
    problems, _ = check_text(
        deployed("{name: Ingress, num_replicas: 2, gang_scheduling_config: x}")
    )
    assert any("of a type that Serve does not expect" in problem for problem in problems)
    problems, _ = check_text(APP.replace("serve_app.app:build", "[1]"))
    assert "applications[0].import_path: must be a string, not a list" in problems


@pytest.mark.parametrize(
    ("entry", "target", "most"),
    [
        ("{name: Ingress, max_ongoing_requests: 100, autoscaling_config: {target_ongoing_requests: 200}}", 200, 100),
        ("{name: provider-openai, autoscaling_config: {target_ongoing_requests: 1001}}", 1001, 1000),
        ("{name: Orchestrator, autoscaling_config: {target_ongoing_requests: 65}}", 65, 64),
    ],
)  # fmt: skip
def test_unreachable_scaling_target_is_a_warning(entry: str, target: int, most: int) -> None:
    """A replica accepts fewer requests than the number that would add a replica."""
    message = (
        "applications[0].deployments[0].autoscaling_config.target_ongoing_requests: "
        f"{target} is above max_ongoing_requests ({most}), so the deployment never scales up; "
        "lower it"
    )
    assert check_text(deployed(entry)) == ([], [message])


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
def test_sound_options_give_no_warning(entry: str) -> None:
    """A short drain is sound for a deployment without streams."""
    assert check_text(deployed(entry)) == ([], [])


def test_timeouts_that_cut_streams_are_warnings() -> None:
    """The drain of a replica, and Serve's request timeout, must not be shorter than an answer."""
    text = deployed("{name: provider-openai, graceful_shutdown_timeout_s: 10}")
    text = text.replace("127.0.0.1}", "127.0.0.1, request_timeout_s: 5}")
    assert check_text(text) == (
        [],
        [
            "http_options.request_timeout_s: 5 s is below timeouts.total_s (600 s), so Serve cuts longer answers; raise it, or remove it",
            "applications[0].deployments[0].graceful_shutdown_timeout_s: 10 s is below timeouts.total_s (600 s), so a replica that stops cuts its streams; raise it",
        ],
    )


def test_long_answers_need_longer_drains() -> None:
    """The warning names each deployment with streams whose drain is not configured."""
    Path("gateway.yaml").write_text(VERSION + MODELS + "timeouts: {total_s: 1200}\n")
    _, (note,) = check_text(deployed("{name: Ingress, graceful_shutdown_timeout_s: 1260}"))
    assert note == (
        "applications[0].deployments: replicas of provider-shared, provider-openai that stop cut "
        "their streams after 660 s, before timeouts.total_s (1200 s); "
        "raise their graceful_shutdown_timeout_s"
    )
    names = ("Ingress", "provider-shared", "provider-openai")
    given = [f"{{name: {name}, graceful_shutdown_timeout_s: 1260}}" for name in names]
    assert check_text(deployed(*given)) == ([], [])


def test_serve_gets_the_options_of_the_graph() -> None:
    """The builder binds each deployment with the options that the checks assume."""
    config = CONFIGS / "gateway.yaml"
    deployments = graph(build({"config": str(config)}))
    specs = {spec.name: spec.options for spec in deployments_of(compile_snapshot(config))}
    assert set(specs) == set(deployments)
    for name, deployment in deployments.items():
        bound = deployment._deployment_config
        assert bound.max_ongoing_requests == specs[name]["max_ongoing_requests"], name
        drain_s = specs[name].get("graceful_shutdown_timeout_s")
        assert drain_s in {None, bound.graceful_shutdown_timeout_s}, name
