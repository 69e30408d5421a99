"""Whether a session may change its model."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import MAX_VISITS, Binding, ModelRef, Spend, Visit
from serve_app.providers.prices import CatalogPrice
from serve_app.routing.budget import (
    WARM_S,
    Budget,
    Prices,
    Proposal,
    SwitchDecision,
    SwitchReason,
    decide_switch,
    is_warm,
    read_percent,
)

NOW = 1_800_000_000.0
ANCHOR, OTHER = ModelRef("anthropic", "expensive"), ModelRef("openai", "pricey")
EXPENSIVE, PRICEY, CHEAP = (
    CatalogPrice(3.0, 15.0, 0.3),
    CatalogPrice(5.0, 15.0, 0.5),
    CatalogPrice(0.1, 0.4, 0.01),
)
PAID = Prices(EXPENSIVE, PRICEY, EXPENSIVE)
QUARTER = Budget(25.0)
TOKENS = 100_000
SAME, FREE, WITHIN, OVER, UNPRICED = SwitchReason


def bound(spend: Spend | None = None, *, idle_s: float = 30.0) -> Binding:
    return Binding(
        ANCHOR,
        last_used=NOW - idle_s,
        default_model=str(ANCHOR),
        prefix_hash="1",
        cached_tokens=TOKENS,
        spend=spend or Spend(),
    )


def to(candidate: ModelRef, tokens: int = 0, prefix_hash: str | None = "1") -> Proposal:
    return Proposal(candidate, tokens, NOW, prefix_hash)


def used(model: ModelRef, ago_s: float, tokens: int) -> Visit:
    return Visit(str(model), NOW - ago_s, tokens)


@pytest.mark.parametrize(
    ("candidate", "prices", "before", "reason", "cost", "after"),
    [
        (OTHER, PAID, Spend(2.0), WITHIN, 0.47, Spend(2.03, 0.47, 0, 1)),
        (OTHER, PAID, Spend(1.0), OVER, 0.47, Spend(1.03)),
        (OTHER, PAID, Spend(9.0, 1.8, 0, 3), OVER, 0.47, Spend(9.03, 1.8, 0, 3)),
        (OTHER, PAID, Spend(9.0, 1.7, 5.5, 3), WITHIN, 0.47, Spend(9.03, 2.17, 5.5, 4)),
        (OTHER, Prices(EXPENSIVE, CHEAP, EXPENSIVE), Spend(1.0, 0.1), FREE, -0.02, Spend(1.03, 0.1, 0, 1)),
        (OTHER, Prices(None, PRICEY, EXPENSIVE), Spend(1.0, 0.1), UNPRICED, None, Spend(1.03, 0.1, 0, 1)),
        (OTHER, Prices(EXPENSIVE, None, None), Spend(1.0, 0.1), UNPRICED, None, Spend(1.0, 0.1, 0, 1)),
        (OTHER, Prices(EXPENSIVE, PRICEY, None), Spend(1.0), OVER, 0.47, Spend(1.0)),
        (OTHER, Prices(CatalogPrice(3.0, 1.0), PRICEY, CatalogPrice(3.0, 1.0)), Spend(2.0), WITHIN, 0.47, Spend(2.03, 0.47, 0, 1)),
        (ANCHOR, Prices(EXPENSIVE, EXPENSIVE, EXPENSIVE), Spend(1.0, 0.1, 2.0, 4), SAME, 0.0, Spend(1.03, 0.1, 2.0, 4)),
        (ANCHOR, Prices(None, None, None), Spend(1.0, 0.1, 2.0, 4), SAME, 0.0, Spend(1.0, 0.1, 2.0, 4)),
        (ANCHOR, Prices(CHEAP, CHEAP, EXPENSIVE), Spend(switches=1), SAME, 0.0, Spend(0.03, switches=1)),
    ],
)  # fmt: skip
def test_switch_of_warm_session_depends_on_cost(
    candidate: ModelRef,
    prices: Prices,
    before: Spend,
    reason: SwitchReason,
    cost: float | None,
    after: Spend,
) -> None:
    """In Plano's examples, a quarter of the baseline may be spent, and 100 000 tokens are cached."""
    found = decide_switch(bound(before), to(candidate), prices, QUARTER)
    assert (found.allowed, found.reason) == (reason is not OVER, reason)
    assert found.cost_usd == pytest.approx(cost)
    assert found.default_model == str(ANCHOR)
    spend = found.spend
    assert (spend.baseline_usd, spend.switch_spend_usd, spend.session_cost_usd) == pytest.approx(
        (after.baseline_usd, after.switch_spend_usd, after.session_cost_usd)
    )
    assert spend.switches == after.switches
    assert spend.history == (used(candidate if found.allowed else ANCHOR, 0, TOKENS),)


@pytest.mark.parametrize(("percent", "turn"), [(25.0, 63), (100.0, 16), (50.0, 32)])
def test_baseline_grows_until_a_switch_is_affordable(percent: float, turn: int) -> None:
    """At 0.03 USD per turn, a switch of 0.47 USD is affordable from this warm turn on."""
    binding, turns = bound(), 1
    while not (found := decide_switch(binding, to(OTHER), PAID, Budget(percent))).allowed:
        binding, turns = replace(binding, spend=found.spend), turns + 1
    assert turns == turn


def test_zero_percent_allows_only_saving_switches() -> None:
    """Switches that cost something are refused."""
    binding = bound(Spend(1000.0))
    assert decide_switch(binding, to(OTHER), PAID, Budget(0.0)).reason is OVER
    cheaper = Prices(EXPENSIVE, CHEAP, EXPENSIVE)
    assert decide_switch(binding, to(OTHER), cheaper, Budget(0.0)).reason is FREE


@pytest.mark.parametrize(
    ("visit", "cost", "reason"),
    [
        (used(OTHER, 30, TOKENS), 0.02, WITHIN),
        (used(OTHER, 30, 3 * TOKENS), 0.02, WITHIN),
        (used(OTHER, WARM_S, TOKENS), 0.02, WITHIN),
        (used(OTHER, 30, 99_000), 0.0245, WITHIN),
        (used(OTHER, 30, 50_000), 0.245, OVER),
        (used(OTHER, 30, 0), 0.47, OVER),
        (used(OTHER, WARM_S + 1, TOKENS), 0.47, OVER),
        (used(OTHER, -1, TOKENS), 0.47, OVER),
        (used(ANCHOR, 30, TOKENS), 0.47, OVER),
        (used(ModelRef("openai", "x"), 30, TOKENS), 0.47, OVER),
    ],
)  # fmt: skip
def test_return_costs_only_uncached_tokens(visit: Visit, cost: float, reason: SwitchReason) -> None:
    """A model that was used before reads only the newer turns while its cache is warm."""
    found = decide_switch(bound(Spend(0.4, history=(visit,))), to(OTHER), PAID, QUARTER)
    assert found.cost_usd == pytest.approx(cost)
    assert found.reason is reason


def test_unknown_cached_price_is_a_share_of_input_price() -> None:
    """It applies to all three models, with the configured share."""
    plain = Prices(CatalogPrice(3.0, 1.0), CatalogPrice(5.0, 1.0), CatalogPrice(2.0, 1.0))
    binding = bound(Spend(history=(used(OTHER, 9, TOKENS),)))
    found = decide_switch(binding, to(OTHER), plain, Budget(25.0, cache_read_discount=0.5))
    assert found.cost_usd == pytest.approx(0.25 - 0.15)
    assert found.spend.baseline_usd == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("cached", "counted", "cost", "visited"),
    [(TOKENS, 7, 0.47, 7), (TOKENS, 0, 0.47, TOKENS), (0, TOKENS, 0.47, TOKENS), (0, 0, 0.0, 0)],
)
def test_providers_token_count_has_precedence(
    cached: int, counted: int, cost: float, visited: int
) -> None:
    """Otherwise the estimate is used; a visit stores that of this request, else the last one."""
    binding = replace(bound(), cached_tokens=cached)
    found = decide_switch(binding, to(OTHER, counted), PAID, QUARTER)
    assert found.cost_usd == pytest.approx(cost)
    assert found.spend.history[-1].cached_tokens == visited


FULL = Spend(5.0, 3.0, 7.0, 4, (used(OTHER, 9, 10),))
VISITS = (used(OTHER, 9, 10), used(ANCHOR, 0, TOKENS))


@pytest.mark.parametrize(
    ("idle_s", "prefix_hash", "warm"),
    [
        (0, "1", True),
        (WARM_S, "1", True),
        (WARM_S + 0.5, "1", False),
        (-60, "1", True),
        (30, "2", False),
        (30, None, True),
        (600, None, False),
    ],
)
def test_cache_is_warm_for_five_minutes(idle_s: float, prefix_hash: str | None, warm: bool) -> None:
    """It serves prompts with the same beginning; a clock that went back does not matter."""
    binding = bound(idle_s=idle_s)
    assert is_warm(binding, now=NOW, prefix_hash=prefix_hash) is warm
    assert is_warm(replace(binding, prefix_hash=None), now=NOW, prefix_hash="2") is (
        idle_s <= WARM_S
    )
    allowed = decide_switch(binding, to(OTHER, 0, prefix_hash), PAID, QUARTER).allowed
    assert allowed is not warm


@pytest.mark.parametrize(
    ("idle_s", "prefix_hash", "replenish", "after"),
    [
        (600, "1", True, Spend(0, 0, 7.0, 0, VISITS)),
        (600, "1", False, Spend(5.0, 3.0, 7.0, 0, VISITS)),
        (30, "2", True, Spend(0, 0, 7.0, 0, VISITS[1:])),
        (30, "2", False, Spend(5.0, 3.0, 7.0, 0, VISITS[1:])),
    ],
)
def test_cold_session_starts_anew(
    idle_s: float, prefix_hash: str, replenish: bool, after: Spend
) -> None:
    """Visits are dropped if the prompt has another beginning; the cost of the session stays."""
    budget = Budget(25.0, replenish_on_rebind=replenish)
    binding = replace(bound(FULL, idle_s=idle_s), default_model="x/first")
    for candidate, reason in ((ANCHOR, SAME), (ModelRef("a", "b"), FREE)):
        found = decide_switch(binding, to(candidate, 0, prefix_hash), PAID, budget)
        visits = (*after.history[:-1], used(candidate, 0, TOKENS))
        assert found == SwitchDecision(
            allowed=True,
            reason=reason,
            cost_usd=0.0,
            default_model=str(candidate) if replenish else "x/first",
            spend=replace(after, history=visits),
        )


def test_new_session_uses_the_candidate() -> None:
    """It becomes the default model of the session."""
    assert decide_switch(None, to(OTHER, 12), PAID, QUARTER) == SwitchDecision(
        allowed=True,
        reason=FREE,
        cost_usd=0.0,
        default_model=str(OTHER),
        spend=Spend(history=(used(OTHER, 0, 12),)),
    )


def test_binding_without_default_uses_its_model() -> None:
    """An older version writes such bindings."""
    binding = replace(bound(), default_model=None)
    assert decide_switch(binding, to(OTHER), PAID, QUARTER).default_model == str(ANCHOR)


def test_history_is_bounded() -> None:
    """Each model is in it once; the one used longest ago is dropped."""
    visits = [used(ModelRef("m", str(ago)), ago, 1) for ago in range(1, MAX_VISITS + 1)]
    binding = bound(Spend(history=tuple(visits)))
    history = decide_switch(binding, to(ANCHOR), PAID, QUARTER).spend.history
    assert [visit.model for visit in history] == [
        *(f"m/{ago}" for ago in range(7, 0, -1)),
        str(ANCHOR),
    ]
    again = decide_switch(replace(binding, spend=Spend(history=history)), to(ANCHOR), PAID, QUARTER)
    assert again.spend.history == history


@pytest.mark.parametrize(
    ("header", "percent"),
    [
        ("0", 0.0),
        ("20", 20.0),
        ("12.5", 12.5),
        ("100", 100.0),
        (" 5 ", 5.0),
        ("1e1", 10.0),
        (".5", 0.5),
        ("100.01", None),
        ("-1", None),
        ("", None),
        (" ", None),
        ("20%", None),
        ("2,5", None),
        ("1_0", None),
        ("٣", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("0x10", None),
        ("9" * 60_000, None),
    ],
    ids=lambda value: str(value)[:8],
)
def test_percentage_is_from_0_to_100(header: str, percent: float | None) -> None:
    """Other values count as missing."""
    assert read_percent(header) == percent


@given(st.text(max_size=12))
def test_any_header_is_a_percentage_or_missing(header: str) -> None:
    """No value raises."""
    percent = read_percent(header)
    assert percent is None or 0 <= percent <= 100


MODELS = st.sampled_from([ModelRef("m", name) for name in "abcdefghijk"])
USD = st.floats(0, 100)
PRICE = st.none() | st.builds(CatalogPrice, USD, USD, st.none() | USD)
COUNT = st.integers(0, 10**7)
TIME = st.floats(NOW - 2 * WARM_S, NOW + 10)
BUDGET = st.builds(Budget, st.floats(0, 100), st.booleans(), st.floats(0, 1))
SPEND = st.builds(
    Spend,
    USD,
    USD,
    USD,
    st.integers(0, 99),
    st.lists(st.builds(Visit, MODELS.map(str), TIME, COUNT), max_size=MAX_VISITS).map(tuple),
)
HASH = st.none() | st.sampled_from(["1", "2"])
BINDING = st.builds(
    Binding,
    MODELS,
    last_used=TIME,
    default_model=st.none() | MODELS.map(str),
    prefix_hash=HASH,
    cached_tokens=COUNT,
    spend=SPEND,
)
PROPOSAL = st.builds(Proposal, MODELS, COUNT, st.just(NOW), HASH)
PRICES = st.builds(Prices, PRICE, PRICE, PRICE)


@given(BINDING, PROPOSAL, PRICES, BUDGET)
def test_spend_stays_consistent(
    binding: Binding, proposal: Proposal, prices: Prices, budget: Budget
) -> None:
    """No amount becomes negative, saving switches are allowed, and refused ones are not paid."""
    found = decide_switch(binding, proposal, prices, budget)
    before, after = binding.spend, found.spend
    assert min(after.baseline_usd, after.switch_spend_usd, after.switches) >= 0
    assert after.session_cost_usd == before.session_cost_usd
    assert len(after.history) <= MAX_VISITS
    model = proposal.candidate if found.allowed else binding.model
    assert after.history[-1].model == str(model)
    assert [visit.model for visit in after.history].count(str(model)) == 1
    assert found.allowed is (found.reason is not OVER)
    assert (found.reason is SAME) == (proposal.candidate == binding.model)
    assert (found.cost_usd is None) == (found.reason is UNPRICED)
    if found.cost_usd is not None and found.cost_usd <= 0:
        assert found.allowed
    if is_warm(binding, now=NOW, prefix_hash=proposal.prefix_hash):
        assert after.baseline_usd >= before.baseline_usd
        changed = found.allowed and found.reason is not SAME
        assert after.switches == before.switches + changed
        paid = found.cost_usd if found.reason is WITHIN else 0.0
        assert after.switch_spend_usd == before.switch_spend_usd + (paid or 0.0)
    else:
        assert found.allowed


@given(BINDING, PROPOSAL, PRICES, BUDGET, st.floats(0, 100))
def test_higher_cap_allows_at_least_as_much(
    binding: Binding, proposal: Proposal, prices: Prices, budget: Budget, percent: float
) -> None:
    """A switch that a smaller share allows, a larger one allows too."""
    low, high = sorted([budget.max_switch_spend_pct, percent])
    lower, higher = (
        decide_switch(binding, proposal, prices, replace(budget, max_switch_spend_pct=cap))
        for cap in (low, high)
    )
    assert higher.allowed >= lower.allowed
    assert higher.cost_usd == lower.cost_usd


@given(st.lists(st.tuples(MODELS, COUNT), max_size=30), PRICES, st.floats(0, 100))
def test_session_never_exceeds_its_share(
    turns: list[tuple[ModelRef, int]], prices: Prices, percent: float
) -> None:
    """It is true for any number of warm turns."""
    binding = Binding(ModelRef("m", "a"), last_used=NOW)
    for candidate, tokens in turns:
        proposal = Proposal(candidate, tokens, NOW)
        found = decide_switch(binding, proposal, prices, Budget(percent))
        model = candidate if found.allowed else binding.model
        binding = replace(binding, model=model, cached_tokens=tokens, spend=found.spend)
    ceiling = percent / 100 * binding.spend.baseline_usd
    assert binding.spend.switch_spend_usd <= ceiling
