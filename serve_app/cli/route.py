"""``fingerpost route``: shows which route a prompt matches, without a running gateway."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serve_app.cli.output import say, say_json
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.schema.orchestrator import OrchestratorSection
from serve_app.dialects.registry import turns_of_messages
from serve_app.domain import Json, Question, Scores, Turn, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.evaluation.live_engine import ask_once
from serve_app.evaluation.report import table
from serve_app.requests.decide import Decided
from serve_app.requests.explain import render_explanation
from serve_app.routing.router import ByContent, by_scores
from serve_app.scoring.excerpt import conversation, recent
from serve_app.snapshot import Snapshot, compile_snapshot

_SHOWN: Final = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``fingerpost route``."""
    parser.add_argument(
        "text", help="what a user says; - reads it, or a JSON list of messages, from standard input"
    )
    parser.add_argument("--config", type=Path, default=Path("configs/gateway.yaml"))
    parser.add_argument("--json", action="store_true", help="what POST /v1/route answers")


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost route``."""
    show_route(arguments)
    return True


def show_route(chosen: argparse.Namespace) -> None:
    """Prints which route a text matches, and why."""
    snapshot = compile_snapshot(chosen.config)
    policy = snapshot.policy
    if not policy.routes:
        problem = Problem(0, "routing_preferences", "there are no routes; add one with models")
        raise ConfigError(str(chosen.config), (problem,))
    section = snapshot.config.orchestrator
    text = chosen.text
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    look = conversation if section.generates else recent
    question = Question(look(_conversation(text)), policy.routes, policy.version)
    said: Scores | Unavailable = Scores({}, 0.0, None)
    took_s = 0.0
    if question.turns:
        if section.engine == "embedding":
            said, took_s = _compared(section, question)
        else:
            said, took_s = ask_once(
                section, question, snapshot.config.overrides.upstream_tls_ca_path
            )
    decided = Decided(by_scores(policy, ByContent(policy.routes), said), question, said)
    explained = render_explanation(snapshot, decided, took_s)
    if chosen.json:
        say_json(explained)
    else:
        say("\n".join(_explanation(snapshot, explained)))


def _compared(
    section: OrchestratorSection, question: Question
) -> tuple[Scores | Unavailable, float]:
    """What the embedded engine says, and how many seconds that took."""
    engine = EmbeddingEngine(EmbeddingSettings.from_section(section))
    engine.scorer.prepare(question.routes)
    started = time.perf_counter()
    said = engine.score(question, lambda: True)
    return said, time.perf_counter() - started


def _conversation(text: str) -> tuple[Turn, ...]:
    """A JSON list of messages, or an object with one, as turns; any other text as the user's."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    messages = value.get("messages") if isinstance(value, dict) else value
    return turns_of_messages(messages) if isinstance(messages, list) else (Turn("user", text),)


def _explanation(snapshot: Snapshot, explained: Mapping[str, Json]) -> list[str]:
    """A decision as lines: every score, what was decided, and why."""
    asked, routes = explained["orchestrator"], snapshot.policy.routes
    scores = asked["scores"] or {}
    rows = [["", "route", "score", "models"]]
    for route in sorted(routes, key=lambda route: -scores.get(route.name, 0.0)):
        mark = "->" if route.name == explained["route"] else ""
        score = f"{scores[route.name]:.3f}" if route.name in scores else "-"
        rows.append([mark, route.name, score, ", ".join(map(str, route.models))])
    limits = asked["thresholds"]
    margin = "" if asked["margin"] is None else f", {asked['margin']:.3f} ahead of the next"
    lines = [f"seen: {turn['content'][:_SHOWN]}" for turn in asked["seen"]]
    lines += ["", *table(rows, right=(2,)), ""]
    lines.append(
        f"decided: {explained['route'] or 'no route'} (reason {explained['reason']}{margin}; "
        f"min_confidence {limits['min_confidence']:g}, min_margin {limits['min_margin']:g}; "
        f"{explained['took_ms']:.1f} ms)"
    )
    lines += [
        f"  {position}. {candidate['model']}: {candidate['why']}"
        for position, candidate in enumerate(explained["candidates"], 1)
    ]
    return lines
