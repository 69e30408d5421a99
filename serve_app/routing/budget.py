"""Whether a session may change its model: what the change costs against what staying has cost.

A provider reads what it has cached at a fraction of the price. A session that changes its model
leaves that cache behind, and the new model reads everything anew. A change that costs is allowed
while all such costs together stay within a share of what the session would have paid for reading
its cache had it never changed. Source: Plano, ``routing_budget``.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from serve_app.domain import MAX_VISITS, Binding, ModelRef, Spend, Visit
from serve_app.ports import ModelPrice

WARM_S: Final = 300.0
"""Providers keep a cache for so long after its last use."""

_MILLION: Final = 1_000_000
_MAX_PERCENT: Final = 100.0


class SwitchReason(StrEnum):
    """Why a change was allowed or not; the words are Plano's."""

    SAME_ANCHOR = "same_anchor"
    """There is no change."""
    FREE = "free"
    """It costs nothing, or nothing is cached that could be lost."""
    WITHIN_CAP = "within_cap"
    OVER_CAP = "over_cap"
    """The one reason for which the session stays on its model."""
    NO_PRICING = "no_pricing"
    """One of the two models has no price, so there is nothing to go by."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What changes may cost."""

    max_switch_spend_pct: float
    """0..100, of what the session would have paid without any change."""
    replenish_on_rebind: bool = True
    """A session whose cache is gone starts from zero."""
    cache_read_discount: float = 0.1
    """What cached input costs, as a share of other input, where a price list does not say."""


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of the model that a session is on, of the other, and of its first one."""

    anchor: ModelPrice | None
    candidate: ModelPrice | None
    default: ModelPrice | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a session is to change to, and when."""

    candidate: ModelRef
    context_tokens: int
    """Of the request, as we count them; what the provider counted goes first."""
    now: float
    """Seconds since the epoch."""
    prefix_hash: str | None = None
    """Stands for the request's system prompt and tools."""


@dataclass(frozen=True, slots=True)
class SwitchDecision:
    """Whether the candidate answers, and the session's books after that."""

    allowed: bool
    """False: the session stays on its model."""
    reason: SwitchReason
    cost_usd: float | None
    """Of the change, negative where it saves money; None where there are no prices."""
    default_model: str
    """The model that the session would have stayed on."""
    spend: Spend


def decide_switch(
    binding: Binding | None, proposal: Proposal, prices: Prices, budget: Budget
) -> SwitchDecision:
    """Whether a session changes to the candidate, and what its binding's books then say.

    Without a warm cache there is nothing to lose: the candidate answers, and the books start anew.
    """
    if binding is None or not is_warm(binding, now=proposal.now, prefix_hash=proposal.prefix_hash):
        return _rebound(binding, proposal, budget)
    tokens = binding.cached_tokens if binding.cached_tokens > 0 else proposal.context_tokens
    warm = _warm_tokens(binding.spend, proposal, tokens)
    cost = _cost(prices, tokens, warm, budget.cache_read_discount)
    spend = replace(
        binding.spend,
        baseline_usd=binding.spend.baseline_usd
        + _read(prices.default, tokens, budget.cache_read_discount),
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
    """True while a provider can still have cached what the session is about.

    A prompt that begins otherwise than the last one finds no cache, however recent it is; an
    unknown beginning is taken for the same.
    """
    return now - binding.last_used <= WARM_S and not _drifted(binding, prefix_hash)


def read_percent(header: str) -> float | None:
    """The number in ``x-plano-max-switch-spend-pct``; None unless it is one from 0 to 100."""
    if "_" in header or not header.isascii():  # which Python's own numbers may hold
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
    """What the candidate's reading of the context costs more than the anchor's of its cache.

    ``warm`` tokens of it the candidate still has from its own last turn.
    """
    if prices.anchor is None or prices.candidate is None:
        return None
    fresh = (tokens - warm) * prices.candidate.input_usd
    cached = warm * _cached_usd(prices.candidate, discount)
    return (fresh + cached - tokens * _cached_usd(prices.anchor, discount)) / _MILLION


def _read(rates: ModelPrice | None, tokens: int, discount: float) -> float:
    """What reading a cached context costs; nothing where there is no price."""
    return 0.0 if rates is None else tokens * _cached_usd(rates, discount) / _MILLION


def _cached_usd(rates: ModelPrice, discount: float) -> float:
    usd = rates.cached_input_usd
    return rates.input_usd * discount if usd is None else usd


def _warm_tokens(spend: Spend, proposal: Proposal, tokens: int) -> int:
    """How much of the context the candidate still has cached from an earlier turn."""
    for visit in spend.history:
        if visit.model == str(proposal.candidate):
            warm = 0.0 <= proposal.now - visit.last_used <= WARM_S
            return min(visit.cached_tokens, tokens) if warm else 0
    return 0


def _rebound(binding: Binding | None, proposal: Proposal, budget: Budget) -> SwitchDecision:
    """The candidate, because there is no cache that it could lose."""
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
    """The books with this turn's visit as the newest; those longest ago go first."""
    tokens = proposal.context_tokens
    if tokens <= 0 and binding is not None:
        tokens = binding.cached_tokens
    others = [visit for visit in spend.history if visit.model != str(model)]
    others.sort(key=lambda visit: visit.last_used)
    newest = Visit(str(model), proposal.now, tokens)
    return replace(spend, history=(*others[1 - MAX_VISITS :], newest))
