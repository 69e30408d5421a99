"""docs/performance.md and its picture, made from the recorded results. Pure functions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan
from statistics import median
from typing import Any, Final
from xml.etree import ElementTree as ET

from benchmarks.lib.loadgen import quantile
from benchmarks.lib.machine import headline
from benchmarks.lib.processes import without_port
from benchmarks.lib.script import verdict
from benchmarks.lib.surface_rows import BAR_TEXT, HEAD, cells
from serve_app.evaluation.svg import canvas, write

Results = Mapping[str, Mapping[str, Any]]
"""The recorded figures by the name of their script."""

_INTRO: Final = """# Performance

`make bench` measures everything on this page again, writes the raw figures to [benchmarks/results](../benchmarks/results), and writes this page from them.
It takes about 70 minutes on two cores; stop other work first.
Each section names the machine and the time of its figures: compare within a section, and prefer ratios.
[benchmarks/README.md](../benchmarks/README.md) says what each script does.

"""
_OVERHEAD: Final = """A provider on the same machine answers at once, so that all that remains is the gateway.
`raw-inline` and `raw-hop` are Serve applications that relay bytes and read nothing: what Ray Serve itself costs, without and with a second deployment behind the ingress.
`fingerpost-inline` calls the provider in the ingress (`data_path: inline`), `fingerpost-dedicated` in a deployment of its own.
`envoy` is a plain proxy, `ferrogw` a gateway in Go, `litellm` LiteLLM's proxy with one worker; each runs from its package, with one configuration for this test.
All take turns within a second of one another; a figure is the median of the rounds.

"""
_NOT_MEASURED: Final = """## What was not measured

- Several machines: the load generator, the provider and the gateway share the cores.
- Real providers and networks, TLS, HTTP/2.
- Gateways that need Docker or a download: Plano, Bifrost, vLLM Semantic Router, Agent Router, Kong, agentgateway.
- Other gateways with their features on: none of them routes by content here.
"""
_BAR_HEIGHT: Final = 16
_WIDTH: Final = 720
_LEFT: Final = 170
_PICTURED: Final = ("unary c=8", "stream c=8")
"""Loads that every variant takes."""


def performance_page(results: Results) -> str:
    """Returns the page; sections without results are left out."""
    parts = [_INTRO]
    for title, name, section in _SECTIONS:
        if name in results:
            result = results[name]
            about = f"{headline(result['machine'])}\nScript: `benchmarks/{name}.py`.\n\n"
            parts += [f"## {title}\n\n{about}", "\n".join(section(result)), "\n\n"]
    return "".join([*parts, _NOT_MEASURED])


def _overhead(result: Mapping[str, Any]) -> Iterator[str]:
    rows = result["medians"]
    yield f"{_OVERHEAD}![CPU per request](performance.svg)\n"
    yield from _table(
        ("load", "variant", "req/s", "p50 ms", "p99 ms", "CPU ms/req"),
        [
            (
                row["load"],
                row["variant"],
                f"{row['rps']:.0f}",
                f"{row['p50']:.2f}",
                f"{row['p99']:.2f}",
                f"{row['cpu_ms']:.3f}",
            )
            for row in rows
        ],
    )
    yield "\nRatios, of CPU per request where nothing else is said:\n"
    yield from _table(
        ("ratio", "load", "measured", "goal", "holds"),
        [
            (bar["name"], bar["load"], f"{bar['ratio']:.2f}", bar["wanted"], _holds(bar))
            for bar in result["bars"]
            if bar["wanted"] or bar["load"] == "together"
        ],
    )
    named = {row["load"]: row for row in rows if row["variant"] == "fingerpost-inline"}
    yield "\nWhat routing adds to a request that names its model (inline):\n"
    yield from _table(
        ("load", "the model is", "p50 ms", "CPU ms/req"),
        [
            (
                row["load"],
                row["variant"].removeprefix("routed-"),
                f"{row['p50'] - named[row['load']]['p50']:+.2f}",
                f"{row['cpu_ms'] - named[row['load']]['cpu_ms']:+.3f}",
            )
            for row in rows
            if row["variant"].startswith("routed-")
        ],
    )
    yield (
        "\n`pinned` is a session that stays on its model, `cached` a text that was decided before, "
        "`embedded` a new text of 130 tokens for the embedded engine, which reads 64 of them."
    )


def _profile(result: Mapping[str, Any]) -> Iterator[str]:
    """Whose code the replicas run."""
    owners = list(dict.fromkeys(name for one in result["samples"] for name in one["owners"]))
    rows = []
    for one in result["samples"]:
        own = one["owners"]
        cells = [f"{own.get(name, 0):.0f}" for name in owners]
        rows.append((one["load"], one["replica"], f"{sum(own.values()):.0f}", *cells))
    yield (
        "CPU microseconds for a request. "
        "A sample of the event loop belongs to the innermost function whose owner is known; "
        "other threads are Ray's.\n"
    )
    yield from _table(("load", "replica", "all", *owners), rows)
    yield from _excess(result["samples"])


def _excess(samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the gateway's replicas take beyond those of the applications that only relay."""
    pairs = {"fingerpost-inline": "raw-inline", "fingerpost-dedicated": "raw-hop"}
    for name, relay in pairs.items():
        for load in dict.fromkeys(one["load"] for one in samples):
            own, lower = _owners_of(samples, name, load), _owners_of(samples, relay, load)
            if not own or not lower:
                continue
            more = {key: own.get(key, 0.0) - lower.get(key, 0.0) for key in {**own, **lower}}
            parts = sorted(more.items(), key=lambda pair: -pair[1])
            listed = ", ".join(f"{owner} {us:+.0f}" for owner, us in parts if round(us))
            yield (
                f"\n{load}: `{name}` takes {sum(more.values()):.0f} us more than `{relay}`: {listed}."
            )


def _owners_of(samples: Sequence[Mapping[str, Any]], variant: str, load: str) -> dict[str, float]:
    """The time of each owner in all replicas of a variant."""
    found: dict[str, float] = {}
    for one in samples:
        if (one["variant"], one["load"]) == (variant, load):
            for owner, us in one["owners"].items():
                found[owner] = found.get(owner, 0.0) + us
    return found


def _chunks(result: Mapping[str, Any]) -> Iterator[str]:
    yield "A provider sends each event alone, at a fixed rate, with the moment in it.\n"
    rows = [
        (
            name,
            f"{median(values):.3f}",
            f"{own['per_second']}",
            f"{own['half_per_second']}",
            f"{own['median_ms']}",
            f"{own['p99_ms']}",
        )
        for name, values in result["cpu_ms"].items()
        for own in [result["capacity"][name]]
    ]
    head = ("variant", "CPU ms a chunk", "chunks/s at most", "half of it", "late p50 ms", "p99 ms")
    yield from _table(head, rows)


def _replicas(result: Mapping[str, Any]) -> Iterator[str]:
    yield "Load generator, provider and replicas share the cores.\n"
    rows = [
        (
            str(one["replicas"]),
            f"{one['rps']:.0f}",
            f"{one['p50_ms']:.1f}",
            f"{one['p99_ms']:.1f}",
            f"{one['cpu_ms']:.3f}",
        )
        for one in result["medians"]
    ]
    yield from _table(("ingress replicas", "req/s", "p50 ms", "p99 ms", "CPU ms/req"), rows)


def _settings(result: Mapping[str, Any]) -> Iterator[str]:
    yield "CPU time with the setting, divided by that without it; medians.\n"
    names = list(result["settings"][0]["ratios"])
    rows = [
        (
            f"`{one['name']}`" if one["name"] else "",
            one["what"],
            *(f"{median(one['ratios'][name]):.2f}" for name in names),
        )
        for one in result["settings"]
    ]
    yield from _table(("setting", "what it changes", *names), rows)


def _at_rest(result: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (
            one["variant"],
            f"{one['start_s']:.1f}",
            f"{sum(usage['pss_mb'] for usage in one['usages']):.0f}",
            f"{sum(usage['cpu_percent'] for usage in one['usages']):.1f}",
        )
        for one in result["samples"]
    ]
    yield from _table(("the demo", "start s", "memory (PSS) MB", "% of a core"), rows)


def _startup(result: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (one["name"], f"{one['measured']:.2f} {one['unit']}", one["wanted"], _holds(one))
        for one in result["verdicts"]
    ]
    yield from _table(("figure", "measured", "goal", "holds"), rows)


def _decisions(result: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (str(row["tokens"]), f"{row['decision_p50_ms']:.1f}", f"{row['model_p50_ms']:.1f}")
        for row in result["by_tokens"]
    ]
    yield from _table(("tokens", "decision p50 ms, one thread", "the model alone"), rows)


def _growth(result: Mapping[str, Any]) -> Iterator[str]:
    first, second = result["halves"]
    rows = [
        (
            without_port(role),
            f"{result['start_mb'].get(role, 0.0):.0f}",
            f"{first['pss_mb'].get(role, 0.0):.0f}",
            f"{held:.0f}",
        )
        for role, held in second["pss_mb"].items()
        if "replica" in role
    ]
    head = ("process", "PSS MB at the start", f"after {first['requests']} requests")
    yield from _table((*head, f"after {second['requests']} more"), rows)


def _second_looks(result: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "The reranker has the shape of a usual one, six layers of 384 units, and a logit without "
        "meaning; a close call gets a second look.\n"
    )
    rows = []
    for limit, kinds in result["times_ms"].items():
        for kind, values in {**kinds, "all": [*kinds["clear"], *kinds["close"]]}.items():
            p50, p99 = (f"{quantile(values, share, nan):.1f}" for share in (0.5, 0.99))
            rows.append((limit, kind, str(len(values)), p50, p99))
    yield from _table(("`reranker_ms`", "decisions", "number", "p50 ms", "p99 ms"), rows)


def _soak(result: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (one["demand"], str(one["measured"]), _holds(one))
        for one in result["demands"]
        if "demand" in one
    ]
    yield from _table(("over the second half of the requests", "measured", "holds"), rows)


def _translation(result: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (pair["client"], pair["upstream"], f"{pair['event_ms']:.4f}") for pair in result["pairs"]
    ]
    yield from _table(("client", "provider", "CPU ms for an event of a stream"), rows)


def _surfaces(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{BAR_TEXT}\n"
    yield from _table(HEAD, [cells(row) for row in result["rows"]])


_SECTIONS: Final[tuple[tuple[str, str, Callable[[Mapping[str, Any]], Iterator[str]]], ...]] = (
    ("A request", "overhead", _overhead),
    ("Surfaces and dialects", "surfaces", _surfaces),
    ("Whose code a request runs", "profile_owners", _profile),
    ("Chunks of a stream", "chunk_cost", _chunks),
    ("Replicas", "replicas", _replicas),
    ("Settings of Ray Serve", "serve_settings", _settings),
    ("A decision", "decision_cost", _decisions),
    ("A second look", "second_look", _second_looks),
    ("A translated stream", "translation_cost", _translation),
    ("Start and memory", "startup", _startup),
    ("At rest", "idle", _at_rest),
    ("Memory under load", "growth", _growth),
    ("Growth", "soak", _soak),
)


def _holds(one: Mapping[str, Any]) -> str:
    return verdict(holds=one.get("holds"))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def cpu_picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the CPU per request of each variant as bars, as SVG; LiteLLM's are cut off."""
    shown = [row for row in rows if row["load"] in _PICTURED]
    others = [row["cpu_ms"] for row in shown if row["variant"] != "litellm"]
    longest = max(others, default=1.0)
    height = (_BAR_HEIGHT + 6) * len(shown) + 60
    svg = canvas(_WIDTH, height)
    y = 20
    for load in _PICTURED:
        write(svg, (10, y), f"{load}: CPU milliseconds for a request")
        y += 8
        for row in (row for row in shown if row["load"] == load):
            length = min(row["cpu_ms"] / longest, 1.0) * (_WIDTH - _LEFT - 80)
            bar = {"x": f"{_LEFT}", "y": f"{y}", "width": f"{max(length, 1):.1f}"}
            kind = "right" if row["variant"].startswith("fingerpost") else "share"
            ET.SubElement(svg, "rect", {"class": kind, "height": f"{_BAR_HEIGHT}", **bar})
            write(svg, (_LEFT - 8, y + 12), row["variant"], anchor="end")
            write(svg, (_LEFT + length + 6, y + 12), f"{row['cpu_ms']:.2f}")
            y += _BAR_HEIGHT + 6
        y += 18
    return ET.tostring(svg, encoding="unicode") + "\n"
