"""A crowd of clients that leave at random moments: providers are let go of, and never asked later."""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from tests.scripted_provider import ScriptedProvider
from tests.scripts import Headers, Line, Script, script_of
from tests.site import CHAT, MESSAGES, RESPONSES, Site, question
from tests.wire.conftest import serve_api

_AT_ONCE: Final = 40
"""Clients at the same time: each takes four sockets of this process."""
_WITHIN_S: Final = 1.0
_PAUSE_S: Final = 2.0
"""How long a provider asks to be left alone: then it is asked again, unless the client has left."""


class Way(NamedTuple):
    """What a client asks, and when it leaves."""

    script: str
    stream: bool
    path: str = CHAT
    fallback: str = ""
    sent: float = 1.0
    """The part of the body that is sent."""
    latest_s: float = 0.5
    """The longest time until the client leaves."""
    is_queued: bool = False
    """The model may be asked by two at once, and others wait for their turn."""


WAYS: Final = (
    Way("parrot", stream=False, sent=0.5),
    Way("endless", stream=True, sent=0.99),
    Way("hang", stream=False),
    Way("hang", stream=False, path=MESSAGES),
    Way("die-in-answer", stream=False, fallback="hang", path=RESPONSES),
    Way("hang", stream=True),
    Way("endless", stream=True),
    Way("endless", stream=True, path=MESSAGES),
    Way("endless", stream=True, path=RESPONSES),
    Way("hang-midstream", stream=True),
    Way("hang-midstream", stream=True, path=MESSAGES),
    Way("fails-later", stream=False, fallback="hang"),
    Way("fails-later", stream=True, fallback="endless"),
    Way("busy", stream=False),
    Way("busy", stream=True, path=MESSAGES),
    *(
        Way("hang", stream=stream, path=path, is_queued=True)
        for stream, path in ((False, CHAT), (True, CHAT), (True, MESSAGES))
    ),
)


class Watched:
    """The scripts of a provider, with the times at which exchanges begin and end, by model."""

    def __init__(self) -> None:
        self.begun: dict[str, list[float]] = defaultdict(list)
        self.ended: dict[str, list[float]] = defaultdict(list)

    def script(self, model: str) -> Script:
        """The script of a model."""
        name, _, client = model.partition("@")

        async def play(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
            self.begun[client].append(time.monotonic())
            try:
                await _OWN.get(name, script_of(name))(line, exchange, request)
            finally:
                self.ended[client].append(time.monotonic())

        return play

    @property
    def open(self) -> list[str]:
        """The clients for whom an exchange is open."""
        return [client for client, begun in self.begun.items() if len(begun) > self.ends(client)]

    def ends(self, client: str) -> int:
        """How many exchanges for a client have ended."""
        return len(self.ended[client])


async def _busy(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    error = b'{"error": {"message": "later", "code": "rate_limit_exceeded"}}'
    line.whole(error, 429, {"retry-after": f"{_PAUSE_S:g}"})


async def _fails_later(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    await asyncio.sleep(0.2)
    line.whole(b'{"error": {"message": "scripted"}}', 500)


_OWN: Final = {"busy": _busy, "fails-later": _fails_later}


@pytest.fixture(scope="module")
def watched() -> Watched:
    """What the provider sees."""
    return Watched()


@pytest.fixture(scope="module")
def crowd_site(tmp_path_factory: pytest.TempPathFactory, watched: Watched) -> Iterator[Site]:
    """A gateway with one provider: inside the ingress, over the hop, and with a queue."""
    with ScriptedProvider(find=watched.script) as provider:
        entries: list[dict[str, Any]] = [
            {
                "model": f"{slug}/*",
                "base_url": f"{provider.url[:-3]}/{slug}/v1",
                "provider_interface": "vllm",
            }
            for slug in ("inline", "framed", "queued")
        ]
        entries[-1]["limits"] = {"concurrent": 2}
        file = tmp_path_factory.mktemp("crowd") / "gateway.yaml"
        file.write_text(json.dumps({"version": "v0.4.0", "model_providers": entries}))
        with serve_api(file, {}, {}) as running:
            yield running


async def _leave(site: Site, number: int, chance: random.Random) -> tuple[str, float]:
    """Asks in one of the ways and leaves; returns the client's name, and when it left."""
    way = chance.choice(WAYS)
    client = f"{way.script}-{number}"
    slug = "queued" if way.is_queued else chance.choice(("inline", "framed"))
    request = {**question(way.path, "hi"), "model": f"{slug}/{way.script}@{client}"}
    if way.fallback:
        request["fallbacks"] = [f"{slug}/{way.fallback}@{client}"]
    body = json.dumps({**request, "stream": way.stream}).encode()
    head = f"POST {way.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(site.host, site.port)
    writer.write(head + body[: int(len(body) * way.sent)])
    await writer.drain()
    reading = asyncio.create_task(_read_on(reader))
    await asyncio.sleep(chance.uniform(0.0, way.latest_s))
    reading.cancel()
    if chance.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()
    return client, time.monotonic()


async def _read_on(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def _leave_all(site: Site, count: int) -> dict[str, float]:
    """All clients, some at a time; when each left."""
    chance = random.Random(count)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> tuple[str, float]:
        async with room:
            return await _leave(site, number, chance)

    return dict(await asyncio.gather(*map(one, range(count))))


@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.long)])
def test_leaving_crowd_is_let_go_of(crowd_site: Site, watched: Watched, count: int) -> None:
    """A second after a client has left, its exchange is closed, and no other one is begun."""
    watched.begun.clear()
    watched.ended.clear()
    left = asyncio.run(_leave_all(crowd_site, count))
    time.sleep(_PAUSE_S + _WITHIN_S)
    assert not watched.open
    late = {
        client: (begun, ended, left[client])
        for client, begun in watched.begun.items()
        for ended in [watched.ended[client]]
        if max(begun) > left[client] + _WITHIN_S or max(ended) > left[client] + _WITHIN_S
    }
    assert not late
    assert len(watched.begun) > count // 2
    assert not any(client.startswith("parrot") for client in watched.begun)
    slugs = ("inline", "framed", "queued")
    assert [crowd_site.ask(f"{slug}/parrot").status for slug in slugs] == [200] * len(slugs)
