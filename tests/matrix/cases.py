"""The cells of the matrix: what a client asks, what the model says, and which cells cannot be."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import Any, Final, NamedTuple

DIALECTS: Final = ("chat", "messages", "responses")


class Case(StrEnum):
    """What happens in a cell; also a part of the model's name, by which the provider finds it."""

    TEXT = "text"
    ONE_TOOL = "one-tool"
    PARALLEL_TOOLS = "parallel-tools"
    TOOL_RESULT = "tool-result"
    IMAGE = "image"
    DOCUMENT = "document"
    STRUCTURED = "structured"
    THINKING = "thinking"
    REFUSAL = "refusal"
    LENGTH = "length"
    STOP_SEQUENCE = "stop-sequence"
    ERROR_BEFORE = "error-before"
    ERROR_DURING = "error-during"
    SERVER_TOOL = "server-tool"
    CACHED_USAGE = "cached-usage"


class Cell(NamedTuple):
    """One exchange."""

    case: Case
    client: str
    upstream: str
    stream: bool

    def __str__(self) -> str:
        how = "stream" if self.stream else "whole"
        return f"{self.case}-{self.client}-{self.upstream}-{how}"


@dataclass(frozen=True)
class Gap:
    """Cells that cannot be; None stands for every value."""

    reason: str
    case: Case
    client: str | None = None
    upstream: str | None = None
    stream: bool | None = None

    def holds(self, cell: Cell) -> bool:
        """True for a cell that it stands for."""
        pairs = zip((self.case, self.client, self.upstream, self.stream), cell, strict=True)
        return all(wanted is None or wanted == value for wanted, value in pairs)


GAPS: Final = (
    Gap("an answer that is not a stream is there as a whole", Case.ERROR_DURING, stream=False),
    Gap(
        "the responses API has no stop sequences, so the request is refused: test_refusals.py",
        Case.STOP_SEQUENCE,
        upstream="responses",
    ),
    Gap(
        "the responses API has no field in which a client asks for one",
        Case.STOP_SEQUENCE,
        client="responses",
    ),
)

PRODUCT: Final = tuple(Cell(*values) for values in product(Case, DIALECTS, DIALECTS, (False, True)))


def reasons(cell: Cell) -> Iterator[str]:
    """Why a cell cannot be; nothing for one that can."""
    return (gap.reason for gap in GAPS if gap.holds(cell))


CELLS: Final = tuple(cell for cell in PRODUCT if not any(reasons(cell)))

SYSTEM: Final = "Be brief."
ASKED: Final = "What is it like in Paris? \N{SUN BEHIND CLOUD}"
TOOL: Final = "get_weather"
ABOUT_TOOL: Final = "The weather of a city."
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
RESULT: Final = "18 degrees, and a light wind"
NEXT: Final = "And tomorrow?"
STOP: Final = "END"
SEARCH: Final = "web_search"
PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PDF: Final = base64.b64encode(b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n%%EOF\n").decode()
PDF_NAME: Final = "report.pdf"
LIMIT: Final = 100
THINKING_LIMIT, THINKING_BUDGET = 4000, 1500
RETRY_AFTER: Final = "7"
BEFORE: Final = "Rate limit reached for requests: please try again in 7 s. \u201cverbatim\u201d"
DURING: Final = "The model failed while it spoke; ask again."
SOURCE: Final = "https://example.org/paris"


@dataclass(frozen=True)
class Tokens:
    """What the provider counts, in classes that do not overlap."""

    uncached: int = 12
    read: int = 0
    written: int = 0
    output: int = 5
    reasoning: int | None = None

    @property
    def prompt(self) -> int:
        """All of the prompt."""
        return self.uncached + self.read + self.written


@dataclass(frozen=True)
class Told:
    """What the model says in a case, whatever the dialect of its provider."""

    text: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    """The arguments of each call of ``TOOL``."""
    thinking: str = ""
    refusal: str = ""
    finish: str = "stop"
    tokens: Tokens = field(default=Tokens())


_TEXT: Final = "Grüß dich: mild, with a little sun \N{WATER WAVE}. Ask “again”\nlater."
TOLD: Final[dict[Case, Told]] = {
    Case.TEXT: Told(_TEXT),
    Case.ONE_TOOL: Told("Let me look.", ({"city": "Paris"},), finish="tools"),
    Case.PARALLEL_TOOLS: Told("", ({"city": "Paris"}, {"city": 'São "Paulo"'}), finish="tools"),
    Case.TOOL_RESULT: Told("It is 18 degrees."),
    Case.IMAGE: Told("One pixel."),
    Case.DOCUMENT: Told("An empty report."),
    Case.STRUCTURED: Told(json.dumps({"city": "Paris"})),
    Case.THINKING: Told(
        "Mild.",
        thinking="Paris lies in the north of France.",
        tokens=Tokens(output=30, reasoning=21),
    ),
    Case.REFUSAL: Told(refusal="I can't help with that.", finish="refused"),
    Case.LENGTH: Told("It is mild, and", finish="length"),
    Case.STOP_SEQUENCE: Told("Mild.", finish="stop_sequence"),
    Case.ERROR_DURING: Told("It is mild, "),
    Case.SERVER_TOOL: Told("Mild, says a site."),
    Case.CACHED_USAGE: Told(_TEXT, tokens=Tokens(20, 80, 0, 5)),
}
"""Cases that are errors before content are not here."""


_COUNTED_WRITES: Final = Tokens(15, 80, 5, 5)
"""Anthropic counts what goes into the cache."""


def tokens_of(case: Case, upstream: str) -> Tokens:
    """What a provider counts in a case."""
    if case is Case.CACHED_USAGE and upstream == "messages":
        return _COUNTED_WRITES
    return TOLD[case].tokens


def call_id(upstream: str, position: int) -> str:
    """The provider's id of a call, as ids of its vendor look."""
    prefix = "toolu_01" if upstream == "messages" else "call_"
    return f"{prefix}Weather{position}"


def thirds(text: str) -> list[str]:
    """A text in three pieces, as streams bring it."""
    size = max(1, -(-len(text) // 3))
    return [text[at : at + size] for at in range(0, len(text), size)]
