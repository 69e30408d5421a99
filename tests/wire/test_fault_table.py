"""Every fault of a provider, in every dialect on either side, and what the client gets.

Each cell has an endpoint of its own, so that what rests after one cell is used in the others.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.matrix import vendor
from tests.matrix.cases import DIALECTS, TOLD, Case
from tests.matrix.conftest import PATHS
from tests.scripted_provider import ScriptedProvider
from tests.scripts import Script
from tests.site import Answered, Site, closed_port, question
from tests.wire import faults
from tests.wire.conftest import serve_api
from tests.wire.faults import BROKEN, FAULTS, Fault
from tests.wire.strict_reader import read

_TEXT: Final = TOLD[Case.TEXT].text
_BEGUN: Final = TOLD[Case.ERROR_DURING].text
_TIMEOUTS: Final = {"connect_s": 1.0, "first_byte_s": 1.0, "idle_s": 1.0, "total_s": 3.0}
_AT_ONCE: Final = 24


class Cell(NamedTuple):
    """One request."""

    fault: Fault
    client: str
    upstream: str
    stream: bool
    has_second: bool

    def __str__(self) -> str:
        how = "stream" if self.stream else "whole"
        second = "two" if self.has_second else "one"
        return f"{self.fault.name}-{self.client}-{self.upstream}-{how}-{second}"


class Seen(NamedTuple):
    """What came of a request."""

    answer: Answered
    took_s: float


CELLS: Final = tuple(
    Cell(fault, client, upstream, stream, has_second)
    for fault in FAULTS
    for client, upstream in product(DIALECTS, DIALECTS)
    for stream, has_second in product(fault.streams, (False, True))
)
_NUMBERS: Final = {cell: number for number, cell in enumerate(CELLS)}


class Counting:
    """Counts how often each model of a provider is asked."""

    def __init__(self, find: Any) -> None:
        self._find = find
        self.asked: Counter[str] = Counter()

    def script(self, model: str) -> Script:
        """The script of a model."""
        self.asked[model] += 1
        found: Script = self._find(model)
        return found


class Table:
    """The gateway, its providers, and what came of every cell."""

    def __init__(self, site: Site, failing: Counting, good: Counting) -> None:
        self._site = site
        self._failing, self._good = failing, good
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self.seen = dict(zip(CELLS, pool.map(self._ask, CELLS), strict=True))

    def _ask(self, cell: Cell) -> Seen:
        path = PATHS[cell.client]
        body = {**question(path, "hi"), "model": _first(cell), "stream": cell.stream}
        if cell.has_second:
            body["fallbacks"] = [_second(cell)]
        began = time.monotonic()
        answer = self._site.send(json.dumps(body).encode(), path=path)
        return Seen(answer, time.monotonic() - began)

    def tries(self, cell: Cell) -> tuple[int, int]:
        """How often the first and the second model of a cell were asked."""
        names = (_first(cell), _second(cell))
        first, second = (name.partition("/")[2] for name in names)
        return self._failing.asked[first], self._good.asked[second]


def _first(cell: Cell) -> str:
    return f"first-{_NUMBERS[cell]}/{cell.fault.name}@{_NUMBERS[cell]}"


def _second(cell: Cell) -> str:
    return f"good-{cell.upstream}/{Case.TEXT}@{_NUMBERS[cell]}"


def _entry(slug: str, url: str, dialect: str) -> dict[str, Any]:
    interface = "anthropic" if dialect == "messages" else "openai"
    return {
        "model": f"{slug}/*",
        "base_url": url,
        "provider_interface": interface,
        "operations": [dialect],
        "access_key": "sk-scripted",
    }


def _write_config(folder: Path, failing: str, good: str) -> Path:
    entries = [_entry(f"good-{dialect}", f"{good}/v1", dialect) for dialect in DIALECTS]
    for cell, number in _NUMBERS.items():
        url = f"http://127.0.0.1:{closed_port()}" if cell.fault.is_closed else failing
        entries.append(_entry(f"first-{number}", f"{url}/{number}/v1", cell.upstream))
    file = folder / "gateway.yaml"
    config = {"version": "v0.4.0", "model_providers": entries, "timeouts": _TIMEOUTS}
    file.write_text(json.dumps(config))
    return file


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """All cells, asked once."""
    failing, good = Counting(faults.script), Counting(vendor.script)
    with ExitStack() as stack:
        urls = [
            stack.enter_context(ScriptedProvider(find=each.script)).url.removesuffix("/v1")
            for each in (failing, good)
        ]
        config = _write_config(tmp_path_factory.mktemp("faults"), *urls)
        site = stack.enter_context(serve_api(config, {}, {}))
        yield Table(site, failing, good)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cell_of_fault_table(table: Table, cell: Cell) -> None:
    """The client gets a whole answer or an error, in time, and no provider is asked in vain."""
    fault, seen = cell.fault, table.seen[cell]
    is_saved = cell.has_second and fault.is_saved
    expected = 200 if is_saved else fault.status
    assert seen.answer.status == expected, seen.answer.body
    assert seen.took_s < fault.within_s
    heard = read(cell.client, seen.answer.status, seen.answer.body, stream=cell.stream)
    assert heard.is_whole == is_saved, seen
    assert bool(heard.error) != is_saved, seen
    assert heard.text == (_TEXT if is_saved else _BEGUN if fault.status == BROKEN else "")
    first = fault.first_tries if cell.has_second else fault.tries
    assert table.tries(cell) == (0 if fault.is_closed else first, int(is_saved))
    assert seen.answer.headers["x-fingerpost-attempts"] == str(first + is_saved)
