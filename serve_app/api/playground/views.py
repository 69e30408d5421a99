"""Decisions, configuration and health as the page gets them: never a key, text where it is kept."""

from collections.abc import Sequence
from typing import Final

from serve_app.access.client import Client
from serve_app.api.playground.page import Page, sees_all
from serve_app.domain import Json, ModelRef, Prefer, Route
from serve_app.providers.prices import CatalogPrice, CatalogPrices
from serve_app.requests.health import Health
from serve_app.snapshot import Snapshot
from serve_app.telemetry.recent import RecentDecision

_EXCERPT: Final = 240
"""Characters of a conversation that a list shows."""

_SESSION_DIGITS: Final = 8


def render_decision(kept: RecentDecision) -> Json:
    """One decision of the live view. Durations in milliseconds, times in seconds."""
    record = kept.record
    usage = record.usage
    return {
        "number": kept.number,
        "id": record.id,
        "at": record.at,
        "surface": record.surface,
        "status": record.status,
        "error": record.error_type,
        "client": record.client,
        "asked": record.asked,
        "reason": record.reason,
        "route": record.route,
        "rule": record.rule,
        "tier": record.tier,
        "confidence": record.confidence,
        "candidates": list(record.candidates),
        "provider": record.provider,
        "model": record.tried[-1].model if record.tried else record.model or None,
        "attempts": [
            {
                "model": tried.model,
                "outcome": tried.outcome,
                "began_ms": _ms(tried.began_s),
                "took_ms": _ms(tried.seconds),
            }
            for tried in record.tried
        ],
        "stream": record.stream,
        "session": record.session,
        "session_id": record.session_hash[:_SESSION_DIGITS],
        "decided_ms": _ms(record.decided_s),
        "first_token_ms": _ms(record.first_token_s),
        "took_ms": _ms(record.seconds),
        "usd": record.usd,
        "tokens": None
        if usage is None
        else {
            "input": usage.uncached_input,
            "cache_read": usage.cache_read,
            "cache_write": usage.cache_write,
            "output": usage.output,
        },
        "is_estimated": record.is_estimated,
        "scores": dict(kept.scores),
        "none": kept.none,
        "threshold": kept.threshold,
        "text": excerpt(kept),
    }


def excerpt(kept: RecentDecision) -> str:
    """The end of a conversation, shortened; empty if it is not kept."""
    text = kept.turns[-1].text if kept.turns else ""
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def render_configuration(
    page: Page, snapshot: Snapshot, client: Client, prices: CatalogPrices
) -> Json:
    """The configuration as the page shows it, and what this replica keeps."""
    config, policy = snapshot.config, snapshot.policy
    engine = config.orchestrator
    return {
        "policy": snapshot.version,
        "replica": page.replica,
        "started_at": page.started_at,
        "client": client.name,
        "engine": {
            "name": engine.engine,
            "when_unsure": None if engine.when_unsure is None else engine.when_unsure.engine,
            "is_local": engine.engine == "embedding" and engine.when_unsure is None,
            "max_query_tokens": engine.max_query_tokens,
        },
        "thresholds": {"min_confidence": engine.min_confidence, "min_margin": engine.min_margin},
        "always_route": policy.always_route,
        "default": None if policy.default is None else str(policy.default),
        "routes": [render_route(route) for route in policy.routes],
        "no_route_examples": list(policy.no_route_examples),
        "rules": [
            {"name": rule.name, "route": rule.route, "model": rule.model and str(rule.model)}
            for rule in policy.rules
        ],
        "aliases": [
            {"name": name, "model": target and str(target)}
            for name, target in policy.aliases.items()
        ],
        "models": _models(snapshot, prices),
        "keeps": {
            "decisions": config.ui.decisions,
            "texts": config.page_keeps_texts,
            "all_clients": sees_all(snapshot),
        },
    }


def _models(snapshot: Snapshot, prices: CatalogPrices) -> Json:
    table = snapshot.providers
    named = [(str(model), ends, prices.price(model)) for model, ends in table.of_models.items()]
    wild = [(f"{prefix}/*", ends, None) for prefix, ends in table.of_wildcards.items()]
    return [
        {
            "model": name,
            "provider": name.partition("/")[0],
            "endpoints": len(endpoints),
            "data_path": endpoints[0].data_path,
            "price": render_price(price),
        }
        for name, endpoints, price in (*named, *wild)
        if endpoints
    ]


def render_route(route: Route) -> Json:
    """A route in the keys of ``routing_preferences``."""
    efforts = dict(route.efforts)
    entry: dict[str, Json] = {
        "name": route.name,
        "description": route.description,
        "models": [_routed_model(model, efforts.get(model)) for model in route.models],
    }
    if route.examples:
        entry["examples"] = list(route.examples)
    if route.prefer is not Prefer.NONE:
        entry["selection_policy"] = {"prefer": route.prefer.value}
    if route.escalates:
        entry["escalate"] = True
    return entry


def _routed_model(model: ModelRef, effort: str | None) -> Json:
    return str(model) if effort is None else {"model": str(model), "effort": str(effort)}


def render_price(price: CatalogPrice | None) -> Json:
    """US dollars per million tokens; None if unknown."""
    if price is None:
        return None
    return {
        "input": price.input_usd,
        "output": price.output_usd,
        "cached_input": price.cached_input_usd,
    }


def render_health(health: Health, snapshot: Snapshot) -> Json:
    """Every endpoint, and what of it rests after failures, as this replica knows it."""
    rests: dict[str, list[Json]] = {}
    for report in health.rests():
        rests.setdefault(report.endpoint, []).append(
            {
                "model": report.model or None,
                "seconds": round(report.left_s, 1),
                "why": report.why,
            }
        )
    entries: dict[str, tuple[str, list[str]]] = {}
    table = snapshot.providers
    named = ((str(model), endpoints) for model, endpoints in table.of_models.items())
    wild = ((f"{prefix}/*", endpoints) for prefix, endpoints in table.of_wildcards.items())
    for name, endpoints in (*named, *wild):
        for endpoint in endpoints:
            entries.setdefault(endpoint.fingerprint, (endpoint.slug, []))[1].append(name)
    return [
        {
            "provider": slug,
            "models": models,
            "rests": rests.get(fingerprint, []),
        }
        for fingerprint, (slug, models) in entries.items()
    ]


def render_comparison(rows: Sequence[Json], *, is_complete: bool, took_s: float) -> Json:
    """What an edit changes: the decisions, and how many each route had and would have."""
    decided = [row for row in rows if row["after"] is not None]
    routes: dict[str, dict[str, int]] = {}
    for row in decided:
        for side in ("before", "after"):
            name = row[side]["route"] or ""
            routes.setdefault(name, {"before": 0, "after": 0})[side] += 1
    return {
        "rows": list(rows),
        "decided": len(decided),
        "changed": sum(row["changed"] for row in decided),
        "routes": [{"route": name or None, **counts} for name, counts in routes.items()],
        "is_complete": is_complete,
        "took_ms": _ms(took_s),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)
