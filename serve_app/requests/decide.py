"""From a request to its candidates: what the client wished, what the orchestrator said, and why.

This is the asynchronous half of deciding; serve_app/routing/router.py holds the rules.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from serve_app.affinity.identify import (
    BUDGET_HEADER,
    Session,
    implicit_session,
    is_off,
    named_session,
    tenant_of,
    wanted_headers,
)
from serve_app.affinity.sessions import Place, Sessions
from serve_app.config.load import LoadedConfig, explain, load, path, raise_problems
from serve_app.config.references import absolute
from serve_app.config.schema.gateway import GatewayConfig, RoutingPreference
from serve_app.dialects.json_edits import Document
from serve_app.dialects.openai_chat import conversation, dialect
from serve_app.domain import (
    AUTO_NAMES,
    Headers,
    ModelRef,
    Question,
    Route,
    RouteDecision,
    Scores,
    Unavailable,
)
from serve_app.errors import InvalidRequest, Problem
from serve_app.ports import Orchestrator
from serve_app.providers.checks import url_problems
from serve_app.providers.endpoints import ProviderTable, build_table
from serve_app.requests.session_switch import Switch, budget_of, judge, stays
from serve_app.routing import router
from serve_app.routing.policy import Policy, compile_policy, no_model, route_of, unknown_model
from serve_app.scoring.excerpt import conversation, recent

PREFERENCES: Final = "routing_preferences"

OWN_KEYS: Final = frozenset({PREFERENCES, "models", "fallbacks"})
"""Of a body: meant for the gateway, and not sent on."""

READ_KEYS: Final = OWN_KEYS | {"model", "stream", "messages", "n", "metadata", "tools"}
"""Of a body: what we read, and therefore refuse to see twice."""

MAX_ROUTES: Final = 128
MAX_ROUTE_CHARACTERS: Final = 64 << 10
"""Of the routes of one request, all texts together: each of them costs the engine time."""

MAX_PREFERENCES: Final = 4 * MAX_ROUTE_CHARACTERS
"""Characters of JSON that the routes of one request may take; checking them blocks the loop."""

_MAX_NAME: Final = 400
_PREFERENCES = TypeAdapter(list[RoutingPreference])


@dataclass(frozen=True, slots=True)
class Setup:
    """One configuration, compiled: immutable, versioned, handed on by reference."""

    config: GatewayConfig
    policy: Policy
    providers: ProviderTable
    session_headers: frozenset[bytes] = frozenset()
    """Names of the headers that decide about sessions."""

    @property
    def version(self) -> str:
        """That of the policy, and of the file."""
        return self.policy.version


def compile_setup(file: str | Path | None, environ: Mapping[str, str] | None = None) -> Setup:
    """The setup that a configuration file comes to. Raises ConfigError with all its problems.

    Without a file it is made for the keys in ``environ``, which is this process's by default.
    """
    loaded = load(file, environ)
    providers, problems = build_table(loaded)
    policy, more = compile_policy(loaded)
    routing = loaded.config.routing
    if routing.session_cache.type == "redis" and routing.session_cache.url is None:
        place = ("routing", "session_cache")
        more.append(loaded.problem(place, "type redis needs `url: redis://host:6379`"))
    more += _unknown_prices(loaded, policy)
    more += _engine_address(loaded)
    raise_problems(loaded, [*problems, *more])
    wanted = wanted_headers(routing.session_headers, routing.session_cache.tenant_header)
    return Setup(_with_key_files(loaded), policy, providers, wanted)


def _with_key_files(loaded: LoadedConfig) -> GatewayConfig:
    """The configuration with client keys whose files do not depend on where a process runs."""
    config = loaded.config
    if config.client_keys is None:
        return config
    folder = Path(loaded.file).absolute().parent
    return config.model_copy(
        update={"client_keys": [absolute(key, folder) for key in config.client_keys]}
    )


def _engine_address(loaded: LoadedConfig) -> Iterator[Problem]:
    """What is wrong with the address of the engine http, where the section itself says it."""
    section, place = loaded.config.orchestrator, ("orchestrator", "base_url")
    if section.engine == "http" and section.base_url is not None and place in loaded.lines:
        yield from url_problems(loaded, place, section.base_url)


def _unknown_prices(loaded: LoadedConfig, policy: Policy) -> Iterator[Problem]:
    for name in loaded.config.prices:
        found = policy.resolve(name)
        if found is None and not loaded.leaves_out(name):
            yield loaded.problem(("prices", name), unknown_model(loaded, policy, name))
        elif found is not None and str(found[0]) != name:
            yield loaded.problem(("prices", name), f"write the model in full: {found[0]}")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the API layer read it."""

    setup: Setup
    document: Document
    headers: Headers
    """Those that go on to the provider."""
    hint: str | None
    arrived: float
    """When, on the gateway's clock."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Headers that decide about the session."""
    credential: str | None = field(default=None, repr=False)
    """The client's own key, for providers that take that one."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and how it came about."""

    decision: RouteDecision
    question: Question | None = None
    """What the orchestrator was asked, if it was."""
    said: Scores | Unavailable | None = None
    place: Place | None = None
    """The request's session; None where it has none, or names its model."""
    switch: Switch | None = None
    """What a budget said to the session's change, where there is one."""


async def decide(
    call: Call, orchestrator: Orchestrator, sessions: Sessions, *, by_content: bool = False
) -> Decided:
    """Which models may answer a request. With ``by_content`` names in it decide nothing.

    A session that is bound stays on its model, and the orchestrator is not asked, unless the
    configuration lets sessions move.
    Raises InvalidRequest, UnknownModel or NoModel.
    """
    messages = call.document.get("messages")
    if not isinstance(messages, list):
        raise InvalidRequest("messages must be there and be a list", "messages")
    policy = call.setup.policy
    inline = read_preferences(call.document, policy, known_only=not by_content)
    wish = router.Wish(model=None) if by_content else _read_wish(call)
    asked = router.decide(policy, wish, inline)
    if isinstance(asked, RouteDecision):
        return Decided(asked)
    session = None if asked.otherwise else _session_of(call, wish)
    if session is None:
        return await _ask(call, orchestrator, asked)
    place = await sessions.find(session, _may_answer(policy, inline))
    return await _decide_in_session(call, orchestrator, sessions, asked, place)


async def _decide_in_session(
    call: Call,
    orchestrator: Orchestrator,
    sessions: Sessions,
    asked: router.ByContent,
    place: Place,
) -> Decided:
    """What the session is bound to, unless this turn may move it and something says so."""
    policy, config = call.setup.policy, call.setup.config
    budget = budget_of(config, call.named.get(BUDGET_HEADER))
    bound = place.found if place.live else None
    if bound is not None and stays(config, call.document, budget):
        decided = Decided(router.pinned(policy, asked.routes, bound))
    else:
        decided = await _ask(call, orchestrator, asked)
        if bound is not None and decided.decision.route is None:  # nothing says to move
            decided = replace(decided, decision=router.pinned(policy, asked.routes, bound))
    switch = None
    if budget is not None:
        candidate = decided.decision.candidates[0]
        switch = judge(call.document, place, candidate, budget, sessions.prices, sessions.now())
        if bound is not None and not switch.decision.allowed:
            decided = replace(decided, decision=router.pinned(policy, asked.routes, bound))
    return replace(decided, place=place, switch=switch)


async def _ask(call: Call, orchestrator: Orchestrator, asked: router.ByContent) -> Decided:
    policy = call.setup.policy
    look = conversation if call.setup.config.orchestrator.generates else recent
    question = Question(
        turns=look(dialect.read_turns(call.document.get("messages"))),
        routes=asked.routes,
        key=policy.version if asked.routes is policy.routes else _digest(asked.routes),
    )
    if not question.turns:  # nothing was said in words, so there is nothing to match
        silent = Scores({}, 0.0, None)
        return Decided(router.by_scores(policy, asked, silent), question, silent)
    said = await orchestrator.score(question)
    return Decided(router.by_scores(policy, asked, said), question, said)


def _session_of(call: Call, wish: router.Wish) -> Session | None:
    """The session that a request belongs to, by its headers or by how it begins."""
    config, named = call.setup.config, call.named
    if is_off(named):
        return None
    tenant = tenant_of(named, config.routing.session_cache.tenant_header)
    name = wish.hint or wish.model or ""
    lane = "" if name.lower() in AUTO_NAMES else name
    own = named_session(named, config.routing.session_headers)
    messages = call.document.get("messages")
    first = conversation.first_user_text(messages) if own is None and _is_implicit(config) else None
    if first is not None:
        tools = ",".join(conversation.tool_names(call.document.get("tools")))
        own = implicit_session(tenant, conversation.system_texts(messages), tools, first)
    return None if own is None else Session(own, tenant, lane)


def _is_implicit(config: GatewayConfig) -> bool:
    """Plano's rule for when a conversation that nobody named is a session all the same."""
    caching = config.prompt_caching
    by_caching = caching.enabled if caching.session_affinity is None else caching.session_affinity
    routing = config.routing
    by_routing = routing.route_on_user_only and bool(config.routing_preferences)
    return by_caching or by_routing or routing.routing_budget is not None


def _may_answer(policy: Policy, inline: tuple[Route, ...] | None) -> Callable[[ModelRef], bool]:
    """Whether a bound model is still among those that a request may get."""
    if inline is None:
        return lambda model: policy.resolve(str(model)) is not None
    models = {model for route in inline for model in route.models}
    return lambda model: model in models or model == policy.default


def read_preferences(
    document: Document, policy: Policy, *, known_only: bool
) -> tuple[Route, ...] | None:
    """The routes that a request brings along; None when it brings none.

    With ``known_only`` every model has to be one that the gateway serves; otherwise any
    ``provider/name`` will do. Raises InvalidRequest that names the field.
    """
    member = document.members.get(PREFERENCES)
    if member is None or member.value is None:
        return None
    value = member.value
    if member.value_end - member.value_start > MAX_PREFERENCES:
        message = f"{PREFERENCES} may take at most {MAX_PREFERENCES} characters"
        raise InvalidRequest(message, PREFERENCES)
    if isinstance(value, list) and len(value) > MAX_ROUTES:
        raise InvalidRequest(f"{PREFERENCES} may hold at most {MAX_ROUTES} routes", PREFERENCES)
    try:
        entries = _PREFERENCES.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=True)[0]
        detail["loc"] = (PREFERENCES, *detail["loc"])
        steps, message = explain(detail)
        raise InvalidRequest(f"{path(steps)}: {message}", path(steps)) from error
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        check_name(name, f"{PREFERENCES}[{index}].name")
        if name in names[:index]:
            place = f"{PREFERENCES}[{index}].name"
            raise InvalidRequest(f"{place}: another route is named {name!r}", place)
    size = sum(len(e.name) + len(e.description) + sum(map(len, e.examples)) for e in entries)
    if size > MAX_ROUTE_CHARACTERS:
        message = f"{PREFERENCES} may hold at most {MAX_ROUTE_CHARACTERS} characters of text"
        raise InvalidRequest(message, PREFERENCES)
    return tuple(
        route_of(entry, _models(entry, index, policy, known_only=known_only))
        for index, entry in enumerate(entries)
    )


def _models(
    entry: RoutingPreference, index: int, policy: Policy, *, known_only: bool
) -> tuple[ModelRef, ...]:
    models = []
    for position, name in enumerate(entry.models):
        place = f"{PREFERENCES}[{index}].models[{position}]"
        check_name(name, place)
        found = policy.resolve(name)
        if found is not None:
            models.append(found[0])
            continue
        try:
            model = ModelRef.parse(name)
        except ValueError:
            model = None
        if model is None or known_only:
            raise InvalidRequest(f"{place}: {no_model(policy, name, policy.aliases)}", place)
        models.append(model)
    return tuple(models)


def _digest(routes: tuple[Route, ...]) -> str:
    return "inline:" + sha256(repr(routes).encode("utf-8", "replace")).hexdigest()


def _read_wish(call: Call) -> router.Wish:
    model = call.document.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidRequest("model must be a text", "model")
    check_name(model or "", "model")
    check_name(call.hint or "", "x-arch-llm-provider-hint")
    fallbacks: list[str] = []
    for key in ("models", "fallbacks"):
        names = call.document.get(key)
        if names is None:
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidRequest(f"{key} must be a list of model names", key)
        for name in names:
            check_name(name, key)
        fallbacks += names
    if len(fallbacks) > router.MAX_FALLBACKS:
        raise InvalidRequest(f"at most {router.MAX_FALLBACKS} fall-backs may be named", "models")
    return router.Wish(model, call.hint, tuple(fallbacks))


def check_name(name: str, param: str) -> None:
    """Raises InvalidRequest for a name that no header and no log could show."""
    if len(name) > _MAX_NAME or not name.isprintable():
        message = f"{param} must be a printable name of at most {_MAX_NAME} characters"
        raise InvalidRequest(message, param)
