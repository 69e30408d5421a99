"""Measures whether a gateway grows: memory, tasks, sockets and containers over many requests.

    .venv/bin/python benchmarks/soak.py [--requests 50000]

The gateway runs without Ray in a process of its own. Requests of all surfaces, complete and
streamed, in sessions, with earlier answers, to providers of every dialect, some of which fail, and
from clients that leave, come in rounds of a thousand; the configuration is replaced between rounds.
After each round, when nothing is under way, the gateway collects its garbage and is measured. The
limits of what it keeps are low, so that all of it is full in the first half.

The demands: in the second half the process, and what it has in use of its memory, grow by less than
1 KB for 100 requests; tasks, open files and sockets do not grow; every answer is the expected one.
The process holds more memory than is in use, because freed blocks lie between used ones.
Objects are counted by a child process, so that the lists for that leave no holes in the measured one.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, Final

import aiohttp

from benchmarks.lib.cluster import HERE
from benchmarks.lib.machine import headline, machine
from benchmarks.lib.ports import free_ports
from benchmarks.lib.processes import clean_environment, running, temporary_folder
from benchmarks.lib.script import end_on_terminate, script_parser, verdict, write_results
from benchmarks.lib.soaked_gateway import ROUTES, SIZE_PATH
from tests.matrix import vendor
from tests.matrix.cases import DIALECTS
from tests.scripted_provider import ScriptedProvider
from tests.scripts import Script
from tests.site import CHAT, MESSAGES, RESPONSES, question
from tests.wire import faults

_ROUND: Final = 1000
_AT_ONCE: Final = 16
_SESSIONS, _TEXTS = 300, 200
_BAR_KB: Final = 1.0
_BAR_BLOCKS: Final = 2.0
"""Growth for 100 requests; a block has 512 bytes at most."""
_PAUSE_S: Final = 0.3
_START_S: Final = 60.0
_PATHS: Final = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}
_SAVED: Final = ("500", "503", "too-long-0", "reset-before-head", "page-502")
_SAVED_STREAMS: Final = ("empty-stream", "end-before-content", "error-before-content")
_LOST: Final = {"400": 400, "422": 422, "redirect": 502, "filter": 400}
"""Faults after which no other model is asked, or none is there."""
_KINDS: Final = {
    "plain": 45,
    "auto": 12,
    "earlier": 8,
    "saved": 16,
    "lost": 6,
    "broken": 5,
    "leaving": 4,
    "models": 4,
}
"""Requests by kind, of a hundred."""


def _script(model: str) -> Script:
    """The script of a fault, or else of the vendor's model."""
    if any(model == fault.name for fault in faults.FAULTS):
        return faults.script(model)
    return vendor.script(model)


@dataclass(slots=True)
class Requests:
    """Sends the requests of a round, and keeps what was not as expected."""

    session: aiohttp.ClientSession
    url: str
    chance: random.Random
    wrong: list[str] = field(default_factory=list)
    sent: int = 0
    earlier: str | None = None

    async def round(self, count: int) -> None:
        """Sends that many requests, some at a time."""
        kinds = self.chance.choices([*_KINDS], [*_KINDS.values()], k=count)
        waiting = iter(kinds)

        async def work() -> None:
            for kind in waiting:
                self.sent += 1
                await self._send(kind)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    async def _send(self, kind: str) -> None:
        if kind == "models":
            await self._expect(await self._get("/v1/models"), 200, kind)
            return
        client = "responses" if kind == "earlier" else self.chance.choice(DIALECTS)
        upstream = self.chance.choice(DIALECTS)
        body, expected = self._body(kind, client, upstream)
        headers = {}
        if kind == "auto":
            headers["x-model-affinity"] = f"session-{self.chance.randrange(_SESSIONS)}"
        if kind == "leaving":
            await self._leave(_PATHS[client], body)
            return
        status, answer = await self._post(_PATHS[client], body, headers)
        await self._expect((status, answer), expected, f"{kind} {body['model']} for {client}")
        if kind == "earlier":
            self.earlier = json.loads(answer).get("id")

    def _body(self, kind: str, client: str, upstream: str) -> tuple[dict[str, Any], int]:
        """The body, and the status that is expected."""
        stream = self.chance.random() < 0.5
        name, expected = f"text@{self.sent}", 200
        more: dict[str, Any] = {}
        text = "hi"
        match kind:
            case "auto":
                route = self.chance.choice(ROUTES)
                text = f"more {route}, {self.chance.randrange(_TEXTS)}"
            case "saved":
                name = self.chance.choice(_SAVED_STREAMS if stream else _SAVED)
                more = {"fallbacks": [f"up-{self.chance.choice(DIALECTS)}/text"]}
            case "lost":
                name, expected = self.chance.choice([*_LOST.items()])
            case "broken":
                name, stream = "end-after-content", True
            case "leaving":
                name, stream = vendor.SILENT, True
            case "earlier":
                stream = False
                upstream = "messages"
                more = {"previous_response_id": self.earlier} if self.earlier else {}
        model = "auto" if kind == "auto" else f"up-{upstream}/{name}"
        body = {**question(_PATHS[client], text), "model": model, "stream": stream, **more}
        return body, expected

    async def _get(self, path: str) -> tuple[int, bytes]:
        async with self.session.get(self.url + path) as answer:
            return answer.status, await answer.read()

    async def _post(
        self, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, bytes]:
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def _leave(self, path: str, body: dict[str, Any]) -> None:
        """Reads the head, or not even that, and leaves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.uniform(0.0, 0.2)):
                async with self.session.post(self.url + path, json=body) as answer:
                    await answer.content.readany()
                    answer.close()

    async def _expect(self, answer: tuple[int, bytes], status: int, what: str) -> None:
        if answer[0] != status:
            self.wrong.append(f"{what}: {answer[0]} {answer[1][:200].decode(errors='replace')}")


@dataclass(frozen=True, slots=True)
class Sample:
    """The size after some requests."""

    requests: int
    seconds: float
    size: dict[str, Any]


def _write(file: Path, provider: ScriptedProvider, version: int) -> None:
    entries = [
        {
            "model": f"up-{dialect}/*",
            "base_url": provider.url,
            "provider_interface": "anthropic" if dialect == "messages" else "openai",
            "operations": [dialect],
            "access_key": "sk-scripted",
        }
        for dialect in DIALECTS
    ]
    config = {
        "version": "v0.4.0",
        "model_providers": entries,
        "routing_preferences": [
            {"name": route, "description": route, "models": [f"up-{dialect}/text"]}
            for route, dialect in zip(ROUTES, DIALECTS, strict=False)
        ],
        "routing": {"session_max_entries": _SESSIONS // 2},
        "state_storage": {"max_megabytes": 1},
        "timeouts": {"idle_s": 5.0 + version},
    }
    file.write_text(json.dumps(config))


async def _soak(
    url: str, file: Path, provider: ScriptedProvider, requests: int
) -> tuple[list[Sample], list[str]]:
    samples: list[Sample] = []
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        load = Requests(session, url, random.Random(1))  # noqa: S311 - not for secrets
        while load.sent < requests:
            _write(file, provider, len(samples))
            await load.round(min(_ROUND, requests - load.sent))
            await asyncio.sleep(_PAUSE_S)
            provider.ledger.exchanges.clear()
            async with session.get(url + SIZE_PATH) as answer:
                size = await answer.json(content_type=None)
            samples.append(Sample(load.sent, round(time.monotonic() - began, 1), size))
            print(
                {**size, "types": None, "requests": load.sent, "wrong": len(load.wrong)}, flush=True
            )
        return samples, load.wrong


def run(requests: int) -> tuple[list[Sample], list[str]]:
    """Runs the gateway and its providers; returns the sizes and the answers that were wrong."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        provider = stack.enter_context(ScriptedProvider(find=_script))
        file = folder / "gateway.yaml"
        _write(file, provider, 0)
        (port,) = free_ports(1)
        module = "benchmarks.lib.soaked_gateway"
        command = [sys.executable, "-m", module, str(file), str(port)]
        environ = {**clean_environment(), "PYTHONPATH": HERE.python_path}
        server = stack.enter_context(running(command, environ, folder / "log"))
        url = f"http://127.0.0.1:{port}"
        server.wait_for(f"{url}/healthz", _START_S)
        return asyncio.run(_soak(url, file, provider, requests))


def growth(samples: Sequence[Sample], name: str) -> float:
    """Returns the growth of a figure for 100 requests over the second half, by least squares."""
    half = samples[len(samples) // 2 :]
    return (
        100
        * linear_regression([one.requests for one in half], [one.size[name] for one in half]).slope
    )


def _grown_types(samples: Sequence[Sample]) -> dict[str, int]:
    """Returns the types of which there are more at the end than in the middle."""
    middle, end = samples[len(samples) // 2].size["types"], samples[-1].size["types"]
    more = {name: end[name] - middle.get(name, 0) for name in end}
    return dict(sorted(more.items(), key=lambda item: -item[1])[:10])


def demands(samples: Sequence[Sample], wrong: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Returns each demand, what was measured, and whether it holds."""
    rows = []
    for what, name, unit, bar in (
        ("the process's memory", "rss_kb", "KB", _BAR_KB),
        ("memory in use by C's allocator", "malloc_kb", "KB", _BAR_KB),
        ("memory in use by Python's allocator", "blocks", "blocks", _BAR_BLOCKS),
    ):
        grown = growth(samples, name)
        demand = f"{what} grows by less than {bar:g} {unit} for 100 requests"
        rows.append((demand, f"{grown:.2f} {unit}", grown < bar))
    for name in ("tasks", "files", "sockets"):
        half = [one.size[name] for one in samples[len(samples) // 2 :]]
        first, last = (median(half[:3]), median(half[-3:]))
        rows.append((f"{name} do not grow", f"{first:g}, then {last:g}", last <= first))
    rows.append(("every answer is as expected", f"{len(wrong)} are not", not wrong))
    return rows


def table(samples: Sequence[Sample], rows: Sequence[tuple[str, str, bool]]) -> str:
    """Returns the demands and up to twelve samples as Markdown."""
    lines = ["| demand, over the second half | measured | holds |", "|---|---|---|"]
    lines += [f"| {what} | {measured} | {verdict(holds=holds)} |" for what, measured, holds in rows]
    names = ("rss_kb", "malloc_kb", "blocks", "contained", "tasks", "files", "sockets", "threads")
    lines += ["", f"| requests | seconds | {' | '.join(names)} |", "|--:" * 10 + "|"]
    step = max(1, len(samples) // 12)
    for one in samples[step - 1 :: step]:
        cells = " | ".join(str(one.size[name]) for name in names)
        lines.append(f"| {one.requests} | {one.seconds} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Runs the benchmark; returns 0 if all demands hold."""
    parser = script_parser(__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    options = parser.parse_args()
    end_on_terminate()
    about = machine()
    samples, wrong = run(options.requests)
    about["load_average_after"] = machine()["load_average"]
    rows = demands(samples, wrong)
    text = table(samples, rows)
    print("\n" + text, *wrong[:5], sep="\n")
    result = {
        "machine": about,
        "demands": [{"demand": one, "measured": two, "holds": three} for one, two, three in rows],
        "wrong": wrong[:20],
        "grown_types": _grown_types(samples),
        "samples": [
            {"requests": one.requests, "seconds": one.seconds, **one.size, "types": None}
            for one in samples
        ],
    }
    head = f"# Soak\n\n{headline(about)} How: benchmarks/soak.py.\n\n"
    write_results(options.results, "soak", result, head + text)
    return 0 if all(holds for _, _, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
