"""Which resting endpoints are probed, how often, and what comes of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from serve_app.domain import ModelRef
from serve_app.exchange import (
    FaultKind,
    RestReport,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.requests import probes
from serve_app.requests.health import Health
from serve_app.requests.probes import Probes, judge_probe
from serve_app.requests.shared_health import SharedHealth
from serve_app.requests.verdict import Meaning, judge_fault, judge_status
from serve_app.snapshot import Snapshot
from tests.unit.config.broken import V
from tests.unit.fakes import FakeClock, fault, reply, snapshot_of

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, access_key: $A}}
  - {{model: openai/a, access_key: $B}}
  - {{model: anthropic/*, access_key: $C}}
  - {{model: mistral/m, passthrough_auth: true}}
"""
ON = "probes: {every_s: 0.02, timeout_s: 3}\n"
UNREACHABLE = judge_fault(UpstreamFault(FaultKind.CONNECT, "x"))
BAD_KEY, NO_FUNDS, SERVER_ERROR = judge_status(401), judge_status(402), judge_status(500)


class Server:
    """Answers every probe alike, after a wait, and records it."""

    def __init__(self, answer: UpstreamReply | UpstreamFault) -> None:
        self.answer = answer
        self.wait_s = 0.0
        self.requests: list[UpstreamRequest] = []
        self.cancelled = 0

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        self.requests.append(request)
        try:
            await asyncio.sleep(self.wait_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer


class Claims:
    """A board on which another replica has claimed everything."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def share(self, own: Sequence[RestReport]) -> list[RestReport]:
        return list(own)

    async def claim(self, endpoint: str, for_s: float) -> bool:
        del for_s
        self.asked.append(endpoint)
        return False


class Bench:
    """Probes over fakes; the clock moves by hand, the pauses are real and short."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.clock = FakeClock()
        self.health = Health(self.clock)
        self.server = Server(fault(FaultKind.CONNECT))
        self.probes = Probes(self.server, self.health, self.clock, lambda: self.snapshot)

    def name(self, model: str, ordinal: int = 0) -> str:
        """The fingerprint of an endpoint."""
        endpoint = self.snapshot.providers.endpoint(ModelRef(*model.split("/")), ordinal)
        assert endpoint is not None
        return endpoint.fingerprint

    def lose(self, model: str, ordinal: int = 0) -> str:
        """Makes an endpoint rest because it cannot be reached."""
        name = self.name(model, ordinal)
        for _ in range(3):
            self.health.failed(name, model.split("/")[1], UNREACHABLE)
        return name

    async def probe(self, for_s: float = 0.1) -> list[str]:
        """The endpoints that were probed in this time."""
        self.server.requests.clear()
        self.probes.touch()
        await asyncio.sleep(for_s)
        return [f"{request.model} {request.endpoint}" for request in self.server.requests]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Probes are on."""
    made = Bench(snapshot_of(tmp_path, TEXT + ON))
    yield made
    await made.probes.aclose()


async def test_probe_asks_for_the_list_of_models(bench: Bench) -> None:
    """It sends no body, takes a new connection, and is the same for a model and a wildcard."""
    for model in ("openai/a", "anthropic/claude"):
        bench.lose(model)
    await bench.probe(0.01)
    first, second = bench.server.requests
    for one in (first, second):
        assert (one.method, one.path, one.body, one.headers) == ("GET", "/models", b"", ())
        assert (one.fresh, one.stream, one.deadline_s, one.attempt_s) == (True, False, 3, 3)
        assert one.policy == bench.snapshot.version
    assert {one.model.provider: one.operation for one in (first, second)} == {
        "openai": "chat",
        "anthropic": "messages",
    }


async def test_failed_probe_extends_the_rest(bench: Bench) -> None:
    """As a failed request does, and at least until after the next probe."""
    name = bench.lose("openai/a", 1)
    assert bench.health.rests()[0].left_s == pytest.approx(2)
    assert await bench.probe(0.01) == ["openai/a 1"]
    assert bench.health.rests()[0].left_s == pytest.approx(0.02 + 3 + 1)
    for _ in range(6):
        bench.clock.now += 1
        await asyncio.sleep(0.03)
    assert bench.health.rests()[0].left_s > 25  # the longest rest is 30 s
    assert bench.health.rests_now(name, "a")
    assert not bench.health.rests_now(bench.name("openai/a", 0), "a")


async def test_good_probe_ends_the_rest_for_one_request(bench: Bench) -> None:
    """The first request tries the endpoint while others go on avoiding it; then all do."""
    bench.server.answer = reply(404, b"{}")
    name = bench.lose("openai/a")
    await bench.probe(0.05)
    assert len(bench.server.requests) == 1
    assert not bench.health.rests_now(name, "a")
    bench.health.begin(name, "a")
    assert bench.health.rests_now(name, "a")
    bench.health.succeeded(name, "a")
    assert not bench.health.rests_now(name, "a")
    bench.lose("openai/a")
    assert bench.health.rests()[0].left_s == pytest.approx(2)


async def test_good_probe_ends_the_rest_of_a_key_and_its_model(bench: Bench) -> None:
    """A refused key rests as a whole and for the model that was asked."""
    bench.server.answer = reply(200, b"{}")
    name = bench.name("openai/a")
    bench.health.failed(name, "a", BAD_KEY)
    await bench.probe(0.05)
    assert not bench.health.rests_now(name, "a")
    bench.health.failed(name, "a", BAD_KEY)
    assert {report.left_s for report in bench.health.rests()} == {120}
    bench.clock.now += 100
    assert await bench.probe(0.05) == [], "a list of models that misled is not believed again"
    for _ in range(3):
        bench.health.failed(name, "a", BAD_KEY)
    bench.clock.now += 501
    assert await bench.probe(0.05) == ["openai/a 0"]


async def test_only_what_rests_as_a_whole_is_probed(bench: Bench) -> None:
    """A list of models says nothing about money, quotas, or one model that fails."""
    name = bench.name("openai/a")
    bench.health.failed(name, "a", NO_FUNDS)
    bench.health.failed(name, "a", judge_status(403))
    for _ in range(3):
        bench.health.failed(bench.name("openai/a", 1), "a", SERVER_ERROR)
    bench.health.spent(bench.name("openai/a", 1), "a", 60)
    for _ in range(3):
        bench.health.failed(bench.name("mistral/m"), "m", UNREACHABLE)  # the key is the client's
        bench.health.failed("of an earlier configuration", "m", UNREACHABLE)
    before = asyncio.all_tasks()
    assert await bench.probe() == []
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("is_switched_off", [True, False])
async def test_probes_run_only_while_something_rests(
    is_switched_off: bool, bench: Bench, tmp_path: Path
) -> None:
    """No task is left when nothing rests, or when probes are switched off."""
    before = asyncio.all_tasks()
    assert await bench.probe(0.05) == []
    bench.lose("openai/a")
    assert asyncio.all_tasks() == before
    assert await bench.probe(0.01) == ["openai/a 0"]
    assert asyncio.all_tasks() != before
    if is_switched_off:
        bench.snapshot = snapshot_of(tmp_path, TEXT)
    else:
        bench.clock.now += 60
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    bench.probes.touch()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_endpoint_is_probed_at_its_pace(bench: Bench) -> None:
    """Two probes of an endpoint are at least ``every_s`` apart, whatever touches them."""
    bench.lose("openai/a")
    for _ in range(5):
        await bench.probe(0.01)
    assert await bench.probe(0.05) == []
    bench.clock.now += 0.03
    assert await bench.probe(0.05) == ["openai/a 0"]


async def test_probes_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a few run at once; the others have their turn."""
    monkeypatch.setattr(probes, "_AT_ONCE", 1)
    bench.lose("openai/a", 0)
    bench.lose("openai/a", 1)
    bench.server.wait_s = 0.05
    assert await bench.probe(0.03) == ["openai/a 0"]
    await asyncio.sleep(0.1)
    assert [request.endpoint for request in bench.server.requests] == [0, 1]


async def test_closing_gives_up_a_probe(bench: Bench) -> None:
    """What is under way is cancelled, and no task is left."""
    before = asyncio.all_tasks()
    bench.server.wait_s = 60
    bench.lose("openai/a")
    await bench.probe(0.01)
    assert asyncio.all_tasks() != before
    await bench.probes.aclose()
    assert bench.server.cancelled == 1
    assert asyncio.all_tasks() == before
    await bench.probes.aclose()


async def test_claimed_endpoint_is_left_to_its_replica(bench: Bench) -> None:
    """Of several replicas one probes."""
    board = Claims()
    bench.probes.shared = SharedHealth(bench.health, board, bench.clock)
    name = bench.lose("openai/a")
    assert await bench.probe() == []
    assert board.asked == [name]


async def test_request_that_is_faster_counts(bench: Bench) -> None:
    """A probe changes nothing if its endpoint no longer rests when it ends."""
    bench.server.wait_s = 0.03
    name = bench.lose("openai/a")
    await bench.probe(0.01)
    bench.health.succeeded(name, "a")
    await asyncio.sleep(0.05)
    assert bench.health.rests() == []


async def test_result_is_shared_before_the_board_can_contradict(bench: Bench) -> None:
    """A rest that a probe has ended is not taken over from the board, and is taken down there."""
    name = bench.lose("openai/a")
    (put_up,) = bench.health.news()
    bench.health.probed(name, Meaning.UNREACHABLE, is_over=True, next_in_s=1)
    bench.health.adopt([put_up])
    assert not bench.health.rests_now(name, "a")
    assert bench.health.news() == [RestReport(name, "", 0.0, "")]


@pytest.mark.parametrize(
    ("outcome", "unreachable", "bad_key"),
    [
        (reply(200), True, True),
        (reply(302), True, None),
        (reply(401), True, False),
        (reply(403), True, None),
        (reply(404), True, None),
        (reply(429), True, None),
        (reply(502), False, None),
        (fault(FaultKind.CONNECT), False, None),
        (fault(FaultKind.RESET), False, None),
        (fault(FaultKind.TIMEOUT), False, None),
        (fault(FaultKind.NO_KEY), None, None),
        (fault(FaultKind.HOP), None, None),
        (fault(FaultKind.STALE_POLICY), None, None),
    ],
)
def test_probe_says_what_it_can(
    outcome: UpstreamReply | UpstreamFault, unreachable: bool | None, bad_key: bool | None
) -> None:
    """Any answer but a server error shows that an endpoint can be reached; a key needs a success."""
    for why in (Meaning.UNREACHABLE, Meaning.RESET):
        assert judge_probe(why, outcome) is unreachable
    assert judge_probe(Meaning.BAD_KEY, outcome) is bad_key
