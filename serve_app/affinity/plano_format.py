"""A binding as the JSON value that Plano keeps of a session, so that both can share one store.

Source: katanemo/plano, crates/brightstaff, session_cache: SessionBinding and RouteVisit. Plano
reads strictly, and a value of another type loses it the whole binding: counts and times are whole
and not negative, ``prefix_hash`` is a number of 64 bits, ``default_model`` is never null.
"""

import json
import math
import re

from serve_app.domain import MAX_VISITS, Binding, Json, ModelRef, Spend, Visit

_MAX_COUNT, _MAX_SWITCHES = 2**64 - 1, 2**32 - 1
_HASH = re.compile(r"[0-9a-f]{16}", re.ASCII)


def write_binding(binding: Binding) -> bytes:
    """The value with all its keys.

    A ``prefix_hash`` is kept when it is 64 bits as 16 lower-case hexadecimal digits, else dropped.
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
    # A client may send half a surrogate pair, which no other JSON parser would read.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def read_binding(value: bytes) -> Binding | None:
    """The binding that a value holds; None when it names no model that a session could be on."""
    try:
        found = json.loads(value.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    try:
        model = ModelRef.parse(_text(found.get("anchor_model")))
    except ValueError:
        return None
    route = _text(found.get("route_name"))
    return Binding(
        model=model,
        # It may end in a header of an answer, and others write to this store, too.
        route=route if route and route.isprintable() else None,
        lane=_text(found.get("requested_model")),
        last_used=float(_count(found.get("last_used"))),
        default_model=_text(found.get("default_model")) or None,
        prefix_hash=_digits_of(found.get("prefix_hash")),
        cached_tokens=_count(found.get("cached_tokens")),
        spend=Spend(
            baseline_usd=_dollars(found.get("baseline_usd")),
            switch_spend_usd=_dollars(found.get("switch_spend_usd")),
            session_cost_usd=_dollars(found.get("session_cost_usd")),
            switches=_count(found.get("switches")),
            history=_history(found.get("history")),
        ),
    )


def _history(found: Json) -> tuple[Visit, ...]:
    visits = [
        Visit(
            _text(item["model"]),
            float(_count(item.get("last_used"))),
            _count(item.get("cached_tokens")),
        )
        for item in (found if isinstance(found, list) else ())
        if isinstance(item, dict) and _text(item.get("model"))
    ]
    # Plano updates its entries in place, so theirs are in no order.
    visits.sort(key=lambda visit: visit.last_used)
    return tuple(visits[-MAX_VISITS:])


def _text(found: Json) -> str:
    return found if isinstance(found, str) else ""


def _is_number(found: Json) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _count(found: Json) -> int:
    if not _is_number(found) or not 0 <= found <= _MAX_COUNT:  # NaN is in no range
        return 0
    return min(int(found), _MAX_COUNT)


def _dollars(found: Json) -> float:
    if not _is_number(found):
        return 0.0
    try:
        dollars = float(found)
    except OverflowError:  # a whole number of more than 308 digits
        return 0.0
    return dollars if math.isfinite(dollars) else 0.0


def _number_of(prefix_hash: str | None) -> int | None:
    if prefix_hash is None or not _HASH.fullmatch(prefix_hash):
        return None
    return int(prefix_hash, 16)


def _digits_of(found: Json) -> str | None:
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= _MAX_COUNT:
        return None
    return f"{found:016x}"
