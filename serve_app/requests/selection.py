"""The order of a decision's candidates: by the route's ``prefer``, then those that fit first."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, Self

from serve_app.domain import Conversation, ModelRef, Prefer, Reason, Route, RouteDecision
from serve_app.providers.capabilities import Capabilities, Capability
from serve_app.requests.call import ClientRequest
from serve_app.requests.latencies import Latencies
from serve_app.snapshot import Snapshot

BYTES_PER_TOKEN: Final = 4
"""For estimates: there is no tokenizer here."""

_BETAS: Final = "anthropic-beta"
_LONG_CONTEXT: Final = "context-1m"
"""The beta by which a client asks Anthropic for a longer context than the published one."""


@dataclass(frozen=True, slots=True)
class RouteRanking:
    """Orders the models of routes for one request."""

    latencies: Latencies
    capabilities: Capabilities
    stream: bool
    explores: bool = True

    def choose(self, route: Route) -> tuple[ModelRef, ...]:
        """The models of the route that decides, best first."""
        if route.prefer is Prefer.FASTEST and self.explores and len(route.models) > 1:
            return self.latencies.choose(route.models, stream=self.stream)
        return self.rank(route)

    def rank(self, route: Route) -> tuple[ModelRef, ...]:
        """The models of a route, best first; those that nothing is known of last, as listed."""
        if route.prefer is Prefer.FASTEST:
            return self.latencies.order(route.models, stream=self.stream)
        if route.prefer is Prefer.CHEAPEST:
            return tuple(sorted(route.models, key=self._usd))
        return route.models

    def figure(self, route: Route, model: ModelRef) -> str:
        """What places a model within a route, in words; empty if the route lists its models."""
        if route.prefer is Prefer.CHEAPEST:
            usd = self.capabilities.usd(model)
            shown = (
                "unknown" if usd is None else f"{usd:g} USD per million tokens of input and output"
            )
            return f"cheapest first, {shown}"
        if route.prefer is Prefer.FASTEST:
            seconds = self.latencies.seconds(model, stream=self.stream)
            what = "first token" if self.stream else "answer"
            shown = "not measured" if seconds is None else f"{what} after {seconds:.2f} s"
            return f"fastest first, {shown}"
        return ""

    def _usd(self, model: ModelRef) -> float:
        usd = self.capabilities.usd(model)
        return inf if usd is None else usd


class CurrentCapabilities:
    """The capabilities of models by the configuration of the moment, compiled at the first need."""

    def __init__(self) -> None:
        self._compiled: tuple[Snapshot, Capabilities] | None = None
        self._compiling = asyncio.Lock()

    async def of(self, snapshot: Snapshot) -> Capabilities:
        """Those of a snapshot; compiled in a thread, because other requests go on."""
        compiled = self._compiled
        if compiled is None or compiled[0] is not snapshot:
            async with self._compiling:
                compiled = self._compiled
                if compiled is None or compiled[0] is not snapshot:
                    compiled = snapshot, await asyncio.to_thread(Capabilities, snapshot.config)
                    self._compiled = compiled
        return compiled[1]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is known of models, for the order of candidates."""

    latencies: Latencies
    capabilities: CurrentCapabilities = field(default_factory=CurrentCapabilities)
    explores: bool = True
    """False where no model is asked, so that nothing can be measured."""

    def without_exploring(self) -> Self:
        """The same knowledge, for decisions after which the gateway asks no model."""
        return replace(self, explores=False)

    async def ranking(self, snapshot: Snapshot, *, stream: bool) -> RouteRanking:
        """The ranking for one request."""
        capabilities = await self.capabilities.of(snapshot)
        return RouteRanking(self.latencies, capabilities, stream, self.explores)


@dataclass(frozen=True, slots=True)
class Fit:
    """Which candidates of a decision do not take a request, and why."""

    decision: RouteDecision
    unfit: Mapping[ModelRef, str]

    @classmethod
    def of(
        cls,
        decision: RouteDecision,
        request: ClientRequest,
        conversation: Conversation,
        capabilities: Capabilities,
    ) -> Self:
        """The decision with the candidates last that do not take the request, in their order.

        A session whose provider alone has a part of the conversation stays on its model.
        """
        size = _Size(request, conversation)
        unfit: dict[ModelRef, str] = {}
        for model in decision.candidates if len(decision.candidates) > 1 else ():
            capability = capabilities.of(model)
            why = size.misfit(capability)
            if not why and capability.lacks:
                missing = sorted(conversation.needs & capability.lacks)
                why = f"does not take {' and '.join(missing)}".replace("_", " ") if missing else ""
            if why:
                unfit[model] = why
        if not unfit or len(unfit) == len(decision.candidates):
            return cls(decision, unfit)
        if decision.reason is Reason.AFFINITY and conversation.has_provider_state:
            return cls(decision, unfit)
        order = tuple(sorted(decision.candidates, key=unfit.__contains__))
        return cls(replace(decision, candidates=order), unfit)


class _Size:
    """The length of a request; read more closely only where it matters."""

    def __init__(self, request: ClientRequest, conversation: Conversation) -> None:
        self._request = request
        self._conversation = conversation
        self._bytes = request.document.size
        self._output = conversation.max_output_tokens

    def misfit(self, capability: Capability) -> str:
        """Why a request is too long for a model; empty if it is not."""
        most = capability.max_input
        if most is not None:
            tokens = self._tokens(most)
            return f"too long: about {tokens} tokens, maximum {most}" if tokens > most else ""
        most = capability.window
        if most is None:
            return ""
        output = self._output
        tokens = self._tokens(most - output)
        if tokens + output <= most or self._has_long_context:
            return ""
        more = f" and {output} of output" if output else ""
        return f"too long: about {tokens} tokens{more}, context {most}"

    def _tokens(self, limit: int) -> int:
        """About how many they are; images and files count only if that may exceed a limit."""
        tokens = self._bytes // BYTES_PER_TOKEN
        if tokens <= limit:
            return tokens
        return (self._bytes - self._conversation.attached_characters) // BYTES_PER_TOKEN

    @property
    def _has_long_context(self) -> bool:
        return any(
            name == _BETAS and _LONG_CONTEXT in value for name, value in self._request.headers
        )
