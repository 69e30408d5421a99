"""``fingerpost route``: shows which route a prompt matches, without a running gateway."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from serve_app.cli.output import say, say_json
from serve_app.config.locations import ConfigError, Problem
from serve_app.dialects.registry import turns_of_messages
from serve_app.domain import Json, Prefer, Question, Scores, Turn, Unavailable
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.servers import Servers
from serve_app.evaluation.live_engine import EngineContext, ask_once
from serve_app.evaluation.measure import NO_ROUTE
from serve_app.evaluation.report import table
from serve_app.packaged_files import find_packaged
from serve_app.providers.capabilities import Capabilities
from serve_app.requests.decide import Decided
from serve_app.requests.explain import render_explanation
from serve_app.requests.latencies import Latencies
from serve_app.requests.selection import RouteRanking
from serve_app.routing.router import AS_LISTED, ByContent, by_scores
from serve_app.scoring.excerpt import conversation, recent
from serve_app.snapshot import Snapshot, compile_snapshot

_SHOWN: Final = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``fingerpost route``."""
    parser.add_argument(
        "text", help="prompt of a user, or a JSON list of messages; - reads it from standard input"
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("configs/gateway.yaml"),
        help="gateway.yaml with the routes (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the decision as POST /v1/route returns it"
    )


def execute(arguments: argparse.Namespace) -> bool:
    """Runs ``fingerpost route``: prints which route a prompt matches, and why."""
    snapshot = compile_snapshot(find_packaged(arguments.config))
    policy = snapshot.policy
    if not policy.routes:
        problem = Problem(0, "routing_preferences", "no routes; add one with its models")
        raise ConfigError(str(arguments.config), (problem,))
    text = arguments.text
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    excerpt = conversation if snapshot.config.orchestrator.reads_conversations else recent
    question = Question(
        excerpt(_conversation(text)),
        policy.routes,
        policy.version,
        no_route_examples=policy.no_route_examples,
    )
    scores, took_s = _scores(snapshot, question)
    ranking = _ranking(snapshot)
    by_content = ByContent(policy.routes, ranking=ranking or AS_LISTED)
    decision = by_scores(policy, by_content, scores)
    route = by_content.route(decision.route)
    decided = Decided(decision, question, scores, route=route, ranking=ranking)
    explained = render_explanation(snapshot, decided, took_s)
    if arguments.json:
        say_json(explained)
    else:
        say("\n".join(_explanation(snapshot, explained)))
    return True


def _ranking(snapshot: Snapshot) -> RouteRanking | None:
    """What orders the models of routes; None, and nothing is imported, if all list them in order."""
    if all(route.prefer is Prefer.NONE for route in snapshot.policy.routes):
        return None
    return RouteRanking(
        Latencies(time.monotonic), Capabilities(snapshot.config), stream=False, explores=False
    )


def _scores(snapshot: Snapshot, question: Question) -> tuple[Scores | Unavailable, float]:
    """The scores of the configured engines, and the seconds that they took.

    Without a text of the user no engine is used, as in the gateway.
    """
    section = snapshot.config.orchestrator
    if not question.turns:
        return Scores({}, 0.0, None), 0.0
    if section.engine != "embedding" or section.when_unsure is not None:
        servers = Servers.of(snapshot.config, snapshot.providers)
        return ask_once(section, question, EngineContext(servers, snapshot.threshold.rule))
    engine = EmbeddingEngine(EmbeddingSettings.from_section(section))
    engine.prepare(question.routes, question.no_route_examples)
    started = time.perf_counter()
    scores = engine.score(question, lambda: True)
    took_s = time.perf_counter() - started
    if isinstance(scores, Unavailable):
        return scores, took_s
    rule = snapshot.threshold.rule
    scores = scores if rule is None else rule.apply(scores)
    return replace(scores, tier=section.engine), took_s


def _conversation(text: str) -> tuple[Turn, ...]:
    """The turns of a JSON list of messages, or of an object with one; else one turn of the user."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    messages = value.get("messages") if isinstance(value, dict) else value
    return turns_of_messages(messages) if isinstance(messages, list) else (Turn("user", text),)


def _explanation(snapshot: Snapshot, explained: Mapping[str, Json]) -> list[str]:
    """A decision as lines: all scores, the decision, and the reason."""
    orchestrator, routes = explained["orchestrator"], snapshot.policy.routes
    scores = orchestrator["scores"] or {}
    rows = [["", "route", "score", "models"]]
    for route in sorted(routes, key=lambda route: -scores.get(route.name, 0.0)):
        mark = "->" if route.name == explained["route"] else ""
        score = f"{scores[route.name]:.3f}" if route.name in scores else "-"
        rows.append([mark, route.name, score, ", ".join(map(str, route.models))])
    if orchestrator["none"] is not None:
        rows.append(["", NO_ROUTE, f"{orchestrator['none']:.3f}", ""])
    limits = orchestrator["thresholds"]
    lead = orchestrator["margin"]
    margin = "" if lead is None else f", {lead:.3f} ahead of the next"
    margin += _tier(snapshot, orchestrator)
    lines = [f"seen: {turn['content'][:_SHOWN]}" for turn in orchestrator["seen"]]
    lines += ["", *table(rows, right=(2,)), ""]
    lines.append(
        f"decided: {explained['route'] or 'no route'} (reason {explained['reason']}{margin}; "
        f"min_confidence {limits['min_confidence']:g}, min_margin {limits['min_margin']:g}; "
        f"{explained['took_ms']:.1f} ms)"
    )
    if orchestrator["unreadable"]:
        lines.append("the bundled model does not read this script; give routes examples in it")
    lines += [
        f"  {position}. {candidate['model']}: {candidate['why']}"
        for position, candidate in enumerate(explained["candidates"], 1)
    ]
    return lines


def _tier(snapshot: Snapshot, orchestrator: Mapping[str, Json]) -> str:
    """Which of two engines decided; empty if there is one only."""
    if snapshot.config.orchestrator.when_unsure is None or orchestrator["tier"] is None:
        return ""
    why = orchestrator["fell_back"]
    return f", by {orchestrator['tier']}" + (
        f", as when_unsure did not answer: {why}" if why else ""
    )
