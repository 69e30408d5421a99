"""Writes the reference pages that are made from code: errors, headers, metrics and commands.

``make reference`` runs it. Each table below holds the sentences that code cannot give; what code
knows (status, code, labels, options) is read from there, and an entry without a sentence raises
KeyError. Tests hold the tables of surfaces and headers against the real gateway.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serve_app import access_errors, errors
from serve_app.cli.main import build_parser
from serve_app.domain import Reason
from serve_app.errors import GatewayError
from serve_app.exchange import FaultKind
from serve_app.telemetry.metrics import METRICS

CHECKOUT: Final = Path(__file__).resolve().parents[2]


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


@dataclass(frozen=True, slots=True)
class ServedPath:
    """One path that the gateway serves."""

    methods: tuple[str, ...]
    path: str
    what: str
    is_open: bool = False
    """True where no client key is needed."""


SERVED: Final = (
    ServedPath(("POST",), "/v1/chat/completions", "an OpenAI chat completion, complete or streamed"),
    ServedPath(("POST",), "/v1/messages", "an Anthropic message, complete or streamed"),
    ServedPath(("POST",), "/v1/messages/count_tokens", "the number of tokens of such a request, if the model's provider counts them"),
    ServedPath(("POST",), "/v1/responses", "an OpenAI response, complete or streamed"),
    ServedPath(("POST",), "/v1/embeddings", "OpenAI embeddings"),
    ServedPath(("POST",), "/v1/completions", "a legacy OpenAI completion, complete or streamed"),
    ServedPath(("POST",), "/v1/decisions", "answers to [typed questions](../guides/decisions.md), by a model or by the gateway's own orchestrator"),
    ServedPath(("POST",), "/v1/systemone", "the same in TypeSafe's format, by the gateway's own orchestrator"),
    ServedPath(("POST",), "/routing/v1/chat/completions", "the models that fit a conversation, without asking them (Plano's decision API)"),
    ServedPath(("POST",), "/routing/v1/messages", "the same for the body of a message"),
    ServedPath(("POST",), "/routing/v1/responses", "the same for the body of a response"),
    ServedPath(("POST",), "/routing/v1/completions", "the same for the body of a legacy completion"),
    ServedPath(("POST",), "/v1/route", "what the gateway would do with a body of any of these, and why"),
    ServedPath(("GET",), "/metrics", "the metrics of one ingress replica, as Prometheus text; open to all with `telemetry.open_metrics`"),
    ServedPath(("GET",), "/v1/models", "models, then aliases, in the order of the configuration; then `auto`, if there are routes"),
    ServedPath(("GET",), "/v1/models/NAME", "one of them, or any other name that a request may use"),
    ServedPath(("GET", "HEAD"), "/healthz", "the state of the ingress, the Orchestrator and the session store", is_open=True),
    ServedPath(("GET", "HEAD"), "/", "200, for probes", is_open=True),
    ServedPath(("GET", "HEAD"), "/ui/", "the [page](../guides/page.md) for people; its files need no key, what it shows does", is_open=True),
)  # fmt: skip

STORED: Final = (
    ServedPath(("GET",), "/v1/responses/ID", "the response, as the client got it"),
    ServedPath(("DELETE",), "/v1/responses/ID", "deletes it, here and at its provider"),
    ServedPath(("GET",), "/v1/responses/ID/input_items", "the items of its conversation before it"),
    ServedPath(("POST",), "/v1/responses/ID/cancel", "cancels it, if its provider makes it in the background"),
    ServedPath(("POST",), "/v1/conversations", "a new conversation with up to 20 `items`, and `metadata`"),
    ServedPath(("GET",), "/v1/conversations/ID", "the conversation, without its items"),
    ServedPath(("POST",), "/v1/conversations/ID", "replaces its `metadata`"),
    ServedPath(("DELETE",), "/v1/conversations/ID", "deletes it; its responses stay"),
    ServedPath(("GET",), "/v1/conversations/ID/items", "its items, and those of all its responses"),
)  # fmt: skip
"""Paths of kept responses and conversations; each needs a client key."""


@dataclass(frozen=True, slots=True)
class MissingFeature:
    """Something that users of other gateways expect and that is missing here."""

    what: str
    paths: tuple[str, ...]
    """Each is a 404 today."""
    instead: str


MISSING: Final = (
    MissingFeature("Images, audio, files, batches, moderations", ("/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/files", "/v1/batches", "/v1/moderations"), "call the provider directly"),
)  # fmt: skip
"""Shown at the top of README. Remove a row when its paths are served: a test says when."""

ERRORS: Final[Mapping[type[GatewayError], tuple[str, str]]] = MappingProxyType(
    {
        errors.InvalidRequest: ("a field has the wrong type; a model name, the provider hint or a name in `routing_preferences` is longer than 400 characters or not printable; `models` and `fallbacks` hold more than 16 names; `routing_preferences` has a fault", "correct the field that `param` names"),
        errors.InvalidJson: ("the body is not one JSON object in UTF-8, or not what `content-encoding` says", "send JSON; the message names the position"),
        errors.ThreadUnsupported: ("a client of Anthropic wants to begin a thread, and the model's provider speaks another dialect", "nothing: the official SDKs send the whole conversation when they get it"),
        errors.ResponseNotFound: ("`previous_response_id` or `conversation` names what is not kept for this client, or only by the provider of another model", "send the whole conversation in `input`, or name the model that the message names"),
        errors.ThreadNotFound: ("a client of Anthropic continues a thread, and the model's provider speaks another dialect", "nothing: the official SDKs send the whole conversation when they get it"),
        errors.DuplicateKey: ("the body has a field that the gateway reads twice, or in other letter case", "send the field once, in lower case"),
        errors.NestingTooDeep: ("the body is nested more deeply than the parser supports", "flatten the body"),
        errors.NoModel: ("the request leaves the model open, and the gateway has neither a default model nor routes", "name a model of `GET /v1/models`, or configure `default: true`"),
        access_errors.InvalidClientKey: ("the gateway has `client_keys`, and the request has none of them", "send a client key as `Authorization: Bearer KEY`, `x-api-key: KEY` or `x-fingerpost-key: KEY`"),
        access_errors.AnonymousRefused: ("the gateway has no `client_keys`, and the request comes from another machine, from a web page of another site, or for a host that is not this machine", "call the gateway at `localhost`, or configure [client keys](../guides/security.md#client-keys) or, for a page, [`cors.allow_origins`](../guides/security.md#web-pages)"),
        access_errors.PageRefused: ("a call below `/ui` comes from another machine or under another host name while there are no `client_keys`, or from another web page", "open the [page](../guides/page.md) at a loopback address, such as `http://127.0.0.1:8000/ui`; scripts use `POST /v1/route`"),
        errors.UnknownPath: ("the path is not served", "use a path of the [surfaces](api.md#surfaces)"),
        errors.UnknownModel: ("no model, alias or wildcard has this name; `param` is `model`, `models` or `x-arch-llm-provider-hint`", "use one of the names that the message suggests, or one of `GET /v1/models`"),
        errors.AnswerNotFound: ("the path names a response that is not [kept](api.md#kept-responses) for this client, or that its provider alone keeps, with an endpoint that has left the configuration", "create it again"),
        errors.ConversationNotFound: ("the path names a conversation that this client has not created here, or that was deleted or has expired", "create another one"),
        errors.MethodNotAllowed: ("the path exists, the method does not", "use the method in the header `allow`"),
        errors.BodyTimeout: ("the client paused for 30 s while it sent its body, or took 600 s for all of it", "send the body without pauses"),
        errors.UnsupportedEncoding: ("`content-encoding` names something else than `gzip`, `deflate` or `identity`", "use an encoding of the header `accept-encoding`, or send the body as it is"),
        errors.BodyTooLarge: ("the body, as sent or unpacked, is larger than `limits.body_bytes`", "send less, or raise [`limits.body_bytes`](configuration.md#limits)"),
        errors.WebSocketUnsupported: ("the client opened a WebSocket", "use HTTP; Codex does by itself, and at once with `supports_websockets = false`"),
        access_errors.ModelNotAllowed: ("`allow` of the [client key](../guides/keys.md) lists neither what the request names nor a model that it could get", "use one of the names in the message, or one of `GET /v1/models`"),
        access_errors.ModelUnpriced: ("the client key or its team has a [budget](../guides/keys.md#budgets), and the prices of all models that may answer are unknown", "name another model, or configure [`prices`](configuration.md#pricesname)"),
        access_errors.LimitReached: ("a [limit](../guides/keys.md#limits) of the client key, its team or the model is used up", "retry after `retry-after` seconds"),
        access_errors.SpendingCapReached: ("the client key or its team has spent its [budget](../guides/keys.md#budgets)", "wait until `retry-after` is over, or have the budget raised"),
        access_errors.LimitsUnavailable: ("the client has limits, Redis is unavailable, and `limit_storage.unavailable` is `closed`", "retry; look at the ingress log for the fault"),
        errors.GatewayBusy: ("all models that may answer are at the [limits](../guides/providers.md#limits) of their entries, and the queue is full or the wait has ended", "retry after `retry-after` seconds, or raise the limits or [`queue`](configuration.md#queue)"),
        errors.PageBusy: ("the [page](../guides/page.md) is open too often at once", "close another tab"),
        errors.HeadersTooLarge: ("the headers together are larger than `limits.header_bytes`", "send less, or raise [`limits.header_bytes`](configuration.md#limits)"),
        errors.OrchestratorUnavailable: ("[typed questions](../guides/decisions.md) for the gateway's own orchestrator, which could not answer", "retry; the message says why"),
        GatewayError: ("a fault of the gateway", "read the gateway's log"),
        errors.UpstreamFailed: ("the last candidate returned no usable answer", "retry; the message names the provider and the fault"),
        errors.StateUnavailable: ("the store of earlier answers (Redis, or the Affinity deployment) does not answer, and the request names one of them", "send it again; look at the ingress log for the store's fault"),
        errors.ReportedError: ("the last candidate reported an error; status, code and message are its own", "what the message says"),
        errors.NotSupported: ("the provider of the model does not have what the path asks for, and it can't be translated; or [typed questions](../guides/decisions.md) for an Orchestrator without probabilities", "name a model whose provider has it; `operations` of the [providers](../guides/providers.md#the-providers) say which do"),
        errors.HopTooSmall: ("the body is too large for the hop to the last candidate, because Serve was started without its environment", "start Serve with [its environment](../operate/environment.md)"),
        errors.KeyMissing: ("the key or the address of the last candidate refers to a variable that is not set, or it needs a key and has none", "set the variable that the message names where the gateway runs"),
        errors.UpstreamTimeout: ("the last candidate did not answer in time", "retry, or raise [`timeouts`](configuration.md#timeouts)"),
    }
)  # fmt: skip
"""For each error: when a client gets it, and what to do."""

HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "x-fingerpost-model": "candidate of the last attempt, `provider/name`: the one that answered, or that failed last",
        "x-fingerpost-reason": "why this candidate, one of the [reasons](#reasons)",
        "x-fingerpost-policy": "version of the configuration that decided, 12 hex digits; also on errors before a decision",
        "x-fingerpost-route": "route that won, or by which the session was bound; left out without one",
        "x-fingerpost-rule": "name of the [routing rule](../guides/routes.md#rules) that decided; left out without one",
        "x-fingerpost-confidence": "score of the best route, 0 to 1 with three decimals; left out if nothing was scored",
        "x-fingerpost-tier": "what of the Orchestrator decided: the name of an engine, or `when_unsure` for the engine of close calls; left out if no engine was asked",
        "x-fingerpost-affinity": "`hit`, `miss` or `void`: state of the [session](../guides/sessions.md); left out without a session",
        "x-fingerpost-healed": "only if the provider refused the request and took it without what it could not read: `thoughts` that another account had encrypted were left out, or the `history` was put in place of an answer that the provider has lost",
        "x-fingerpost-attempts": "number of attempts so far; a second try of the same candidate counts",
        "x-fingerpost-dropped": "only if the request was [translated](api.md#translation): fields of the request, and kinds of parts of a complete answer, that the other dialect cannot say and that were left out, at most 32 of them; left out itself without any",
        "x-fingerpost-upstream-request-id": "the provider's `x-request-id`, or `request-id` without one; Serve sets an `x-request-id` of its own",
        "x-fingerpost-cost-usd": "cost of a complete answer in US dollars, with `cost_header: true`; left out if the price or the tokens are unknown",
        "server-timing": "milliseconds since the whole body had arrived: `decide` until the decision, `upstream` in all attempts until the commit point, `gateway` for the rest until the answer began",
    }
)
"""Headers that the gateway adds to an answer."""

REASONS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.EXPLICIT: "the request named this model, in `model` or in the provider hint",
        Reason.ALIAS: "the request named an alias of this model",
        Reason.ROUTE: "the request left the model open, and this route won",
        Reason.AFFINITY: "the content decides, and the session of the request stays on this model",
        Reason.NO_MATCH: "the request left the model open, and no route won or the user wrote no words",
        Reason.DEFAULT: "the request left the model open, no rule matched, and there are no routes; for typed questions, the gateway's own orchestrator answered them",
        Reason.RULE: "a [routing rule](../guides/routes.md#rules) matched; `x-fingerpost-rule` names it",
        Reason.STATE: "the request left the model open, and continues an [answer](../guides/conversations.md) that only the provider of this model keeps",
        Reason.CACHED: "as `route`; the scores were cached from an equal question",
        Reason.ESCALATION: "as `route` or `affinity`, one model further up the route, because of a setback in the conversation ([escalation](../guides/routes.md#escalation))",
        Reason.ALWAYS_ROUTE: "the request named a model, and a route won over the name (`overrides.always_route`)",
        Reason.FAILOVER: "an earlier candidate failed",
        Reason.ORCHESTRATOR_TIMEOUT: "the request left the model open, and the Orchestrator did not answer within `deadline_ms`",
        Reason.ORCHESTRATOR_ERROR: "the request left the model open, and the Orchestrator could not answer: no engine, a fault, a dead replica",
        Reason.ORCHESTRATOR_BUSY: "the request left the model open, and too many questions were waiting",
        Reason.BREAKER_OPEN: "the request left the model open, and the Orchestrator was not asked because it had failed several times in a row",
    }
)
"""What each value of ``x-fingerpost-reason`` means."""

LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gen_ai_operation_name": "surface of the request, as `surface`: `chat`, `messages`, `count_tokens`, `responses`, `embeddings`, `completions` or `decisions`",
        "gen_ai_provider_name": "part of the model's name before the slash",
        "gen_ai_request_model": "full name of a configured model; `other` for a name that only a wildcard matches, because such names are unbounded",
        "gen_ai_token_type": "`input` (without what was cached), `output`, `cache_read` or `cache_write`",
        "error_type": "empty for success; the status of an error; `broken` for a stream that broke; `client_gone` for a stream whose client left",
        "surface": "`chat`, `messages`, `count_tokens`, `responses`, `embeddings`, `completions`, `decisions`, `systemone`, `routing`, `route` or `other`; of `other` only failures are counted, and the overhead is measured for surfaces on which a provider answers",
        "status": "status of the answer",
        "reason": "value of `x-fingerpost-reason`; empty for a request that was refused before a decision",
        "provider": "as `gen_ai_provider_name`",
        "model": "as `gen_ai_request_model`; of a tier the model that it asks, `provider/name` or `server/name`",
        "route": "route that decided; `other` for one of a request's own `routing_preferences`; empty without a route",
        "budget": "whose budget it is: `client key 'NAME'` or `team 'NAME'`",
        "window": "`day`, `week` or `month`",
        "team": "team of the client key; empty without one",
        "tier": "name of an engine, or `when_unsure` for the engine of close calls",
        "kind": "`input` or `output`",
        "outcome": f"of an attempt: `ok`, the status of an error, or the fault: {_listed(FaultKind)}; of a question for a tier: as of a decision, or `cancelled`; of a decision: `scored`, `cached` (by the ingress), `joined` (an equal question was under way), or the reason why there is none: `orchestrator_timeout`, `orchestrator_error`, `orchestrator_busy`, `breaker_open` (the histogram has `scored` and the three with `orchestrator_`); of a reload: `good` or `refused`",
        "log": "`access` or `decisions`, as the sections of `logs`",
        "event": "for each request with a session `hit`, `miss` or `void`; for each new binding `store`, `rebind` to another model, or `lost` to a quicker request of the session; `error` for each operation that the store did not answer, also when it was not called after repeated failures",
        "version": "version of the configuration, 12 hex digits",
    }
)
"""What each label of a metric holds."""


def pages() -> dict[str, str]:
    """Returns the content of every generated page by its path in the project."""
    return {
        "docs/reference/headers-and-errors.md": "\n".join(_headers_and_errors()) + "\n",
        "docs/reference/metrics.md": "\n".join(_metrics()) + "\n",
        "docs/reference/cli.md": "\n".join(_commands(build_parser())) + "\n",
    }


def served_table() -> list[str]:
    """Returns the lines of the table of surfaces, as docs/reference/api.md shows it."""
    rows = [
        (
            ", ".join(f"`{method} {surface.path}`" for method in surface.methods),
            surface.what,
            "no" if surface.is_open else "yes",
        )
        for surface in SERVED
    ]
    return list(_table(("method and path", "answer", "needs a client key"), rows))


def stored_table() -> list[str]:
    """Returns the lines of the table of kept responses, as docs/reference/api.md shows it."""
    rows = [(f"`{method} {path.path}`", path.what) for path in STORED for method in path.methods]
    return list(_table(("method and path", "what it does"), rows))


def missing_table() -> list[str]:
    """Returns the lines of the table of what is missing, as README shows it."""
    rows = [(gap.what, _listed(gap.paths), gap.instead) for gap in MISSING]
    return list(_table(("missing today", "paths, each a 404", "instead"), rows))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _made_from(title: str, sources: str) -> Iterator[str]:
    yield from (f"# {title}", "")
    yield f"This page is generated by `make reference` from {sources}: change it there."


def _source(path: str) -> str:
    return f"[{path}](../../{path})"


_MODULES: Final = frozenset({errors.__name__, access_errors.__name__})
"""The modules of the gateway's errors."""


def _tree(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Yields the errors of the gateway; other modules, such as tests, may have their own."""
    yield root
    for error in root.__subclasses__():
        if error.__module__ in _MODULES:
            yield from _tree(error)


def _headers_and_errors() -> Iterator[str]:
    sources = (
        "serve_app/cli/reference_pages.py",
        "serve_app/domain.py",
        "serve_app/errors.py",
        "serve_app/access_errors.py",
    )
    yield from _made_from("Response headers, reasons and errors", ", ".join(map(_source, sources)))
    yield "[api.md](api.md) describes requests and answers, and which headers of a provider come back."
    yield from ("", "## Headers", "")
    yield "The gateway adds these to every answer for which a decision was made, a provider's errors included."
    yield "A value is percent-encoded if it holds more than plain letters, digits and common punctuation."
    yield ""
    yield from _table(("header", "meaning"), [(f"`{name}`", text) for name, text in HEADERS.items()])  # fmt: skip
    yield from ("", "## Reasons", "")
    yield "The set is closed."
    yield "With `no_match`, `breaker_open` and the three that begin with `orchestrator_`, the default model answers; without a default, the models of the first route."
    yield ""
    yield from _table(("`x-fingerpost-reason`", "meaning"), [(f"`{reason.value}`", REASONS[reason]) for reason in Reason])  # fmt: skip
    yield from ("", "## Errors", "")
    yield "These are errors of the gateway itself; [api.md](api.md#errors) shows their shape."
    yield "If the last candidate answered with an error, the client gets that one instead."
    yield ""
    tree = sorted(_tree(GatewayError), key=lambda error: error.status)
    rows = [(str(error.status), f"`{error.code}`", *ERRORS[error]) for error in tree]
    yield from _table(("status", "`code`", "when", "what to do"), rows)


def _metrics() -> Iterator[str]:
    sources = ("serve_app/telemetry/metrics.py", "serve_app/cli/reference_pages.py")
    yield from _made_from("Metrics", " and ".join(map(_source, sources)))
    yield "[operate/metrics.md](../operate/metrics.md) says how to scrape them and what to watch."
    yield ""
    yield "Ray exports them as Prometheus text with the prefix `ray_`, for example `ray_fingerpost_requests_total`, and adds labels such as `application`, `deployment` and `replica`."
    yield "`/metrics` of the gateway itself has those of one ingress replica under the names below, with the label `replica`."
    yield "Histograms are in seconds, except `gen_ai_client_token_usage`, which is in tokens."
    yield ""
    rows = [
        (
            f"`{metric.value}`",
            spec.kind,
            _listed(spec.labels),
            spec.description,
        )
        for metric, spec in METRICS.items()
    ]
    yield from _table(("metric", "kind", "labels", "meaning"), rows)
    yield from ("", "## Labels", "")
    names = dict.fromkeys(label for spec in METRICS.values() for label in spec.labels)
    yield from _table(("label", "value"), [(f"`{name}`", LABELS[name]) for name in names])


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from _made_from("The command line", _source("serve_app/cli/main.py"))
    yield "The exit status is 0 for success, 1 for a failure, 2 for a command line that is not valid."
    options = list(_arguments(parser))
    if options:
        yield from ("", *_table(("option", "default", "meaning"), options))
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to read a parser
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            helps = {choice.dest: choice.help for choice in action._choices_actions}  # noqa: SLF001 - as above
            for name, command in action.choices.items():
                yield from ("", f"## {parser.prog} {name}", "")
                yield _sentence(helps.get(name) or command.description or "")
                rows = list(_arguments(command))
                if rows:
                    yield from ("", *_table(("argument", "default", "meaning"), rows))


_DEFAULT_IN_HELP: Final = " (default: %(default)s)"
"""Has a column of its own in the table."""


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for action in parser._actions:  # noqa: SLF001 - as in _commands
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):  # noqa: SLF001 - as above
            continue
        yield (_shown(action), _default(action), (action.help or "").replace(_DEFAULT_IN_HELP, ""))


def _shown(action: argparse.Action) -> str:
    """Returns an argument as the user types it."""
    value = ""
    if action.nargs != 0:
        choices = [str(choice) for choice in action.choices or ()]
        value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        value = "{" + ",".join(choices) + "}" if choices else value
        value = f"[{value} ...]" if action.nargs == "*" else value
        value = f"[{value}]" if action.nargs == "?" else value
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{option} {value}`" if value else f"`{option}`" for option in action.option_strings)  # fmt: skip


def _default(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "off"
    if action.default in (None, "", [], argparse.SUPPRESS):
        is_needed = action.required and action.nargs not in ("?", "*")
        return "required" if is_needed else "none"
    return f"`{action.default}`"


def _sentence(text: str) -> str:
    shown = text.strip().rstrip(".")
    return f"{shown[:1].upper()}{shown[1:]}."


def write_pages(root: Path) -> None:
    """Writes the pages below a folder."""
    for name, content in pages().items():
        (root / name).write_text(content, "utf-8")


if __name__ == "__main__":
    write_pages(CHECKOUT)
