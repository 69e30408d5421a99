"""``fingerpost suggest``: lets a chat model of a configuration write examples of its routes."""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tqdm import tqdm

from serve_app.cli.output import replace_file, say
from serve_app.config.locations import ConfigError, Problem, read_text
from serve_app.config.schema.routes import MAX_EXAMPLES
from serve_app.config.yaml_examples import add_examples, fragment
from serve_app.domain import ModelRef, Route
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.faults import EngineFaultError
from serve_app.evaluation.example_prompt import DEFAULT_LANGUAGES
from serve_app.evaluation.held_out import measure_promise, promise_text
from serve_app.evaluation.labelled_set import Case
from serve_app.evaluation.suggested import (
    Batch,
    Suggestions,
    Target,
    UnreadableExamplesError,
    names_of,
    wanted_counts,
)
from serve_app.routing.policy import no_model
from serve_app.snapshot import Snapshot, compile_snapshot

if TYPE_CHECKING:
    from serve_app.evaluation.live_chat import Ask

_MAX_FAULTS_IN_A_ROW: Final = 2
_PLACEHOLDER: Final = "a placeholder of an example"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost suggest``."""
    parser.add_argument("file", type=Path, help="a gateway.yaml with routes")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model to ask, provider/name (default: the default model, else the first one)",
    )
    parser.add_argument(
        "--count",
        type=_count,
        default=20,
        metavar="N",
        help="examples of each route; no route gets twice as many (default: %(default)s)",
    )
    parser.add_argument(
        "--languages",
        type=_languages,
        default=DEFAULT_LANGUAGES,
        metavar="LIST",
        help="languages of a fifth of the examples, such as de,fr; en: all in English "
        "(default: a mix)",
    )
    parser.add_argument(
        "--more", action="store_true", help="ask for N more examples of routes that have N already"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the examples into the file, not to the output"
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_EXAMPLES:
        message = f"must be an integer from 1 to {MAX_EXAMPLES}, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _languages(text: str) -> tuple[str, ...]:
    languages = tuple(part.strip() for part in text.split(","))
    if not all(part and part.isprintable() for part in languages):
        message = f"must be languages with commas between them, such as de,fr, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return languages


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost suggest``; False if a request failed or a route lacks examples."""
    file: Path = arguments.file
    snapshot = compile_snapshot(file)
    policy = snapshot.policy
    if not policy.routes:
        problem = Problem(0, "routing_preferences", "no routes; add one with its models")
        raise ConfigError(str(file), (problem,))
    wanted = wanted_counts(
        policy.routes, policy.no_route_examples, arguments.count, more=arguments.more
    )
    if not wanted:
        say(f"{file}: no route lacks examples; --more asks for more", sys.stderr)
        return True
    model = _model(arguments.model, snapshot, file)
    if arguments.write:
        _check_editable(file, wanted)
    suggestions = Suggestions(policy.routes, policy.no_route_examples, wanted, arguments.languages)
    is_answered = _ask_all(model, snapshot, suggestions)
    return _deliver(file, snapshot, suggestions, write=arguments.write) and is_answered


def _model(name: str | None, snapshot: Snapshot, file: Path) -> ModelRef:
    """The model to ask. Raises ConfigError if there is none, or if it needs something first."""
    policy = snapshot.policy
    if name is not None:
        resolved = policy.resolve(name)
        if resolved is None:
            message = no_model(policy, name, snapshot.config.model_aliases)
            raise ConfigError(str(file), (Problem(0, "--model", message),))
        model = resolved[0]
    elif policy.default is not None or policy.models:
        model = policy.default or next(iter(policy.models.values()))
    else:
        wildcard = min(policy.wildcards)
        message = f"only wildcards; name a model to ask, such as --model {wildcard}/NAME"
        raise ConfigError(str(file), (Problem(0, "model_providers", message),))
    endpoint = snapshot.providers.endpoints_of(model)[0]
    missing = endpoint.missing(os.environ)
    fault = None
    if missing:
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        fault = f"{' and '.join(missing)} {are} not set; set {them}"
    elif endpoint.passthrough_auth:
        fault = "it is called with the key of a client, and this command has none; set access_key"
    if fault is not None:
        message = f"cannot ask {model}: {fault}, or name another model with --model"
        raise ConfigError(str(file), (Problem(0, "model_providers", message),))
    return model


def _check_editable(file: Path, wanted: Mapping[Target, int]) -> None:
    """Raises ConfigError if the examples cannot be written into the file."""
    routes = {name: [_PLACEHOLDER] for name in wanted if name is not None}
    add_examples(read_text(file), str(file), routes, [_PLACEHOLDER] if None in wanted else ())


def _ask_all(model: ModelRef, snapshot: Snapshot, suggestions: Suggestions) -> bool:
    """Asks for all examples, and once more for those that are lacking then.

    False if a request of the last round failed. A fault that further requests would meet, too,
    ends the asking.
    """
    from serve_app.evaluation.live_chat import open_chat  # noqa: PLC0415 - slow, and --help needs none

    overrides, timeouts = snapshot.config.overrides, snapshot.config.timeouts
    with open_chat(
        model, snapshot.providers, timeouts, os.environ, overrides.upstream_tls_ca_path
    ) as ask:
        failed = False
        for again in ("", ", once more"):
            batches = suggestions.batches()
            if batches:
                messages = sum(suggestions.lacking().values())
                say(f"asking {model} for {messages} messages{again}", sys.stderr)
            failed, in_a_row = False, 0
            for number, batch in enumerate(batches, 1):
                say(f"  {number} of {len(batches)}, {batch.name}: ", sys.stderr, end="")
                outcome = _ask_one(ask, batch, suggestions)
                say(outcome.text, sys.stderr)
                in_a_row = 0 if outcome.is_good else in_a_row + 1
                failed = failed or not outcome.is_good
                if outcome.is_final or in_a_row == _MAX_FAULTS_IN_A_ROW:
                    return False
    return not failed


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of one request, in words."""

    text: str
    is_good: bool = True
    is_final: bool = False
    """True if further requests would fail in the same way."""


def _ask_one(ask: "Ask", batch: Batch, suggestions: Suggestions) -> _Outcome:
    """Sends one request and takes its answer; Ctrl-C ends it like a fault."""
    started = time.monotonic()
    try:
        answer = ask(batch.prompt)
    except KeyboardInterrupt:
        return _Outcome("interrupted", is_good=False, is_final=True)
    if not isinstance(answer, str):
        return _Outcome(answer.detail, is_good=False, is_final=answer.is_final)
    try:
        usable = suggestions.take(batch, answer)
    except UnreadableExamplesError:
        text = "the answer contains no JSON lists of messages; name a larger model with --model"
        return _Outcome(text, is_good=False)
    took_s = time.monotonic() - started
    return _Outcome(f"{usable} of {sum(batch.wanted.values())} in {took_s:.0f} s")


def _deliver(file: Path, snapshot: Snapshot, suggestions: Suggestions, *, write: bool) -> bool:
    """Writes or prints the examples of the complete routes, and what they promise.

    False if a route is not complete, or the file could not be written.
    """
    incomplete = suggestions.incomplete()
    new = {t: texts for t, texts in suggestions.new().items() if t not in incomplete}
    if not new:
        say("no examples received; nothing is written", sys.stderr)
        return False
    _report_lacking(suggestions, incomplete)
    is_written = write and _write(file, new)
    policy = snapshot.policy
    routes = tuple(
        replace(route, examples=(*route.examples, *new.get(route.name, ()))[:MAX_EXAMPLES])
        for route in policy.routes
    )
    no_route = (*policy.no_route_examples, *new.get(None, ()))[:MAX_EXAMPLES]
    say("", sys.stderr)
    _show_promise(snapshot, routes, no_route)
    if not is_written:
        say(f"\nMerge these into {file}; --write does that, but asks anew:\n", sys.stderr)
        listed = {route.name: route.examples for route in routes if route.name in new}
        say(fragment(listed, no_route if None in new else ()))
    return not incomplete and is_written is write


def _report_lacking(suggestions: Suggestions, incomplete: list[Target]) -> None:
    """Says of which routes there are too few examples, and of which fewer than asked for."""
    short = [target for target in suggestions.lacking() if target not in incomplete]
    if short:
        say(f"fewer examples than asked for, but enough: {names_of(short)}", sys.stderr)
    if incomplete:
        say(
            f"too few examples, left out: {names_of(incomplete)}; run the command again for them",
            sys.stderr,
        )


def _write(file: Path, new: Mapping[Target, tuple[str, ...]]) -> bool:
    """Writes the examples into the file as it is now; False if that failed."""
    routes = {name: texts for name, texts in new.items() if name is not None}
    try:
        replace_file(file, add_examples(read_text(file), str(file), routes, new.get(None, ())))
    except ConfigError as error:
        say(str(error), sys.stderr)
        return False
    total = sum(map(len, new.values()))
    say(f"{file}: {total} examples written ({names_of(new)})", sys.stderr)
    return True


def _show_promise(snapshot: Snapshot, routes: tuple[Route, ...], no_route: tuple[str, ...]) -> None:
    """Prints how the embedded engine decides the examples themselves."""
    section = snapshot.config.orchestrator
    settings = replace(EmbeddingSettings.from_section(section), tuned=None)
    try:
        engine = EmbeddingEngine(settings)
    except EngineFaultError as error:
        say(f"cannot measure the examples: {error}", sys.stderr)
        return
    promise = measure_promise(routes, no_route, settings, engine, _bar)
    say("\n".join(promise_text(promise)), sys.stderr)
    if section.generates:
        say(
            f"Engine {section.engine} does not read examples; the embedded engine does while it "
            "stands in.",
            sys.stderr,
        )


def _bar(cases: Sequence[Case]) -> Iterable[Case]:
    """Shows a progress bar on a terminal."""
    bar: Iterable[Case] = tqdm(cases, unit="example", disable=None, leave=False)
    return bar
