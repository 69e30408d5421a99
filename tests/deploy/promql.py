"""Reads queries of Prometheus far enough to hold their names and labels against the table of metrics.

It supports what the dashboards and rules use, and reports everything else: aggregations write
``by`` before their argument, and there are no subqueries.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from serve_app.telemetry.metrics import METRICS, Metric, MetricSpec

AGGREGATIONS: Final = frozenset({"sum", "min", "max", "avg", "count", "topk"})
RATES: Final = frozenset({"rate", "increase"})
OVER_TIME: Final = frozenset({"changes", "max_over_time"})
FUNCTIONS: Final = RATES | OVER_TIME | {"histogram_quantile", "absent"}
SCRAPED: Final = frozenset({"replica", "instance", "job"})
"""Labels that every sample has, whatever the metric."""

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    |(?P<string>"[^"]*")
    |(?P<range>\[(?:\d+[smhd]|\$__rate_interval)\])
    |(?P<duration>\d+[smhd]\b)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)
    |(?P<operator>=~|!~|!=|==|<=|>=|[-+*/<>=(){},])""",
    re.VERBOSE,
)
_WORDS: Final = frozenset({"by", "and", "or", "unless", "offset"})
_SUFFIXES: Final = ("_bucket", "_sum", "_count")
_MATCHERS: Final = frozenset({"=", "!=", "=~", "!~"})


class QueryError(Exception):
    """Raised for a query that is wrong, or not supported."""


@dataclass(frozen=True)
class Token:
    kind: str
    text: str


@dataclass(frozen=True)
class Selector:
    """One series selector of a query."""

    name: str
    spec: MetricSpec
    matchers: dict[str, str]
    has_range: bool
    function: str
    """The function that it is the direct argument of; empty for none."""

    @property
    def labels(self) -> frozenset[str]:
        """Every label that its samples have."""
        le = {"le"} if self.name.endswith("_bucket") else set()
        return frozenset({*self.spec.labels, *SCRAPED, *le})


@dataclass
class Query:
    """A query, read."""

    selectors: list[Selector]
    grouped: list[str]
    """The labels of every ``by``."""


def read_query(text: str) -> Query:
    """Reads a query and checks its names, labels and ranges. Raises QueryError."""
    tokens = list(_tokens(text))
    _check_brackets(tokens)
    selectors, places = [], []
    for place, token in enumerate(tokens):
        if token.kind == "name" and _is_metric(tokens, place):
            selectors.append(_selector(tokens, place))
            places.append(place)
    if not selectors:
        raise QueryError("no metric")
    query = Query(selectors, [])
    for place, token in enumerate(tokens):
        if token == Token("name", "by"):
            labels, start = _group(tokens, place)
            inner = range(start, _closing(tokens, start))
            inside = [one for one, at in zip(selectors, places, strict=True) if at in inner]
            for label in labels:
                lacking = [one.name for one in inside if label not in one.labels]
                if lacking or not inside:
                    raise QueryError(f"by {label}: {', '.join(lacking)} lacks it")
            query.grouped += labels
        if token == Token("name", "histogram_quantile") and "le" not in _after(tokens, place):
            raise QueryError("histogram_quantile without le")
    return query


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise QueryError(f"unknown text {text[place : place + 20]!r}")
        place = match.end()
        if match.lastgroup not in {None, "space"}:
            yield Token(str(match.lastgroup), match.group())


def _check_brackets(tokens: list[Token]) -> None:
    open_: list[str] = []
    for token in tokens:
        if token.text in {"(", "{"}:
            open_.append(token.text)
        elif token.text in {")", "}"}:
            pair = (open_.pop() if open_ else "") + token.text
            if pair not in {"()", "{}"}:
                raise QueryError("unbalanced brackets")
    if open_:
        raise QueryError("unbalanced brackets")


def _is_metric(tokens: list[Token], place: int) -> bool:
    """False for words, functions and labels. Raises QueryError for an unknown function."""
    text = tokens[place].text
    following = tokens[place + 1].text if place + 1 < len(tokens) else ""
    if text in _WORDS or _is_label(tokens, place):
        return False
    if text in AGGREGATIONS | FUNCTIONS:
        if following not in {"(", "by"}:
            raise QueryError(f"{text} without an argument")
        return False
    if following == "(":
        raise QueryError(f"unknown function {text}")
    return True


def _is_label(tokens: list[Token], place: int) -> bool:
    """True inside of braces, and in the list of a ``by``."""
    depth = 0
    for at in range(place - 1, -1, -1):
        text = tokens[at].text if tokens[at].kind == "operator" else ""
        depth += text in {")", "}"}
        if text in {"(", "{"}:
            if depth == 0:
                return text == "{" or (at > 0 and tokens[at - 1].text == "by")
            depth -= 1
    return False


def _selector(tokens: list[Token], place: int) -> Selector:
    name = tokens[place].text
    spec = _spec(name)
    at, matchers = place + 1, dict[str, str]()
    if at < len(tokens) and tokens[at].text == "{":
        end = next(i for i in range(at, len(tokens)) if tokens[i].text == "}")
        matchers = _matchers(tokens[at + 1 : end])
        at = end + 1
    has_range = at < len(tokens) and tokens[at].kind == "range"
    before = tokens[place - 2].text if place > 1 and tokens[place - 1].text == "(" else ""
    selector = Selector(name, spec, matchers, has_range, before if before in FUNCTIONS else "")
    unknown = set(matchers) - selector.labels
    if unknown:
        raise QueryError(f"{name} has no label {', '.join(sorted(unknown))}")
    is_counted = spec.kind != "gauge"
    if is_counted is not (selector.function in RATES) and selector.function != "absent":
        raise QueryError(f"{name} is a {spec.kind}: rate it, or do not")
    if has_range is not (selector.function in RATES | OVER_TIME):
        raise QueryError(f"{name}: a range belongs into a rate")
    return selector


def _spec(name: str) -> MetricSpec:
    names = {metric.value: metric for metric in Metric}
    if name in names and METRICS[names[name]].kind != "histogram":
        return METRICS[names[name]]
    for suffix in _SUFFIXES:
        base = names.get(name.removesuffix(suffix))
        if name.endswith(suffix) and base and METRICS[base].kind == "histogram":
            return METRICS[base]
    raise QueryError(f"unknown metric {name}")


def _matchers(tokens: list[Token]) -> dict[str, str]:
    found = {}
    for start in range(0, len(tokens), 4):
        part = tokens[start : start + 4]
        if len(part) < 3 or part[1].text not in _MATCHERS or part[2].kind != "string":
            raise QueryError("a matcher is a label, an operator and a string")
        if part[1].text.endswith("~"):
            re.compile(part[2].text.strip('"'))
        found[part[0].text] = part[2].text.strip('"')
    return found


def _group(tokens: list[Token], place: int) -> tuple[list[str], int]:
    """The labels of a ``by``, and where its argument opens."""
    end = _closing(tokens, place + 1)
    labels = [token.text for token in tokens[place + 2 : end] if token.text != ","]
    if end + 1 >= len(tokens) or tokens[end + 1].text != "(":
        raise QueryError("by stands before the argument")
    if tokens[place - 1].text not in AGGREGATIONS:
        raise QueryError("by without an aggregation")
    return labels, end + 1


def _closing(tokens: list[Token], start: int) -> int:
    depth = 0
    for at in range(start, len(tokens)):
        depth += tokens[at].text == "("
        depth -= tokens[at].text == ")"
        if depth == 0:
            return at
    raise QueryError("unbalanced brackets")


def _after(tokens: list[Token], place: int) -> list[str]:
    return [token.text for token in tokens[place : _closing(tokens, place + 1)]]
