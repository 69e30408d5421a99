"""The check of a serve.yaml; it needs Serve's schema, and no cluster."""

from pathlib import Path
from typing import Final

import pytest

from serve_app.cli.serve_yaml.check import Checked, check_serve
from serve_app.cli.summary import snapshot_warnings
from serve_app.config.locations import ConfigError, Problem
from tests.unit.config_texts import VERSION

CONFIG: Final = (
    VERSION
    + """model_providers:
  - {model: openai/a, access_key: $UNIT_KEY}
  - {model: vllm/b, base_url: "http://h:1", data_path: inline}
  - {model: ollama/*, base_url: "http://h:2"}
"""
)
NAMES: Final = "Ingress, Orchestrator, Affinity, provider-shared, provider-openai"
APP: Final = """\
http_options: {host: 127.0.0.1}
applications:
  - import_path: serve_app.app:build
    args: {config: gateway.yaml}
"""
AT: Final = "applications[0]"
DEPLOYMENT: Final = f"{AT}.deployments[0]"
Found = list[tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(CONFIG)


def checked(text: str, config: Path | None = None) -> Checked:
    file = Path("serve.yaml")
    file.write_text(text)
    return check_serve(file, config)


def problems(text: str, config: Path | None = None) -> Found:
    result = checked(text, config).errors
    assert [error.file for error in result] == ["serve.yaml"] * len(result)
    return [(p.line, p.path, p.message) for error in result for p in error.problems]


def deployed(*entries: str) -> str:
    return APP + "    deployments:\n" + "".join(f"      - {entry}\n" for entry in entries)


def test_good_file_has_neither_problems_nor_warnings(tmp_path: Path) -> None:
    """Any option of Serve is accepted, and the named configuration is compiled."""
    text = deployed(
        "{name: Ingress, num_replicas: 2, autoscaling_config: null}",
        "{name: provider-openai, ray_actor_options: {num_cpus: 0.5}, max_ongoing_requests: 10}",
        "{name: Orchestrator, autoscaling_config: {min_replicas: 0, max_replicas: 4}}",
        "{name: Affinity, num_replicas: 1, autoscaling_config: null}",
        "{name: provider-shared, num_replicas: auto}",
    )
    text += "    logging_config: {log_level: WARNING}\nproxy_location: HeadOnly\n"
    result = checked(text)
    assert (result.errors, result.warnings) == ((), ())
    assert result.config == tmp_path / "gateway.yaml"
    assert result.snapshot is not None
    assert list(result.snapshot.policy.models) == ["openai/a", "vllm/b"]


def test_packaged_files_are_good() -> None:
    """Their configurations are found from any folder, as by the builder."""
    configs = Path(__file__).parents[4] / "configs"
    names = set()
    for file in configs.glob("*serve*.yaml"):
        result = check_serve(file)
        assert (result.errors, result.warnings) == ((), ())
        assert result.snapshot is not None
        assert result.config is None or result.config.parent == configs
        names.add(file.name)
    assert names == {"demo.serve.yaml", "serve.gpu.yaml", "serve.yaml", "zero.serve.yaml"}


def test_missing_weights_are_the_only_warning_of_the_gpu_file() -> None:
    """Each machine has its own weights."""
    result = check_serve(Path(__file__).parents[4] / "configs/serve.gpu.yaml")
    assert result.snapshot is not None
    engine = result.snapshot.config.orchestrator
    assert (engine.engine, engine.device, engine.download) == ("vllm", "cuda", False)
    (note,) = snapshot_warnings(result.snapshot)
    assert note == (
        f"orchestrator.model, on this machine: there is no folder {engine.model}; check "
        "orchestrator.model, and set `download: true` if it is the id of a model on a hub"
    )


# fmt: off
WRONG: Final[dict[str, tuple[str, Found]]] = {
    "top level": (APP + "proxy_locaton: HeadOnly\n", [(5, "proxy_locaton", "unknown key; did you mean 'proxy_location'?")]),
    "http_options": (APP.replace("{host:", "{prot: 1, host:"), [(1, "http_options.prot", "unknown key; did you mean 'port'?")]),
    "application": (APP + "    deploiments: []\n", [(5, f"{AT}.deploiments", "unknown key; did you mean 'deployments'?")]),
    "deployment": (deployed("{name: Ingress, num_replica: 1}"), [(6, f"{DEPLOYMENT}.num_replica", "unknown key; did you mean 'num_replicas'?")]),
    "actor options": (deployed("{name: Ingress, ray_actor_options: {num_cpu: 1}}"), [(6, f"{DEPLOYMENT}.ray_actor_options.num_cpu", "unknown key; did you mean 'num_cpus'?")]),
    "scaling": (deployed("{name: Ingress, autoscaling_config: {max_replica: 1}}"), [(6, f"{DEPLOYMENT}.autoscaling_config.max_replica", "unknown key; did you mean 'max_replicas'?")]),
    "logging": (APP + "    logging_config: {log_leve: INFO}\n", [(5, f"{AT}.logging_config.log_leve", "unknown key; did you mean 'log_level'?")]),
    "far": (APP.replace("{host:", "{zzz: 1, host:"), [(1, "http_options.zzz", "unknown key; known keys: host, port, root_path, request_timeout_s, keep_alive_timeout_s, ssl_keyfile, ssl_certfile, ssl_keyfile_password, ssl_ca_certs")]),
    "port": (APP.replace("{host:", "{port: x, host:"), [(1, "http_options.port", "must be an integer, not 'x'")]),
    "host": (APP.replace("127.0.0.1", "[]"), [(1, "http_options.host", "must be a string, not a list")]),
    "http_options a text": (APP.replace("{host: 127.0.0.1}", "x"), [(1, "http_options", "must be a mapping of keys, not 'x'")]),
    "location": (APP + "proxy_location: Everywhere\n", [(5, "proxy_location", "must be 'Disabled', 'HeadOnly' or 'EveryNode', not 'Everywhere'")]),
    "no import path": (APP.replace("import_path: serve_app.app:build", "name: x"), [(3, f"{AT}.import_path", "missing; add `import_path:`")]),
    "import path": (APP.replace(":build", ":biuld"), [(3, f"{AT}.import_path", "must be serve_app.app:build, not 'serve_app.app:biuld'")]),
    "somebody else's": (APP.replace("serve_app.app:build", "shop.main:app"), [(3, f"{AT}.import_path", "must be serve_app.app:build, not 'shop.main:app'")]),
    "args a text": (APP.replace("{config: gateway.yaml}", "x"), [(4, f"{AT}.args", "must be a mapping of keys, not 'x'")]),
    "config a number": (APP.replace("gateway.yaml", "1"), [(4, f"{AT}.args.config", "must be the path of a gateway.yaml, or left out")]),
    "config empty": (APP.replace("gateway.yaml", "''"), [(4, f"{AT}.args.config", "must be the path of a gateway.yaml, or left out")]),
    "more args": (APP.replace("gateway.yaml", "gateway.yaml, confg: 1"), [(4, f"{AT}.args.confg", "unknown key; did you mean 'config'?")]),
    "far args": (APP.replace("gateway.yaml", "gateway.yaml, zzz: 1"), [(4, f"{AT}.args.zzz", "unknown key; known keys: config")]),
    "no such file": (APP.replace("gateway.yaml", "/no/gateway.yaml"), [(4, f"{AT}.args.config", "no file /no/gateway.yaml; correct the path")]),
    "nobody's home": (APP.replace("gateway.yaml", "~nobody-here/g.yaml"), [(4, f"{AT}.args.config", "no file HERE/~nobody-here/g.yaml, and no packaged file either; correct the path")]),
    "route prefix": (APP + "    route_prefix: v1\n", [(5, f"{AT}.route_prefix", "must start with a slash, must not end with one, and must not contain braces")]),
    "route prefix end": (APP + "    route_prefix: /v1/\n", [(5, f"{AT}.route_prefix", "must start with a slash, must not end with one, and must not contain braces")]),
    "route prefix open": (APP + "    route_prefix: '/{x}'\n", [(5, f"{AT}.route_prefix", "must start with a slash, must not end with one, and must not contain braces")]),
    "no applications": ("http_options: {host: 127.0.0.1}\n", [(1, "applications", "missing; add `applications:`")]),
    "none of them": ("applications: []\n", [(1, "applications", "empty; add one with `import_path: serve_app.app:build` and `args: {config: PATH}`")]),
    "applications a text": ("applications: x\n", [(1, "applications", "must be a list, not 'x'")]),
    "application a text": ("applications: [x]\n", [(1, AT, "must be a mapping of keys, not 'x'")]),
    "exposed": (APP.replace("http_options: {host: 127.0.0.1}\n", ""), [(1, "http_options.host", "Serve listens on 0.0.0.0, where other machines reach it, and there are no client_keys; add client_keys, or allow_anonymous: true, or set http_options.host to 127.0.0.1")]),
    "no such deployment": (deployed("name: provider-openia"), [(6, f"{DEPLOYMENT}.name", "no deployment 'provider-openia'; did you mean 'provider-openai'?")]),
    "far deployment": (deployed("name: zzz"), [(6, f"{DEPLOYMENT}.name", f"no deployment 'zzz'; the deployments are {NAMES}")]),
    "not dedicated": (deployed("name: provider-vllm-h-1"), [(6, f"{DEPLOYMENT}.name", "no deployment 'provider-vllm-h-1': provider vllm-h-1 is inline; remove this entry")]),
    "twice": (deployed("name: Ingress", "name: Ingress"), [(7, f"{AT}.deployments[1].name", "duplicate entry 'Ingress'; keep one")]),
    "no name": (deployed("num_replicas: auto"), [(6, f"{DEPLOYMENT}.name", "missing; add `name:`")]),
    "deployments a text": (APP + "    deployments: x\n", [(5, f"{AT}.deployments", "must be a list, not 'x'")]),
    "user_config": (deployed("{name: Ingress, user_config: {a: 1}}"), [(6, f"{DEPLOYMENT}.user_config", "no deployment has a user_config; put settings into gateway.yaml")]),
    "replicas": (deployed("{name: Ingress, num_replicas: 0, autoscaling_config: null}"), [(6, f"{DEPLOYMENT}.num_replicas", "must be greater than 0")]),
    "both": (deployed("{name: Ingress, num_replicas: 2, autoscaling_config: {max_replicas: 3}}"), [(6, DEPLOYMENT, "Manually setting num_replicas is not allowed when autoscaling_config is provided.")]),
    "scaling turned round": (deployed("{name: Ingress, autoscaling_config: {min_replicas: 3, max_replicas: 2}}"), [(6, f"{DEPLOYMENT}.autoscaling_config", "max_replicas (2) must be greater than or equal to min_replicas (3)!")]),
    "scaling type": (deployed("{name: Ingress, autoscaling_config: {min_replicas: -1}}"), [(6, f"{DEPLOYMENT}.autoscaling_config.min_replicas", "must be at least 0")]),
    "two Affinities": (deployed("{name: Affinity, num_replicas: 2}"), [(6, f"{DEPLOYMENT}.num_replicas", "must be 1: Affinity keeps sessions in the memory of one replica; use Redis to scale")]),
    "scaled Affinity": (deployed("{name: Affinity, autoscaling_config: {max_replicas: 2}}"), [(6, f"{DEPLOYMENT}.autoscaling_config", "must be left out: Affinity keeps sessions in the memory of one replica; use Redis to scale")]),
    "auto Affinity": (deployed("{name: Affinity, num_replicas: auto}"), [(6, f"{DEPLOYMENT}.num_replicas", "must be 1: Affinity keeps sessions in the memory of one replica; use Redis to scale")]),
}
# fmt: on


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG)
def test_invalid_file_is_reported(text: str, expected: Found) -> None:
    """Each problem has its line, its path and its fix, also where Serve ignores it."""
    here = str(Path.cwd())
    result = [(line, at, message.replace(here, "HERE")) for line, at, message in problems(text)]
    assert result == expected


def test_all_problems_are_reported_together() -> None:
    """They are in the order of lines, one for each location."""
    text = deployed("{name: Ingres, num_replicas: no, ray_actor_options: {num_cpu: 1}}")
    text = text.replace(":build", ":biuld").replace("http_options", "http_option")
    assert [(line, path) for line, path, _ in problems(text)] == [
        (1, "http_option"),
        (1, "http_options.host"),
        (3, f"{AT}.import_path"),
        (6, f"{DEPLOYMENT}.name"),
        (6, f"{DEPLOYMENT}.num_replicas"),
        (6, f"{DEPLOYMENT}.ray_actor_options.num_cpu"),
    ]


def test_secrets_are_not_shown() -> None:
    """Values of environments and passwords are not repeated."""
    text = APP.replace("{host:", "{ssl_keyfile_password: [sk-secret], host:")
    text += "    runtime_env: [sk-secret]\n"
    assert problems(text) == [
        (1, "http_options.ssl_keyfile_password", "not a valid value for Serve; correct it"),
        (5, f"{AT}.runtime_env", "not a valid value for Serve; correct it"),
    ]


def test_named_code_is_not_imported() -> None:
    """It may exist on the cluster only."""
    text = deployed(
        "{name: Ingress, autoscaling_config: {policy: {policy_function: 'no.such:f'}}}",
        "{name: Orchestrator, request_router_config: {request_router_class: 'no.such:C'}}",
        "{name: provider-shared, deployment_actors: [{name: a, actor_class: 'no.such:C'}]}",
    )
    assert problems(text) == []


def test_affinity_is_unknown_with_redis() -> None:
    """Its entry would make Serve refuse the application."""
    Path("gateway.yaml").write_text(
        CONFIG + "routing: {session_cache: {type: redis, url: redis://h}}\n"
    )
    result = problems(deployed("name: Affinity"))
    message = "no deployment 'Affinity': sessions are kept in Redis; remove this entry"
    assert result == [(6, f"{DEPLOYMENT}.name", message)]


def test_client_keys_allow_other_machines() -> None:
    """With client keys the gateway may listen on all addresses."""
    Path("gateway.yaml").write_text(CONFIG + "client_keys: [$UNIT_KEY]\n")
    assert problems(APP.replace("127.0.0.1", "0.0.0.0")) == []


def test_fixed_replicas_are_a_warning_with_autoscaling() -> None:
    """Serve goes on scaling unless that is switched off."""
    result = checked(deployed("{name: Ingress, num_replicas: 2}", "{name: Affinity}"))
    assert (result.errors, result.warnings) == (
        (),
        (
            f"serve.yaml: line 6: {DEPLOYMENT}.num_replicas: ignored: the deployment autoscales; add `autoscaling_config: null`",
        ),
    )


def test_bad_configuration_is_reported_with_the_file() -> None:
    """The names of deployments cannot be checked then, all else is."""
    Path("gateway.yaml").write_text(VERSION + "zzz: 1\n")
    result = checked(deployed("{name: anything, num_replica: 1}"))
    assert [error.file for error in result.errors] == [
        "serve.yaml",
        str(Path.cwd() / "gateway.yaml"),
    ]
    assert [p.path for p in result.errors[0].problems] == [f"{DEPLOYMENT}.num_replica"]
    assert result.snapshot is None


@pytest.mark.parametrize("named", ["/etc/fingerpost/gateway.yaml", "gateway.yaml", "mine.yaml"])
def test_another_configuration_can_be_checked(named: str) -> None:
    """The path in the file may belong to another machine and need not exist."""
    Path("mine.yaml").write_text(CONFIG)
    result = checked(APP.replace("gateway.yaml", named), Path("mine.yaml"))
    assert (result.errors, result.config) == ((), Path("mine.yaml"))
    note = f"{Path.cwd()}/gateway.yaml is not checked, mine.yaml is; leave one of them out"
    expected = [f"serve.yaml: line 4: {AT}.args.config: {note}"] if named == "gateway.yaml" else []
    assert list(result.warnings) == expected


def test_missing_configuration_is_reported() -> None:
    """It does not matter which option or file names it."""
    (error,) = checked(APP, Path("no.yaml")).errors
    message = "cannot read the file: No such file or directory; check its path"
    assert (error.file, error.problems) == ("no.yaml", (Problem(0, "", message),))


SECOND: Final = "  - {name: b, route_prefix: /b, import_path: %s, args: {config: %s}}\n"


def test_foreign_applications_are_allowed() -> None:
    """Only Serve's schema applies to them; a file without an application of the gateway is refused."""
    assert problems(APP + SECOND % ("shop.main:app", "{x: 1}")) == []
    assert problems(APP + SECOND % ("shop.main:app", "x, deployment: []")) == []
    bad = (APP + SECOND % ("shop.main:app", "x")).replace("serve_app.app:build", "other:app")
    assert [path for _, path, _ in problems(bad)] == [
        "applications[0].import_path",
        "applications[1].args.config",
        "applications[1].import_path",
    ]
    near = APP + SECOND % ("serve_app:build", "gateway.yaml")
    assert [path for _, path, _ in problems(near)] == ["applications[1].import_path"]


def test_all_applications_of_the_gateway_are_checked() -> None:
    """Each has its own configuration, and the first one is summarized."""
    Path("b.yaml").write_text(VERSION)
    two = APP + SECOND % ("serve_app.app.build", "b.yaml")
    result = checked(two)
    assert result.errors == ()
    assert result.config == Path.cwd() / "gateway.yaml"
    assert [path for _, path, _ in problems(two.replace("b.yaml", "c.yaml"))] == [
        "applications[1].args.config"
    ]
    (twice,) = problems(two.replace("name: b", "name: default"))
    assert twice[:2] == (2, "applications")
    assert 'multiple configs for application "default"' in twice[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file is empty; start with `applications:`"),
        ("- 1\n", "must be a mapping of keys, such as `applications:`"),
        ("a: [\n", "invalid YAML: "),
        (APP + "applications: []\n", "applications: duplicate key"),
    ],
)
def test_file_that_is_not_a_serve_file_is_reported_alone(text: str, message: str) -> None:
    """The messages are those for a gateway.yaml."""
    with pytest.raises(ConfigError) as caught:
        checked(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "hint"),
    [
        ((), f"line 3: {AT}.deployments: the Orchestrator has no GPU"),
        (("{name: Ingress, ray_actor_options: {num_gpus: 1}}",), f"line 5: {AT}.deployments: the Orchestrator has no GPU"),
        (("{name: Orchestrator, ray_actor_options: {num_cpus: 1}}",), f"line 6: {DEPLOYMENT}.ray_actor_options: the Orchestrator has no GPU"),
        (("{name: Orchestrator, ray_actor_options: {num_gpus: 0}}",), f"line 6: {DEPLOYMENT}.ray_actor_options: the Orchestrator has no GPU"),
        (("{name: Orchestrator, ray_actor_options: {num_gpus: 2}}",), f"line 6: {DEPLOYMENT}.ray_actor_options.num_gpus: 2 GPUs are reserved, one is used; set it to 1"),
        (("{name: Orchestrator, ray_actor_options: {num_gpus: 0.3}}",), None),
    ],
)  # fmt: skip
def test_engine_for_a_gpu_needs_one(entries: tuple[str, ...], hint: str | None) -> None:
    """Without it the replica would start, and its model would not."""
    section = "orchestrator: {engine: vllm, model: a/b, download: true, device: %s}\n"
    text = deployed(*entries) if entries else APP
    Path("gateway.yaml").write_text(CONFIG + section % "cuda")
    result = checked(text)
    assert result.errors == ()
    (message,) = result.warnings or ("serve.yaml: None",)
    assert message.startswith(f"serve.yaml: {hint}")
    Path("gateway.yaml").write_text(CONFIG + section % "auto")
    assert checked(text).warnings == ()


def test_better_engine_for_a_gpu_needs_one() -> None:
    """The warning names the key that asks for it."""
    better = "{engine: vllm, model: a/b, download: true, device: cuda}"
    Path("gateway.yaml").write_text(f"{CONFIG}orchestrator: {{when_unsure: {better}}}\n")
    (message,) = checked(APP).warnings
    assert "which orchestrator.when_unsure.device: cuda needs; set num_gpus in its" in message


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ("autoscaling_config: {max_replicas: 4}", 4),
        ("num_replicas: 2, autoscaling_config: null", 2),
        ("num_replicas: auto", 100),
        ("num_replicas: 2", 1),
        ("autoscaling_config: {max_replicas: 1}", 1),
        ("max_ongoing_requests: 10", 1),
    ],
)
def test_limits_in_memory_need_one_ingress(options: str, most: int) -> None:
    """Several replicas that would each count by themselves are refused; with Redis they are not."""
    limits = "model_limits: {openai/gpt-4o: {concurrent: 1}}\n"
    models = "model_providers: [{model: openai/gpt-4o}]\n"
    Path("gateway.yaml").write_text("version: v0.4.0\n" + models + limits)
    text = deployed(f"{{name: Ingress, {options}}}")
    message = (
        f"limit_storage of gateway.yaml: the ingress may have {most} replicas, and each would count "
        "limits and budgets by itself; set `type: redis` with a `url`, or `max_replicas: 1` for the "
        "Ingress in serve.yaml; then restart the application"
    )
    assert problems(text) == ([(6, DEPLOYMENT, message)] if most > 1 else [])
    Path("gateway.yaml").write_text(
        "version: v0.4.0\n" + models + limits + "limit_storage: {type: redis, url: 'redis://h'}\n"
    )
    assert problems(text) == []
