"""Bindings in the JSON format of Plano, so that both can share one store.

Source: katanemo/plano, crates/brightstaff, session_cache: SessionBinding and RouteVisit. Plano
parses strictly, and drops the whole binding if a value has another type: counts and times are
integers of at least 0, ``prefix_hash`` is an integer of 64 bits, ``default_model`` is never null.
"""

import json
import math
import re

from serve_app.domain import MAX_VISITS, Binding, Json, ModelRef, Spend, Visit

_MAX_COUNT, _MAX_SWITCHES = 2**64 - 1, 2**32 - 1
_HASH = re.compile(r"[0-9a-f]{16}", re.ASCII)


def write_binding(binding: Binding) -> bytes:
    """The JSON value of a binding, with all keys.

    A ``prefix_hash`` that is not 16 lower-case hexadecimal digits is dropped.
    """
    spend = binding.spend
    value = {
        "anchor_model": str(binding.model),
        "default_model": binding.default_model or "",
        "requested_model": binding.lane,
        "route_name": binding.route,
        "prefix_hash": _number_of(binding.prefix_hash),
        "last_used": _count(binding.last_used),
        "cached_tokens": _count(binding.cached_tokens),
        "baseline_usd": _dollars(spend.baseline_usd),
        "switch_spend_usd": _dollars(spend.switch_spend_usd),
        "switches": min(_count(spend.switches), _MAX_SWITCHES),
        "history": [
            {
                "model": visit.model,
                "last_used": _count(visit.last_used),
                "cached_tokens": _count(visit.cached_tokens),
            }
            for visit in spend.history[-MAX_VISITS:]
        ],
        "session_cost_usd": _dollars(spend.session_cost_usd),
    }
    # A client may send an unpaired surrogate, which no other JSON parser accepts.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def read_binding(value: bytes) -> Binding | None:
    """The binding in a value. Returns None if it has no valid model."""
    try:
        fields = json.loads(value.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    try:
        model = ModelRef.parse(_text(fields.get("anchor_model")))
    except ValueError:
        return None
    route = _text(fields.get("route_name"))
    return Binding(
        model=model,
        # Others write to this store, too, and the name may be sent in a header.
        route=route if route and route.isprintable() else None,
        lane=_text(fields.get("requested_model")),
        last_used=float(_count(fields.get("last_used"))),
        default_model=_text(fields.get("default_model")) or None,
        prefix_hash=_digits_of(fields.get("prefix_hash")),
        cached_tokens=_count(fields.get("cached_tokens")),
        spend=Spend(
            baseline_usd=_dollars(fields.get("baseline_usd")),
            switch_spend_usd=_dollars(fields.get("switch_spend_usd")),
            session_cost_usd=_dollars(fields.get("session_cost_usd")),
            switches=_count(fields.get("switches")),
            history=_history(fields.get("history")),
        ),
    )


def _history(value: Json) -> tuple[Visit, ...]:
    visits = [
        Visit(
            _text(item["model"]),
            float(_count(item.get("last_used"))),
            _count(item.get("cached_tokens")),
        )
        for item in (value if isinstance(value, list) else ())
        if isinstance(item, dict) and _text(item.get("model"))
    ]
    # Plano updates entries in place, so they are not ordered.
    visits.sort(key=lambda visit: visit.last_used)
    return tuple(visits[-MAX_VISITS:])


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Json) -> int:
    if not _is_number(value) or not 0 <= value <= _MAX_COUNT:  # NaN is in no range
        return 0
    return min(int(value), _MAX_COUNT)


def _dollars(value: Json) -> float:
    if not _is_number(value):
        return 0.0
    try:
        dollars = float(value)
    except OverflowError:  # an integer of more than 308 digits
        return 0.0
    return dollars if math.isfinite(dollars) else 0.0


def _number_of(prefix_hash: str | None) -> int | None:
    if prefix_hash is None or not _HASH.fullmatch(prefix_hash):
        return None
    return int(prefix_hash, 16)


def _digits_of(value: Json) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
        return None
    return f"{value:016x}"
