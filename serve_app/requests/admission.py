"""Whether a client may have the models that were decided on, and how much of its limits it takes.

What a request will take is estimated before it is made: its text at four bytes a token, and the
output that it allows, at most MAX_OUTPUT_TOKENS. What it took is settled at its end.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Final, TypeAlias

from serve_app.access.allowance import Allowance
from serve_app.access.limiter import Estimate, Hold, Limiter
from serve_app.access.terms import LimitRule
from serve_app.access_errors import LimitKind, LimitReached, ModelNotAllowed, ModelUnpriced
from serve_app.dialects import ir
from serve_app.dialects.fields import Intent
from serve_app.domain import HINT_HEADER, OWN_MODEL, ModelRef, RouteDecision
from serve_app.errors import UnknownModel
from serve_app.exchange import Operation
from serve_app.requests.call import ClientRequest
from serve_app.requests.decide import Decided
from serve_app.requests.progress import CHARACTERS_PER_TOKEN, RequestProgress
from serve_app.telemetry.record import RequestRecord

DEFAULT_OUTPUT_TOKENS: Final = 1024
"""What a request is estimated to be answered with if it sets no limit."""

MAX_OUTPUT_TOKENS: Final = 4096
"""The most that is reserved for one answer: clients allow far more than models write."""

ATTACHMENT_TOKENS: Final = 1600
"""About what the images and files of a request take."""

_LARGE_BYTES: Final = 64 << 10
"""Requests above this are looked at for images, whose bytes are not text."""

_OK: Final = range(200, 300)
_NEAREST: Final = 3

Price: TypeAlias = Callable[[ModelRef, ir.Usage], float | None]


class Admission:
    """Admits requests by the allowance, the limits and the budgets of their clients."""

    def __init__(self, limiter: Limiter, price: Price | None = None) -> None:
        """``price`` returns US dollars; None if the prices of all models are unknown."""
        self.limiter = limiter
        self._price = price

    def check(self, request: ClientRequest, intent: Intent) -> None:
        """Refuses what needs no decision: names that the key may not use, a limit known as used up.

        Raises ModelNotAllowed, UnknownModel or LimitReached.
        """
        client = request.client
        if client.allowance is not None:
            _check_names(request, intent, client.allowance)
        if client.rules:
            self.limiter.refuse_known(client.rules)

    def check_own(self, request: ClientRequest) -> None:
        """Refuses the gateway's own orchestrator as a model. Raises ModelNotAllowed."""
        allowance = request.client.allowance
        if allowance is not None and not allowance.permits(OWN_MODEL):
            raise ModelNotAllowed(str(OWN_MODEL), allowance.names)

    def permitted(self, request: ClientRequest, decided: Decided) -> Decided:
        """The decision without the models that the client may not use. Raises ModelNotAllowed."""
        allowance = request.client.allowance
        if allowance is None:
            return decided
        candidates = decided.decision.candidates
        kept = tuple(filter(allowance.permits, candidates))
        if not kept:
            raise ModelNotAllowed(_asked(request), allowance.names)
        return decided if len(kept) == len(candidates) else _with(decided, kept)

    async def admit(
        self, request: ClientRequest, intent: Intent, decided: Decided
    ) -> tuple[Decided, Hold | None]:
        """The decision as the client may have it, and what is reserved; None without limits.

        Raises ModelNotAllowed, ModelUnpriced, LimitReached, SpendingCapReached or
        LimitsUnavailable.
        """
        client, terms = request.client, request.snapshot.model_terms
        decided = self.permitted(request, decided)
        if not client.rules and not terms:
            return decided, None
        usage = _estimate(request, intent) if _is_billed(request) else ir.Usage()
        costs: Mapping[ModelRef, float] = {}
        if client.has_budget and usage.all_input:
            decided, costs = self._priced(decided, usage)
        candidates = decided.decision.candidates
        last = len(candidates) - 1 if intent.falls_back else 0
        for index, candidate in enumerate(candidates):
            own = terms.of(candidate, request.deciding_headers) if terms else ()
            try:
                need = Estimate(usage.all_input + usage.output, costs.get(candidate, 0.0))
                hold = await self._reserve(request, (*client.rules, *own), need)
            except LimitReached as error:
                is_models = all(rule.whose != error.whose for rule in client.rules)
                if not is_models or index >= last:
                    raise
                continue
            return (decided if not index else _with(decided, candidates[index:])), hold
        raise AssertionError  # the last candidate returns or raises

    async def count(self, request: ClientRequest) -> None:
        """Counts a request for which no model is asked. Raises as ``admit``."""
        rules = tuple(rule for rule in request.client.rules if rule.kind is LimitKind.REQUESTS)
        if rules:
            is_open = request.snapshot.config.limit_storage.unavailable == "open"
            await self.limiter.reserve(rules, Estimate(), is_open=is_open)

    def settle(self, progress: RequestProgress, record: RequestRecord) -> None:
        """Settles a request that has been answered by what it took.

        Unknown tokens count as estimated; a refused request takes none.
        """
        hold = progress.hold
        if hold is None:
            return
        tokens: int | None = None
        usd = record.usd
        if record.usage is not None:
            tokens = record.usage.all_input + record.usage.output
        elif record.status not in _OK:
            tokens, usd = 0, 0.0
        self.limiter.settle(hold, tokens, usd, self._others(progress))

    def abandon(self, progress: RequestProgress) -> None:
        """Settles a request whose client has left before it was answered.

        What a provider was asked counts as read.
        """
        hold = progress.hold
        if hold is None:
            return
        tokens, usd = 0, 0.0
        if progress.attempts and _is_billed(progress.request):
            read = ir.Usage(uncached_input=_input_tokens(progress.request))
            tokens = read.uncached_input
            usd = (self._price(progress.candidate, read) if self._price else None) or 0.0
        self.limiter.settle(hold, tokens, usd)

    async def _reserve(
        self, request: ClientRequest, rules: tuple[LimitRule, ...], need: Estimate
    ) -> Hold | None:
        if not rules:
            return None
        is_open = request.snapshot.config.limit_storage.unavailable == "open"
        return await self.limiter.reserve(rules, need, is_open=is_open)

    def _priced(
        self, decided: Decided, usage: ir.Usage
    ) -> tuple[Decided, Mapping[ModelRef, float]]:
        """The decision without the models whose price is unknown, and the cost of each other one.

        Raises ModelUnpriced.
        """
        candidates, costs = decided.decision.candidates, dict[ModelRef, float]()
        price = self._price or _unknown_price
        for model in candidates:
            usd = price(model, usage)
            if usd is not None:
                costs[model] = usd
        if not costs:
            raise ModelUnpriced(str(candidates[0]))
        kept = tuple(costs)  # in the order of the candidates, each of which is there once
        return (decided if len(kept) == len(candidates) else _with(decided, kept)), costs

    def _others(self, progress: RequestProgress) -> tuple[LimitRule, ...]:
        """The limits of the model that has answered, if it is not the one that was reserved."""
        request, model = progress.request, progress.candidate
        terms = request.snapshot.model_terms
        if not terms or model == progress.decision.candidates[0] or progress.hold is None:
            return ()
        own = terms.of(model, request.deciding_headers)
        return tuple(rule for rule in own if rule not in progress.hold.rules)


def _unknown_price(model: ModelRef, usage: ir.Usage) -> None:
    """The price of every model where no prices are known."""
    del model, usage


def _with(decided: Decided, candidates: tuple[ModelRef, ...]) -> Decided:
    decision: RouteDecision = replace(decided.decision, candidates=candidates)
    return replace(decided, decision=decision)


def _asked(request: ClientRequest) -> str:
    """What the request names; empty where it leaves the model open."""
    name = request.hint or request.dialect.read_intent(request.document).model or ""
    return "" if request.snapshot.policy.leaves_open(name) else name


def _check_names(request: ClientRequest, intent: Intent, allowance: Allowance) -> None:
    policy = request.snapshot.policy
    name = request.hint or intent.model or ""
    if policy.always_route and not policy.leaves_open(name):
        named: tuple[str, ...] = intent.fallbacks
    else:
        named = (name, *intent.fallbacks)
    for one in named:
        if allowance.permits_name(policy, one):
            continue
        if policy.leaves_open(one):
            raise ModelNotAllowed("", allowance.names)
        if policy.resolve_hint(one) is None:  # its nearest names might be those of others
            near = get_close_matches(one, allowance.names, n=_NEAREST, cutoff=0.5)
            param = HINT_HEADER if one == request.hint else "model"
            raise UnknownModel(one, tuple(near), param)
        raise ModelNotAllowed(one, allowance.names)


def _is_billed(request: ClientRequest) -> bool:
    """False for requests that cost nothing, such as counts of tokens."""
    return request.dialect.name != Operation.COUNT_TOKENS.value


def _estimate(request: ClientRequest, intent: Intent) -> ir.Usage:
    """The tokens that a request will take."""
    output = 0
    if request.dialect.holds_conversations:
        limit = request.dialect.read_conversation(request.document).max_output_tokens
        output = min(limit or DEFAULT_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS) * max(1, intent.choices)
    return ir.Usage(uncached_input=_input_tokens(request), output=output)


def _input_tokens(request: ClientRequest) -> int:
    size = request.document.size
    if size <= _LARGE_BYTES:
        return max(1, size // CHARACTERS_PER_TOKEN)
    attached = request.dialect.read_conversation(request.document).attached_characters
    extra = ATTACHMENT_TOKENS if attached else 0
    return max(1, (size - attached) // CHARACTERS_PER_TOKEN) + extra
