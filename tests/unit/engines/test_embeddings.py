"""The engine `embeddings`, with an embedding model behind a server on loopback."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from aiohttp import web

from serve_app.domain import Question, Reason, Route, Scores, TokenUsage, Turn, Unavailable
from serve_app.engines.embeddings import BATCH, EmbeddingsEngine, EmbeddingsSettings
from serve_app.engines.servers import own_server
from serve_app.exchange import Operation
from serve_app.scoring.embedding import EmbeddingScorer, Vector, texts_of
from tests.site import closed_port
from tests.unit.engines.chat_server import (
    SECRET,
    Answer,
    Server,
    embeddings,
    embeds,
    hangs,
    raw,
)

CODE: Final = Route("code", "writing programs, fixing bugs", (), examples=("sort this list",))
TRAVEL: Final = Route("travel", "booking flights, hotels", ())
ROUTES: Final = (CODE, TRAVEL)
GREETINGS: Final = ("hello there",)

Make = Callable[..., EmbeddingsEngine]


def unit(vector: list[float]) -> Vector:
    """The direction of a vector."""
    array = np.array(vector, np.float32)
    direction: Vector = array / np.float32(max(float(np.linalg.norm(array)), 1e-12))
    return direction


@pytest.fixture
async def make(server: Server) -> Any:
    """Builds engines that ask the server, and closes them after the test."""
    server.answer = embeddings
    made: list[EmbeddingsEngine] = []

    def engine(
        *,
        base_url: str | None = None,
        access_key: str | None = None,
        environ: dict[str, str] | None = None,
        **changed: Any,
    ) -> EmbeddingsEngine:
        at = own_server(base_url or server.url, "small", access_key, Operation.EMBEDDINGS)
        made.append(EmbeddingsEngine(replace(EmbeddingsSettings(at), **changed), environ or {}))
        return made[-1]

    yield engine
    for each in made:
        await asyncio.to_thread(each.close)
        await asyncio.to_thread(each.close)  # closing twice must be harmless


def question(text: str = "fixing bugs in programs", routes: tuple[Route, ...] = ROUTES) -> Question:
    return Question((Turn("user", text),), routes, "v1", no_route_examples=GREETINGS)


def inputs(server: Server) -> list[list[str]]:
    """The texts of each request so far."""
    return [body["input"] for body in server.bodies]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for happens on another thread
            await asyncio.sleep(0.01)


async def test_scores_are_those_of_the_scorer(server: Server, make: Make) -> None:
    """The server takes the place of the local encoder; its order of the vectors does not matter."""
    scores = await make().score(question())
    local = EmbeddingScorer(lambda text: unit(embeds(text)), min_confidence=0.12)
    text = question().turns[0].text
    expected = local.score(unit(embeds(text)), ROUTES, GREETINGS)
    assert isinstance(scores, Scores)
    assert scores.winner == "code"
    assert scores.routes == pytest.approx(expected.routes, abs=1e-4)
    assert scores.none == pytest.approx(expected.none, abs=1e-4)
    assert scores.usage == TokenUsage(len(text))


async def test_routes_are_embedded_at_start_and_on_reload(server: Server, make: Make) -> None:
    """Each text is embedded once, in a batch; a question is then one request with one text."""
    engine = make()
    engine.prepare(ROUTES, GREETINGS)
    await until(lambda: len(server.bodies) == 1)
    assert inputs(server) == [texts_of(ROUTES, GREETINGS)]
    assert isinstance(await engine.score(question()), Scores)
    assert inputs(server)[1:] == [["fixing bugs in programs"]]
    engine.prepare((*ROUTES, Route("poems", "songs, rhymes", ())), GREETINGS)
    await until(lambda: len(server.bodies) == 3)
    assert inputs(server)[2] == ["poems: songs, rhymes", "poems", "songs", "rhymes"]


async def test_new_routes_of_a_question_are_embedded_with_it(server: Server, make: Make) -> None:
    """Only the texts that are new are sent, also if two questions bring the same ones."""
    engine = make()
    await asyncio.gather(engine.score(question("a")), engine.score(question("b")))
    texts = [text for batch in inputs(server) for text in batch]
    assert sorted(texts) == sorted([*texts_of(ROUTES, GREETINGS), "a", "b"])


async def test_many_texts_are_several_requests(server: Server, make: Make) -> None:
    """Servers limit the number of texts in one."""
    routes = tuple(Route(f"route {n}", f"things of kind {n}", ()) for n in range(40))
    assert isinstance(await make().score(question(routes=routes)), Scores)
    sizes = [len(batch) for batch in inputs(server)]
    assert sum(sizes) == len(texts_of(routes, GREETINGS)) + 1
    assert sizes[:-1] == [BATCH, BATCH, BATCH, sum(sizes) - 1 - 3 * BATCH]


async def test_embedded_texts_survive_a_failure(server: Server, make: Make) -> None:
    """What one batch brought is not sent again when the next one fails."""
    routes = tuple(Route(f"route {n}", f"things of kind {n}", ()) for n in range(20))
    engine = make()

    async def second_fails(request: web.Request) -> web.StreamResponse:
        return await (raw(b"", 503) if len(server.bodies) == 2 else embeddings)(request)

    server.answer = second_fails
    assert isinstance(await engine.score(question(routes=routes)), Unavailable)
    assert isinstance(await engine.score(question(routes=routes)), Scores)
    first, failed, again, _ = inputs(server)
    assert (len(first), failed) == (BATCH, again)


async def test_long_text_keeps_head_and_tail(server: Server, make: Make) -> None:
    """The number of tokens is estimated; nothing is sent as a dash, and no half of a pair."""
    engine = make(max_query_tokens=8)
    await engine.score(question("begin " + "middle " * 99 + "end"))
    assert inputs(server)[-1] == ["begin middle mid … iddle middle end"]
    await engine.score(question("ünü" * 20))
    (text,) = inputs(server)[-1]
    assert text.startswith("ünü")
    assert len(text.encode()) <= 8 * 4 + len(" … ".encode())
    await engine.score(question("a \ud83d b"))
    assert inputs(server)[-1] == ["a ? b"]
    empty = replace(CODE, description="", examples=(" ",))
    await engine.score(question(routes=(empty,)))
    assert "-" in inputs(server)[-2]


async def test_only_the_words_of_the_user_are_compared(server: Server, make: Make) -> None:
    """An answer of the assistant is left out."""
    turns = (Turn("user", "fix this"), Turn("assistant", "done"), Turn("user", "thanks"))
    await make().score(replace(question(), turns=turns))
    assert inputs(server)[-1] == ["fix this\nthanks"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (raw(b"", 500), "returned an error (status 500)"),
        (raw(b"", 401), "rejected the key (status 401); set orchestrator.access_key"),
        (raw(b"<html>"), "returned an answer that is not a list of embeddings"),
        (raw(b"[]"), "returned an answer that is not a list of embeddings"),
        (raw(b'{"data": []}'), "returned an answer that is not a list of embeddings"),
        (raw(b'{"data": [null]}'), "returned an answer that is not a list of embeddings"),
        (raw(b'{"data": [{"embedding": "AAAA"}]}'), "returned an answer that is not a list of embeddings"),
        (raw(b'{"data": [{"embedding": []}]}'), "returned an answer that is not a list of embeddings"),
        (raw(b'{"data": [{"embedding": [NaN]}]}'), "returned an answer that is not a list of embeddings"),
        (raw(b'{"data": [{"embedding": [1]}, {"embedding": [1]}]}'), "returned an answer that is not a list of embeddings"),
        (raw(b"[" * 100_000), "returned an answer that is not a list of embeddings"),
    ],
)  # fmt: skip
async def test_faults_are_values(server: Server, make: Make, answer: Answer, text: str) -> None:
    """They name the server, and nothing of its answer."""
    server.answer = answer
    expected = Unavailable(Reason.ORCHESTRATOR_ERROR, f"{server.place} {text}")
    one = Route("a", "a", ())
    assert await make().score(Question((Turn("user", "a"),), (one,), "v1")) == expected


async def test_vectors_may_lack_their_places(server: Server, make: Make) -> None:
    """Then they are in the order of the texts."""

    async def unnumbered(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        return web.json_response({"data": [{"embedding": embeds(text)} for text in texts]})

    server.answer = unnumbered
    scores = await make().score(question())
    assert isinstance(scores, Scores)
    assert (scores.winner, scores.usage) == ("code", None)


async def test_another_model_on_the_server_is_a_fault(server: Server, make: Make) -> None:
    """Its vectors have another length than those of the routes."""
    engine = make()
    assert isinstance(await engine.score(question()), Scores)
    server.answer = raw(b'{"data": [{"embedding": [1, 2, 3]}]}')
    result = await engine.score(question("else"))
    assert isinstance(result, Unavailable)
    assert result.detail == (
        f"{server.place} returned vectors of 3 numbers after vectors of 64; "
        "restart the application if its model has changed"
    )


async def test_deadline_closes_the_connection(server: Server, make: Make) -> None:
    """The fault has the deadline, and the next question is answered."""
    engine = make(deadline_s=0.3)
    server.answer = hangs
    expected = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, f"{server.place} timed out after 0.3 s")
    assert await engine.score(question()) == expected
    await asyncio.wait_for(server.left.wait(), 5)
    server.answer = embeddings
    assert isinstance(await engine.score(question()), Scores)


async def test_cancelled_question_closes_its_connection(server: Server, make: Make) -> None:
    """The server notices that the request has been given up."""
    server.answer = hangs
    task = asyncio.create_task(make().score(question()))
    await asyncio.wait_for(server.asked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.left.wait(), 5)


async def test_failed_preparation_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """It does not stop the replica; the log says what happened, without the key."""
    url = f"http://127.0.0.1:{closed_port()}"
    engine = make(base_url=url, access_key="$KEY", environ={"KEY": SECRET})
    with caplog.at_level(logging.WARNING, "fingerpost"):
        engine.prepare(ROUTES)
        await until(lambda: bool(caplog.messages))
    (message,) = caplog.messages
    assert message.startswith("the texts of the routes could not be embedded: cannot connect to ")
    assert SECRET not in message + repr(engine)


async def test_closed_engine_prepares_nothing(server: Server, make: Make) -> None:
    """A reload may come after the end of a replica."""
    engine = make()
    await asyncio.to_thread(engine.close)
    engine.prepare(ROUTES)
    with pytest.raises(asyncio.CancelledError):
        await engine.score(question())
    assert server.bodies == []


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Every engine ends its thread."""
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert "embeddings-engine" not in names
