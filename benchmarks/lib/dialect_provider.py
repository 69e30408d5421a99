"""A provider that answers in the dialect of the path: chat, messages or responses.

    python -m benchmarks.lib.dialect_provider --port PORT

Every answer is the same: complete, or a stream of CONTENT_EVENTS pieces of text, sent without a pause.
"""

import argparse
from typing import Any, Final

import uvloop

from benchmarks.lib.dialect_streams import DIALECTS, complete_of, stream_of
from benchmarks.lib.variants import CONTENT_EVENTS
from serve_app.exchange import PATHS
from tests.scripted_provider import serve
from tests.scripts import Headers, Line, Script

_STREAM: Final = {"content-type": "text/event-stream; charset=utf-8"}
_PIECES: Final = ["word "] * CONTENT_EVENTS
_STREAMS: Final = {PATHS[dialect]: stream_of(dialect, _PIECES) for dialect in DIALECTS}
_ANSWERS: Final = {PATHS[dialect]: complete_of(dialect, "".join(_PIECES)) for dialect in DIALECTS}


async def _answer(line: Line, exchange: Headers, request: dict[str, Any]) -> None:
    operation = exchange.path.removeprefix("/v1")
    if not request.get("stream"):
        line.whole(_ANSWERS[operation])
        return
    line.head(200, _STREAM, None)
    for event in _STREAMS[operation]:
        line.chunk(event)
    line.end()


def _find(model: str) -> Script:
    del model
    return _answer


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port, _find))


if __name__ == "__main__":
    main()
