"""A chat server on loopback that answers as it is told, and engines that ask it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from serve_app.domain import Question, Route, Scores, Turn
from serve_app.engines.http import HttpEngine

SECRET = "sk-very-secret-key"
ROUTES = (
    Route("code", "writing code", ()),
    Route("travel", "booking travel", ()),
    Route('say "hi"', "greetings", ()),
)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def question(text: str = "Write a function", routes: tuple[Route, ...] = ROUTES) -> Question:
    return Question((Turn("user", text),), routes, "v1")


def won(route: str | None) -> Scores:
    return Scores(routes={}, threshold=0.0, winner=route)


def completion(text: Any, **more: Any) -> web.Response:
    """A chat completion; ``finish_reason`` goes to its choice, other keys to the whole."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    if "finish_reason" in more:
        choice["finish_reason"] = more.pop("finish_reason")
    return web.json_response({"object": "chat.completion", "choices": [choice], **more})


def says(text: Any, **more: Any) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return completion(text, **more)

    return answer


def embeds(text: str) -> list[float]:
    """A text as the words that it holds, each in one of 64 places by its letters."""
    vector = [0.0] * 64
    for word in re.findall(r"\w+", text.lower()):
        vector[sum(map(ord, word)) % 64] += 1.0
    return vector


async def embeddings(request: web.Request) -> web.StreamResponse:
    """Embeds all texts, and returns them in another order."""
    texts = (await request.json())["input"]
    rows = [{"index": at, "embedding": embeds(text)} for at, text in enumerate(texts)]
    usage = {"prompt_tokens": sum(map(len, texts)), "total_tokens": 0}
    return web.json_response({"object": "list", "data": rows[::-1], "usage": usage})


def raw(body: bytes, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def refuses_schemas(request: web.Request) -> web.StreamResponse:
    if "response_format" in await request.json():
        return web.json_response({"error": {"message": "response_format?"}}, status=400)
    return completion("travel")


async def breaks_on_schemas(request: web.Request) -> web.StreamResponse:
    if "response_format" in await request.json():
        return web.Response(status=500, body=b"no such grammar")
    return completion("travel")


async def complains_of_schemas(request: web.Request) -> web.StreamResponse:
    if "response_format" in await request.json():
        return web.json_response({"error": {"message": "response_format?"}})
    return completion("travel")


async def thinks(request: web.Request) -> web.StreamResponse:
    message = {"role": "assistant", "content": None, "reasoning_content": "code, or travel?"}
    return web.json_response({"choices": [{"finish_reason": "length", "message": message}]})


async def hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def dies(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": ')
    return await dies(request)


class Server:
    """A server that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = says('{"route": "code"}')
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self.peers: set[object] = set()

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.json())
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.asked.set()
        try:
            return await self.answer(request)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.take)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    @property
    def place(self) -> str:
        return self.url.removeprefix("http://")


Make = Callable[..., HttpEngine]
