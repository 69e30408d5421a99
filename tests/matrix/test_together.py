"""Many streams at the same time, by the asynchronous SDKs."""

import asyncio
import json
from itertools import product
from typing import Any, Final

import anthropic
import openai

from tests.matrix.cases import DIALECTS, TOLD, Case
from tests.matrix.conftest import CLIENTS, Bench, model_of

_ROUNDS: Final = 4
_CALLS: Final = list(TOLD[Case.PARALLEL_TOOLS].calls)


async def _chat(sdk: Any, model: str, asked: dict[str, Any]) -> list[Any]:
    arguments: dict[int, str] = {}
    async for chunk in await sdk.chat.completions.create(model=model, stream=True, **asked):
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                before = arguments.get(call.index, "")
                arguments[call.index] = before + (call.function.arguments or "")
    return [json.loads(text) for text in arguments.values()]


async def _messages(sdk: Any, model: str, asked: dict[str, Any]) -> list[Any]:
    async with sdk.messages.stream(model=model, **asked) as stream:
        message = await stream.get_final_message()
    return [block.input for block in message.content]


async def _responses(sdk: Any, model: str, asked: dict[str, Any]) -> list[Any]:
    async with sdk.responses.stream(model=model, **asked) as stream:
        response = await stream.get_final_response()
    return [json.loads(item.arguments) for item in response.output]


_ASK: Final = {"chat": _chat, "messages": _messages, "responses": _responses}


async def test_streams_do_not_meet(bench: Bench) -> None:
    """Streams of every pair of dialects at once, in small pieces: each client gets its own."""
    settings: dict[str, Any] = {"api_key": "client-key", "max_retries": 0}
    async with (
        openai.AsyncOpenAI(base_url=f"{bench.site.url}/v1", **settings) as ours,
        anthropic.AsyncAnthropic(base_url=bench.site.url, **settings) as theirs,
    ):
        pairs = [*product(DIALECTS, DIALECTS)] * _ROUNDS
        answers = await asyncio.gather(
            *(
                _ASK[client](
                    theirs if client == "messages" else ours,
                    model_of(upstream, f"{Case.PARALLEL_TOOLS}@{number}"),
                    CLIENTS[client].request(Case.PARALLEL_TOOLS),
                )
                for number, (client, upstream) in enumerate(pairs)
            )
        )
    assert answers == [_CALLS] * len(pairs)
