"""Whether a bound session may move to the model that its last turn is about."""

from dataclasses import dataclass
from typing import Final

from serve_app.affinity.identify import prefix_hash
from serve_app.affinity.sessions import BudgetState, SessionState
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.dialects.json_edits import Document
from serve_app.dialects.openai_chat import conversation
from serve_app.domain import ModelRef
from serve_app.ports import PriceTable
from serve_app.routing.budget import (
    Budget,
    Prices,
    Proposal,
    SwitchDecision,
    decide_switch,
    read_percent,
)

_BYTES_OF_A_TOKEN: Final = 4


def budget_of(config: GatewayConfig, header: str | None) -> Budget | None:
    """The budget in force: that of the configuration, with the request's share in place of its own.

    A header that can't be read is ignored; one that can makes a budget where there is none.
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


def stays(config: GatewayConfig, document: Document, budget: Budget | None) -> bool:
    """True for a turn at which a bound session is not decided anew.

    That is every turn, unless there is a budget or the user's own turns are routed; and then
    those in an open tool loop, whose results only the model that asked for them can read.
    """
    messages = document.get("messages")
    on_user_only = config.routing.route_on_user_only
    if budget is None and not on_user_only:
        return True
    if conversation.holds_tool_loop(messages):
        return True
    return on_user_only and not conversation.is_user_turn(messages)


@dataclass(frozen=True, slots=True)
class Switch:
    """A session's change to another model, as judged."""

    decision: SwitchDecision
    books: BudgetState


def judge(
    document: Document,
    place: SessionState,
    candidate: ModelRef,
    budget: Budget,
    prices: PriceTable,
    now: float,
) -> Switch:
    """Whether the session may change to ``candidate``, and its books after this turn.

    The context is counted as a quarter of the body's characters: no tokenizer is asked. ``now`` is in
    seconds since the epoch.
    """
    tokens = len(document.text) // _BYTES_OF_A_TOKEN
    tools = ",".join(conversation.tool_names(document.get("tools")))
    prefix = prefix_hash(
        place.session.tenant, conversation.system_texts(document.get("messages")), tools
    )
    found = place.found if place.live else None
    anchor = candidate if found is None else found.model
    first = anchor if found is None or not found.default_model else _parsed(found.default_model)
    decision = decide_switch(
        found,
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
