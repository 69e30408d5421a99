"""Whether a session may switch its model: the cost of the switch against a budget.

A provider charges a fraction of the price for cached input. A session that switches its model
loses that cache, and the new model reads the whole context at full price. A switch that costs
something is allowed while all such costs together stay within a share of what the session would
have paid for reading its cache without switches. Source: Plano, ``routing_budget``.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from serve_app.domain import MAX_VISITS, Binding, ModelRef, Spend, Visit
from serve_app.ports import ModelPrice

WARM_S: Final = 300.0
"""Time for which providers keep a cache after its last use."""

_MILLION: Final = 1_000_000
_MAX_PERCENT: Final = 100.0


class SwitchReason(StrEnum):
    """Why a switch was allowed or not; the values are Plano's."""

    SAME_ANCHOR = "same_anchor"
    """The candidate is the model of the session."""
    FREE = "free"
    """The switch costs nothing, or there is no cache to lose."""
    WITHIN_CAP = "within_cap"
    OVER_CAP = "over_cap"
    """The only reason for refusing a switch."""
    NO_PRICING = "no_pricing"
    """One of the two models has no price, so the cost is unknown."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limit on the cost of switches."""

    max_switch_spend_pct: float
    """0..100, percent of the cost of the session without switches."""
    replenish_on_rebind: bool = True
    """True if the budget starts anew when the cache has expired."""
    cache_read_discount: float = 0.1
    """Price of cached input, as a share of the input price, if it is unknown."""


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a session's model, of the candidate, and of its first model."""

    anchor: ModelPrice | None
    candidate: ModelPrice | None
    default: ModelPrice | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A switch that a session could make."""

    candidate: ModelRef
    context_tokens: int
    """Tokens of the request, as estimated; the provider's count has precedence."""
    now: float
    """Seconds since the epoch."""
    prefix_hash: str | None = None
    """Hash of the request's system prompt and tools."""


@dataclass(frozen=True, slots=True)
class SwitchDecision:
    """Whether the candidate answers, and the spend of the session after that."""

    allowed: bool
    """False if the session stays on its model."""
    reason: SwitchReason
    cost_usd: float | None
    """Cost of the switch, negative if it saves money; None if there are no prices."""
    default_model: str
    """The model of the session without switches."""
    spend: Spend


def decide_switch(
    binding: Binding | None, proposal: Proposal, prices: Prices, budget: Budget
) -> SwitchDecision:
    """Decides whether a session switches to the candidate, and computes its spend after that.

    Without a warm cache there is nothing to lose: the candidate answers, and the spend starts anew.
    """
    if binding is None or not is_warm(binding, now=proposal.now, prefix_hash=proposal.prefix_hash):
        return _rebound(binding, proposal, budget)
    tokens = binding.cached_tokens if binding.cached_tokens > 0 else proposal.context_tokens
    warm = _warm_tokens(binding.spend, proposal, tokens)
    cost = _cost(prices, tokens, warm, budget.cache_read_discount)
    spend = replace(
        binding.spend,
        baseline_usd=binding.spend.baseline_usd
        + _read_cost(prices.default, tokens, budget.cache_read_discount),
    )
    reason = _reason(cost, spend, budget, same=binding.model == proposal.candidate)
    allowed = reason is not SwitchReason.OVER_CAP
    if reason is SwitchReason.SAME_ANCHOR:
        cost = 0.0
    elif allowed:
        paid = cost if cost is not None and reason is SwitchReason.WITHIN_CAP else 0.0
        spend = replace(
            spend,
            switch_spend_usd=spend.switch_spend_usd + paid,
            switches=spend.switches + 1,
        )
    return SwitchDecision(
        allowed=allowed,
        reason=reason,
        cost_usd=cost,
        default_model=binding.default_model or str(binding.model),
        spend=_visited(spend, proposal.candidate if allowed else binding.model, binding, proposal),
    )


def is_warm(binding: Binding, *, now: float, prefix_hash: str | None) -> bool:
    """True while a provider may still have the session's context cached.

    A prompt with another beginning than the last one misses the cache, however recent it is; an
    unknown beginning counts as the same.
    """
    return now - binding.last_used <= WARM_S and not _drifted(binding, prefix_hash)


def read_percent(header: str) -> float | None:
    """The value of ``x-plano-max-switch-spend-pct``. Returns None unless it is from 0 to 100."""
    if "_" in header or not header.isascii():  # which float() would accept
        return None
    try:
        percent = float(header)
    except ValueError:
        return None
    return percent if 0.0 <= percent <= _MAX_PERCENT else None


def _drifted(binding: Binding, prefix_hash: str | None) -> bool:
    if binding.prefix_hash is None or prefix_hash is None:
        return False
    return binding.prefix_hash != prefix_hash


def _reason(cost: float | None, spend: Spend, budget: Budget, *, same: bool) -> SwitchReason:
    if same:
        return SwitchReason.SAME_ANCHOR
    if cost is None:
        return SwitchReason.NO_PRICING
    if cost <= 0.0:
        return SwitchReason.FREE
    ceiling = budget.max_switch_spend_pct / _MAX_PERCENT * spend.baseline_usd
    if spend.switch_spend_usd + cost <= ceiling:
        return SwitchReason.WITHIN_CAP
    return SwitchReason.OVER_CAP


def _cost(prices: Prices, tokens: int, warm: int, discount: float) -> float | None:
    """The additional cost of the context for the candidate, compared with the anchor's cache.

    The candidate still has ``warm`` tokens of it cached from its own last turn.
    """
    if prices.anchor is None or prices.candidate is None:
        return None
    fresh = (tokens - warm) * prices.candidate.input_usd
    cached = warm * _cached_usd(prices.candidate, discount)
    return (fresh + cached - tokens * _cached_usd(prices.anchor, discount)) / _MILLION


def _read_cost(rates: ModelPrice | None, tokens: int, discount: float) -> float:
    """The cost of reading a cached context; 0 if there is no price."""
    return 0.0 if rates is None else tokens * _cached_usd(rates, discount) / _MILLION


def _cached_usd(rates: ModelPrice, discount: float) -> float:
    usd = rates.cached_input_usd
    return rates.input_usd * discount if usd is None else usd


def _warm_tokens(spend: Spend, proposal: Proposal, tokens: int) -> int:
    """The tokens of the context that the candidate still has cached from an earlier turn."""
    for visit in spend.history:
        if visit.model == str(proposal.candidate):
            warm = 0.0 <= proposal.now - visit.last_used <= WARM_S
            return min(visit.cached_tokens, tokens) if warm else 0
    return 0


def _rebound(binding: Binding | None, proposal: Proposal, budget: Budget) -> SwitchDecision:
    """The decision for the candidate, because there is no cache to lose."""
    spend, default = Spend(), None
    if binding is not None:
        kept = () if _drifted(binding, proposal.prefix_hash) else binding.spend.history
        spend = Spend(session_cost_usd=binding.spend.session_cost_usd, history=kept)
        if not budget.replenish_on_rebind:
            default = binding.default_model
            spend = replace(binding.spend, switches=0, history=kept)
    same = binding is not None and binding.model == proposal.candidate
    return SwitchDecision(
        allowed=True,
        reason=SwitchReason.SAME_ANCHOR if same else SwitchReason.FREE,
        cost_usd=0.0,
        default_model=default or str(proposal.candidate),
        spend=_visited(spend, proposal.candidate, binding, proposal),
    )


def _visited(spend: Spend, model: ModelRef, binding: Binding | None, proposal: Proposal) -> Spend:
    """The spend with this turn's visit as the newest; the oldest visits are dropped first."""
    tokens = proposal.context_tokens
    if tokens <= 0 and binding is not None:
        tokens = binding.cached_tokens
    others = [visit for visit in spend.history if visit.model != str(model)]
    others.sort(key=lambda visit: visit.last_used)
    newest = Visit(str(model), proposal.now, tokens)
    return replace(spend, history=(*others[1 - MAX_VISITS :], newest))
