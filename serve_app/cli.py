"""The command line: ``fingerpost check`` and ``fingerpost run``."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from serve_app import launch
from serve_app.api.context import exposure_problem
from serve_app.config.load import notices, references
from serve_app.decision import Setup, compile_setup
from serve_app.errors import ConfigError
from serve_app.providers.spec import Endpoint

_USAGE, _FAILED = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status: 0, 1 when it failed, 2 when it was asked wrongly."""
    parser = argparse.ArgumentParser(prog="fingerpost", description="An LLM routing gateway.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what is wrong with a gateway.yaml, or sum it up")
    check.add_argument("file", type=Path)
    run = commands.add_parser("run", help="start the gateway on this machine, until Ctrl-C")
    run.add_argument("file", type=Path, nargs="?", default=Path("configs/serve.yaml"))
    run.add_argument("--env", type=Path, default=Path("configs/serve.env"), help="Serve's settings")
    run.add_argument("--beside", default="", help="a command to run as long as the gateway runs")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "check":
            _print("\n".join(summary(compile_setup(chosen.file))))
        else:
            _run(chosen.file, chosen.env, shlex.split(chosen.beside))
    except (ConfigError, launch.LaunchError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program's output
        return _FAILED
    return 0


def _run(file: Path, env: Path, neighbour: Sequence[str]) -> None:
    serve_file = launch.read_serve_file(file)
    setup = compile_setup(serve_file.config)
    problem = exposure_problem(serve_file.host, setup.config)
    if problem is not None:
        raise launch.LaunchError(f"{file}: {problem}")
    try:
        settings = launch.read_env_file(env)
    except OSError as error:
        raise launch.LaunchError(f"{env} can't be read: {error.strerror}") from error

    def on_healthy(seconds: float) -> None:
        _print(f"Fingerpost is up after {seconds:.0f} s at {serve_file.url}")
        _print("\n".join(summary(setup)))
        _print(f"\nTry it:\n\n{example(setup, serve_file.url)}\n\nCtrl-C stops it.")

    _print(f"starting {file} ({serve_file.config}); this takes about half a minute ...")
    launch.run(serve_file, settings, neighbour, on_healthy)


def summary(setup: Setup) -> list[str]:
    """What a configuration serves, line by line; keys by the names of their variables only."""
    policy, providers = setup.policy, setup.providers
    lines = [f"policy {policy.version}"]
    for slug, data_path in providers.data_paths().items():
        lines.append(f"provider {slug} ({data_path})")
    for name, model in policy.models.items():
        default = ", default" if model == policy.default else ""
        lines.append(f"model {name}{default}{_key_state(providers.models[model])}")
    for prefix, endpoint in providers.wildcards.items():
        lines.append(f"models {prefix}/*{_key_state(endpoint)}")
    lines += [f"note: {notice}" for notice in notices(setup.config)]
    lines += [f"alias {alias} -> {model}" for alias, model in policy.aliases.items()]
    lines += [
        f"route {route.name} -> {', '.join(map(str, route.models))}" for route in policy.routes
    ]
    return lines


def _key_state(endpoint: Endpoint) -> str:
    missing = endpoint.missing(os.environ)
    return f"  [{' and '.join(missing)} is not set]" if missing else ""


def example(setup: Setup, url: str) -> str:
    """A curl line that works with this configuration here and now."""
    policy, providers = setup.policy, setup.providers
    models = [policy.default] if policy.default else []
    models += [model for model in policy.models.values() if model != policy.default]
    key = ""
    if setup.config.client_keys is not None:
        names = references(setup.config.client_keys[0])
        key = f" -H 'Authorization: Bearer {'$' + names[0] if names else '...'}'".replace("'", '"')
    for model in models:
        endpoint = providers.endpoint(model)
        if endpoint is not None and not endpoint.missing(os.environ):
            body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            return f"  curl{key} {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
    return (
        f"  curl{key} {url}/v1/models\n\n"
        "No model has its key: set the variables named above and start again, or try `make demo`."
    )


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program's output


if __name__ == "__main__":
    sys.exit(main())
