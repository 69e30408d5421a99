"""The builder: the graph that a configuration produces, and its errors; no cluster is needed."""

import pickle
from pathlib import Path

import pytest

from serve_app.app import _config_path, build
from serve_app.cli.serve_yaml.check import check_serve
from serve_app.config.locations import ConfigError
from serve_app.graph import deployment_names
from serve_app.snapshot import compile_snapshot
from tests.deploy.sites import graph
from tests.site import SECRET

CONFIG = """
version: v0.4.0
model_providers:
  - {model: openai/gpt-4o, access_key: $FINGERPOST_TEST_KEY}
  - {model: vllm/a, base_url: "http://gpu:8000", access_key: $FINGERPOST_TEST_KEY}
  - {model: vllm/b, base_url: "http://gpu:8001", data_path: inline}
  - {model: ollama/c, base_url: "http://gpu:11434", data_path: shared}
"""


def test_dedicated_provider_has_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dedicated providers, distinguished by scheme, host and port, each have a deployment; shared
    and inline ones do not.
    """
    monkeypatch.setenv("FINGERPOST_TEST_KEY", SECRET)
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    deployments = graph(build({"config": str(file)}))
    assert set(deployments) == {
        "Ingress", "Affinity", "Orchestrator", "provider-shared", "provider-openai",
        "provider-vllm-gpu-8000",
    }  # fmt: skip
    assert deployments["Affinity"].num_replicas == 1
    for name in ("Ingress", "provider-openai", "provider-shared"):
        assert deployments[name].max_ongoing_requests == 1000
        assert deployments[name]._deployment_config.autoscaling_config is not None
        assert deployments[name]._deployment_config.graceful_shutdown_timeout_s == 660


def test_graph_does_not_bind_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The builder binds only the path of the file, and neither a key nor a resolved reference."""
    monkeypatch.setenv("FINGERPOST_TEST_KEY", SECRET)
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    for deployment in graph(build({"config": str(file)})).values():
        plain = [value for value in deployment.init_args if isinstance(value, str)]
        assert SECRET.encode() not in pickle.dumps(plain)
        assert plain in ([str(file)], [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"config": ""}, "config: PATH"),
        ({"config": 5}, "config: PATH"),
        ({"config": "gateway.yaml", "more": 1}, "more"),
        ({"config": "/no/such/file.yaml"}, "cannot read"),
    ],
)
def test_builder_rejects_wrong_arguments(args: dict[str, object], message: str) -> None:
    """The error names the wrong argument and the value to write."""
    with pytest.raises(ConfigError, match=message):
        build(args)


def test_builder_finds_packaged_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged example is found from any working directory."""
    monkeypatch.chdir(tmp_path)
    deployments = graph(build({"config": "configs/gateway.yaml"}))
    assert Path(deployments["provider-openai"].init_args[0]).is_absolute()


@pytest.mark.parametrize(
    ("section", "target"),
    [
        ("{}", 4),
        ("{engine: http, base_url: 'http://gpu:8002', model: m}", 32),
        ("{engine: vllm, model: m, device: cpu}", 32),
    ],
)
def test_orchestrator_scales_before_it_sheds_questions(
    section: str, target: int, tmp_path: Path
) -> None:
    """The Orchestrator scales up before it sheds questions; the embedded engine answers one at a
    time, so its target is lower.
    """
    file = tmp_path / "gateway.yaml"
    (tmp_path / "m").mkdir()
    file.write_text(f"{CONFIG}orchestrator: {section}\n")
    orchestrator = graph(build({"config": str(file)}))["Orchestrator"]
    scaling = orchestrator._deployment_config.autoscaling_config
    assert scaling.target_ongoing_requests == target
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_check_names_deployments_of_builder(store: str, tmp_path: Path) -> None:
    """`fingerpost check --serve` expects the same deployment names as the builder creates."""
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"{CONFIG}routing: {{session_cache: {{type: {store}, url: 'redis://h'}}}}\n"
        "client_keys: [$FINGERPOST_TEST_KEY]\n"
    )
    names = deployment_names(compile_snapshot(file))
    assert sorted(names) == sorted(graph(build({"config": str(file)})))


@pytest.mark.parametrize("name", ["configs/gateway.yaml", "mine.yaml", "/no/gateway.yaml"])
def test_check_finds_same_file_as_builder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the check and the builder search the working directory first and then the project."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(CONFIG)
    serve_file = Path("serve.yaml")
    serve_file.write_text(
        "http_options: {host: 127.0.0.1}\n"
        f"applications: [{{import_path: serve_app.app:build, args: {{config: {name}}}}}]\n"
    )
    assert check_serve(serve_file).config == _config_path({"config": name})
