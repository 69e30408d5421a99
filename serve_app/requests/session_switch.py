"""Whether a bound session may change to the model that its last turn matches."""

from dataclasses import dataclass
from typing import Final

from serve_app.affinity.identify import prefix_hash
from serve_app.affinity.sessions import BudgetState, SessionState
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import Binding, Conversation, ModelRef
from serve_app.ports import PriceTable
from serve_app.routing.budget import (
    Budget,
    Prices,
    Proposal,
    SwitchDecision,
    decide_switch,
    read_percent,
)

_CHARACTERS_PER_TOKEN: Final = 4


def budget_of(config: GatewayConfig, header: str | None) -> Budget | None:
    """The budget of a request: the configuration's, with the share that the header names.

    A header makes a budget where the configuration has none; an unreadable one is ignored.
    """
    section = config.routing.routing_budget
    share = None if header is None else read_percent(header)
    if section is None:
        return None if share is None else Budget(share)
    return Budget(
        section.max_switch_spend_pct if share is None else share,
        section.replenish_on_rebind,
        section.cache_read_discount,
    )


def stays(
    config: GatewayConfig, conversation: Conversation, bound: Binding, budget: Budget | None
) -> bool:
    """True for a turn that does not move a bound session.

    That is every turn, unless the binding is provisional, there is a budget or the user's own
    turns are routed; and then each turn in an open tool loop, or with state of its provider,
    because only the model that made the calls can read on.
    """
    on_user_only = config.routing.route_on_user_only
    if budget is None and not on_user_only and not bound.is_provisional:
        return True
    if conversation.has_open_tool_loop or conversation.has_provider_state:
        return True
    return on_user_only and not conversation.user_spoke_last


@dataclass(frozen=True, slots=True)
class Switch:
    """A session's change to another model, as judged."""

    decision: SwitchDecision
    budget: BudgetState


def judge_switch(
    conversation: Conversation,
    state: SessionState,
    candidate: ModelRef,
    budget: Budget,
    prices: PriceTable,
    now: float,
) -> Switch:
    """Whether the session may change to ``candidate``, and its budget after this turn.

    The context's tokens are estimated as a quarter of the body's characters, because there is no
    tokenizer here. ``now``: seconds since the epoch.
    """
    tokens = conversation.characters // _CHARACTERS_PER_TOKEN
    tools = ",".join(conversation.tool_names)
    prefix = prefix_hash(state.session.tenant, conversation.system_text, tools)
    bound = state.found if state.live else None
    anchor = candidate if bound is None else bound.model
    first = anchor if bound is None or not bound.default_model else _parsed(bound.default_model)
    decision = decide_switch(
        bound,
        Proposal(candidate, tokens, now, prefix),
        Prices(
            anchor=prices.price(anchor, tokens),
            candidate=prices.price(candidate, tokens),
            default=None if first is None else prices.price(first, tokens),
        ),
        budget,
    )
    return Switch(decision, BudgetState(decision.default_model, prefix, decision.spend))


def _parsed(name: str) -> ModelRef | None:
    try:
        return ModelRef.parse(name)
    except ValueError:
        return None
