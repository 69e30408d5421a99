"""``fingerpost run``: runs the gateway, and shows a decision and an example once it is up."""

import argparse
import json
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.request import Request

from serve_app.access.exposure import exposure_problem
from serve_app.cli import serve_process
from serve_app.cli.errors import LaunchError
from serve_app.cli.output import say
from serve_app.cli.serve_yaml.check import check_document
from serve_app.cli.serve_yaml.read import (
    ServeDocument,
    read_document,
    read_env_file,
    serve_file_of,
)
from serve_app.cli.summary import summary
from serve_app.config.references import MissingEnvironmentError, expand, references
from serve_app.config.schema.access import HASHED, ClientKey
from serve_app.config.without_file import NO_FILE
from serve_app.packaged_files import find_packaged
from serve_app.snapshot import Snapshot, compile_snapshot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost run``."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path("configs/serve.yaml"),
        help="a serve.yaml (default: %(default)s)",
    )
    parser.add_argument(
        "--env",
        type=Path,
        default=Path("configs/serve.env"),
        help="environment of Ray Serve (default: %(default)s)",
    )
    parser.add_argument(
        "--beside", default="", metavar="COMMAND", help="command to run beside the gateway"
    )
    parser.add_argument(
        "--no-dashboard",
        dest="dashboard",
        action="store_false",
        help="do without Ray's dashboard, which takes about 220 MB: without it `serve status` does "
        "not answer, and Ray does not list its metrics ports in a file",
    )


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost run`` until Ctrl-C."""
    neighbour = shlex.split(arguments.beside)
    _run(arguments.file, arguments.env, neighbour, dashboard=arguments.dashboard)
    return True


def _run(file: Path, env: Path, neighbour: Sequence[str], *, dashboard: bool) -> None:
    document = read_document(find_packaged(file))
    serve_file = serve_file_of(document)
    snapshot = compile_snapshot(serve_file.config)
    problem = exposure_problem(serve_file.host, snapshot.config)
    if problem is not None:
        raise LaunchError(f"{file}: {problem}")
    try:
        settings = read_env_file(env)
    except OSError as error:
        raise LaunchError(f"cannot read {env}: {error.strerror}") from error
    problems = _problems_of(document, by_serve=False)
    if problems:  # Serve does not report some of them, and waits without end
        raise LaunchError(problems)

    def on_healthy(seconds: float) -> None:
        say(f"Fingerpost is up after {seconds:.0f} s at {serve_file.url}")
        say("\n".join(summary(snapshot)))
        if snapshot.policy.routes:
            say(f"\nA decision of the gateway:\n\n{_decision(snapshot, serve_file.url)}")
        say(f"\nTry it:\n\n{example(snapshot, serve_file.url)}\n\nCtrl-C stops it.")

    serve_process.refuse_taken_port(serve_file)
    config = serve_file.config or NO_FILE
    say(f"starting {file} ({config}); this takes about half a minute ...")
    try:
        serve_process.run(serve_file, settings, neighbour, on_healthy, dashboard=dashboard)
    except LaunchError as error:
        problems = _problems_of(document, by_serve=True)
        raise LaunchError("\n\n".join(filter(None, (str(error), problems)))) from error


def _problems_of(document: ServeDocument, *, by_serve: bool) -> str:
    """The problems that ``check --serve`` reports, as text; empty without any.

    Importing Serve for its schema takes seconds, so that is left to a start that failed.
    """
    errors = check_document(document, by_serve=by_serve).errors
    return "\n\n".join(map(str, errors))


_PROMPT: Final = "Write a Python function that reverses a linked list"


def _decision(snapshot: Snapshot, url: str) -> str:
    """The decision of the running gateway for a prompt, with all scores, as text."""
    body = json.dumps({"messages": [{"role": "user", "content": _PROMPT}]}).encode()
    headers = {"content-type": "application/json"}
    key_text = _first_key(snapshot)
    if key_text is not None:
        with suppress(MissingEnvironmentError):
            headers["authorization"] = f"Bearer {expand(key_text, os.environ)}"
    request = Request(f"{url}/v1/route", body, headers)  # noqa: S310 - a local address
    try:
        with serve_process.open_directly(request, timeout=10) as answer:
            explained = json.loads(answer.read())
    except (OSError, ValueError, HTTPException) as error:
        return f"  not available: {error}"
    scores = (explained["orchestrator"] or {}).get("scores") or {}
    shown = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    details = [explained["reason"], *([shown] if shown else []), f"{explained['took_ms']:.0f} ms"]
    return (
        f'  "{_PROMPT}"\n  -> {explained["route"] or "no route"}, {explained["model"]} '
        f"({'; '.join(details)})"
    )


def _first_key(snapshot: Snapshot) -> str | None:
    """The first client key that is not stored as a hash; None if there is none."""
    for entry in snapshot.config.client_keys or ():
        text = entry.key if isinstance(entry, ClientKey) else entry
        if not text.startswith(HASHED):
            return text
    return None


def example(snapshot: Snapshot, url: str) -> str:
    """A curl command that works with this configuration and the keys that are set."""
    policy, providers = snapshot.policy, snapshot.providers
    models = [policy.default] if policy.default else []
    models += [model for model in policy.models.values() if model != policy.default]
    key = ""
    if snapshot.config.client_keys is not None:
        names = references(_first_key(snapshot) or "")
        key = f" -H 'Authorization: Bearer {'$' + names[0] if names else '...'}'".replace("'", '"')
    for model in models:
        endpoint = providers.endpoint(model)
        if endpoint is not None and not endpoint.missing(os.environ):
            body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            return f"  curl{key} {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
    return (
        f"  curl{key} {url}/v1/models\n\n"
        "No model has a key: set the variables above and start again, or try `make demo`."
    )
