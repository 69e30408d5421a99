"""Labelled sets and their evaluations, as several tests need them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np

from serve_app.domain import Json, Route, Turn
from serve_app.engines.embedding.engine import EmbeddingModel, EmbeddingSettings
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.evaluation.measure import CaseOutcome, Evaluation
from serve_app.scoring.embedding import Vector
from serve_app.scoring.readout import GENERIC

CODE: Final = {"name": "code", "description": "writing, explaining and debugging code"}
POEMS: Final = {"name": "poems", "description": "poems, song lyrics and rhymes"}
HEAD: Final = json.dumps({"routes": [CODE, POEMS]})


def line(text: str, expect: str | None, /, **more: Json) -> str:
    """A line of a set: one message of the user, and the expected route."""
    case = {"messages": [{"role": "user", "content": text}], "expect": expect}
    return json.dumps({**case, **more}, ensure_ascii=False)


PROMPTS: Final = [
    ("Write a Python function that adds two numbers", "code"),
    ("Why does this loop never end?", "code"),
    ("Fix the bug in my SQL query", "code"),
    ("Explain what this regular expression does", "code"),
    ("Write a sonnet about autumn", "poems"),
    ("Four lines that rhyme with moon", "poems"),
    ("Lyrics for a song about trains", "poems"),
    ("How much is the rent of a flat in Oslo?", None),
    ("Which planet has the most moons?", None),
]


_TOPICS: Final = (
    re.compile("bug|code|debug|explain|express|function|loop|writing"),
    re.compile("ballad|haiku|lyrics|poem|rhyme|song|sonnet"),
)


class TopicModel(EmbeddingModel):
    """Tells code from poems and all else by words, so that no figure depends on real weights."""

    def __init__(self) -> None:
        self.readout = GENERIC

    def embed(self, text: str) -> Vector:
        vector = np.random.default_rng(crc32(text.encode())).normal(0, 0.05, 16)
        topics = [number for number, words in enumerate(_TOPICS) if words.search(text.lower())]
        vector[topics[0] if topics else len(_TOPICS)] += 1
        unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit

    def embed_turns(self, turns: Sequence[Turn]) -> Vector:
        return self.embed(turns[-1].text)


def write_set(directory: Path, *lines: str) -> Path:
    """Writes a set with these lines."""
    file = directory / "set.jsonl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def outcome(
    expect: str | None, best: str, score: float, decided: str | None, ms: int = 1
) -> CaseOutcome:
    return CaseOutcome(Case((Turn("user", "x"),), expect), best, score, decided, ms / 1e3)


def evaluation_of(*outcomes: CaseOutcome, names: Sequence[str] = ("a", "b")) -> Evaluation:
    """The evaluation of a set with these outcomes."""
    routes = tuple(Route(name, f"about {name}", ()) for name in names)
    cases = tuple(outcome.case for outcome in outcomes)
    return Evaluation(LabelledSet("set.jsonl", routes, cases), EmbeddingSettings(), outcomes, ())


OUTCOMES: Final = (
    outcome("a", "a", 0.9, "a", 1),
    outcome("a", "b", 0.5, "b", 2),
    outcome("a", "a", 0.3, None, 3),
    outcome("b", "b", 0.7, "b", 4),
    outcome(None, "a", 0.4, "a", 5),
    outcome(None, "b", 0.1, None, 6),
)
"""Six cases, few enough to calculate the results by hand."""
