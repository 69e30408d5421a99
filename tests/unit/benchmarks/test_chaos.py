"""What chaos.py and soak.py make of outcomes and sizes."""

from dataclasses import replace

from benchmarks.chaos import EVENTS, report, table
from benchmarks.lib.clients import CUT, CUT_WITH_ERROR, LOST, OK, Outcome
from benchmarks.soak import Sample, demands, growth

UNARY = Outcome("complete", 1.0, 1.5, 1.5, OK, 1)
STREAM = Outcome("stream", 1.0, 1.1, 3.0, OK, 1)
PROVIDER = next(event for event in EVENTS if event.name == "provider-cuts")
INGRESS = next(event for event in EVENTS if event.name == "ingress-killed")
REDIS = next(event for event in EVENTS if event.name == "redis-killed")
CALM = [UNARY, STREAM]


def later(outcome: Outcome, **changes: object) -> Outcome:
    """An outcome after the event, which is at 5.0."""
    shift = {name: getattr(outcome, name) + 9.0 for name in ("began_s", "headed_s", "ended_s")}
    return replace(outcome, **{**shift, **changes})


def test_report_of_calm_event_holds() -> None:
    """Without a failure all demands hold, and nothing is disturbed."""
    calm = report(PROVIDER, [*CALM, later(UNARY), later(STREAM)], {}, 5.0)
    assert all(calm.demands.values())
    assert (calm.unary, calm.streams, calm.disturbed_s) == (2, 2, 0.0)
    assert table([calm]).endswith("| yes |")


def test_report_tells_ends_of_streams_apart() -> None:
    """A stream may end by an error event; a broken connection counts only where an ingress dies;
    an end that looks complete counts always.
    """
    with_error = later(STREAM, result=CUT_WITH_ERROR)
    broken = later(STREAM, result=CUT, detail="ClientPayloadError: not completed")
    silent = later(STREAM, result=CUT, detail="data: half")
    told = report(PROVIDER, [*CALM, with_error], {}, 5.0)
    assert (told.with_error, told.disturbed_s) == (1, 7.0)
    assert all(told.demands.values())
    for event, stream, holds in (
        (PROVIDER, broken, False),
        (INGRESS, broken, True),
        (INGRESS, silent, False),
    ):
        demands_of = report(event, [*CALM, stream], {}, 5.0).demands
        assert demands_of["no stream without an end"] is holds


def test_report_counts_lost_requests_and_moved_sessions() -> None:
    """Each fails its demand; sessions may move where the event says so."""
    lost = later(UNARY, result=LOST, detail="ServerDisconnectedError: gone")
    moved = later(UNARY, kind="session 1", model="p/other")
    found = report(PROVIDER, [*CALM, lost, moved], {"session 1": "p/one"}, 5.0)
    assert found.lost == {LOST: 1}
    assert found.first_loss.startswith("ServerDisconnectedError")
    assert [name for name, holds in found.demands.items() if not holds] == [
        "no complete request lost",
        "no session moved",
    ]
    assert "no session moved" not in report(REDIS, [*CALM, moved], {"session 1": "x"}, 5.0).demands


def test_growth_is_of_second_half() -> None:
    """What grows in the first half alone is filled, and does not count."""
    sizes = [0, 400, 800, 1000, 1000, 1000, 1000, 1000]
    steady = {"malloc_kb": 7, "blocks": 8, "tasks": 2, "files": 9, "sockets": 5}
    samples = [
        Sample(1000 * number, 0.0, {"rss_kb": size, **steady})
        for number, size in enumerate(sizes, 1)
    ]
    assert growth(samples, "rss_kb") == 0.0
    assert all(holds for _, _, holds in demands(samples, []))
    samples[-1] = Sample(8000, 0.0, {"rss_kb": 2000, **steady})
    measured = {what: holds for what, _, holds in demands(samples, ["wrong"])}
    assert list(measured.values()) == [False, True, True, True, True, True, False]
