"""Warnings about budgets that don't hold as an operator may expect."""

from collections.abc import Iterator
from typing import Final

from serve_app.config.schema.access import ClientKey, Team
from serve_app.config.schema.gateway import GatewayConfig
from serve_app.domain import ModelRef
from serve_app.providers.prices import price_table
from serve_app.routing.policy import Policy

_MOST_NAMES: Final = 5


def spending_warnings(
    config: GatewayConfig, policy: Policy, baseline: ModelRef | None = None
) -> Iterator[str]:
    """What a configuration's budgets and savings lack; one line each."""
    keyed: list[ClientKey | Team] = [*config.keyed_clients, *config.teams.values()]
    has_budget = any(one.budget is not None for one in keyed)
    if not has_budget and baseline is None:
        return
    prices = price_table(config)
    if baseline is not None and prices.price(baseline) is None:
        yield (
            f"savings.baseline: the price of {str(baseline)!r} is unknown, so nothing is compared; "
            "set it under prices"
        )
    if not has_budget:
        return
    if config.counts_in == "memory":
        yield (
            "budgets are counted in memory and begin again when the gateway restarts; set "
            "limit_storage.type: redis with a url"
        )
    unpriced = [name for name, model in policy.models.items() if prices.price(model) is None]
    if unpriced:
        names = ", ".join(unpriced[:_MOST_NAMES])
        more = f" and {len(unpriced) - _MOST_NAMES} more" if len(unpriced) > _MOST_NAMES else ""
        yield (
            f"client keys with a budget can't use {names}{more}, because the price is unknown; set "
            "it under prices"
        )
