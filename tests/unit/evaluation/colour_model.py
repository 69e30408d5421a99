"""A model whose route texts say nothing of its conversations, so that there is much to learn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np

from serve_app.domain import Route, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingModel, EmbeddingSettings
from serve_app.evaluation.labelled_set import Case, LabelledSet
from serve_app.scoring.embedding import Vector
from serve_app.scoring.readout import GENERIC, Readout

COLOURS: Final = ("red", "green", "blue", "grey")
"""What conversations are about; grey is about no route."""

NAMES: Final = ("one", "two", "three")
"""The routes of the first three."""

SETTINGS: Final = EmbeddingSettings()


class ColourModel(EmbeddingModel):
    """Embeds a text as the colours in it, and as noise of its own."""

    def __init__(self, readout: Readout = GENERIC) -> None:
        self.readout = readout

    def embed(self, text: str) -> Vector:
        vector = np.random.default_rng(crc32(text.encode())).normal(0.0, 0.12, 24)
        for position, colour in enumerate(COLOURS):
            vector[position] += colour in text
        unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit

    def embed_turns(self, turns: Sequence[Turn]) -> Vector:
        return self.embed(turns[-1].text)


def colour_engine(
    settings: EmbeddingSettings = SETTINGS, readout: Readout = GENERIC
) -> EmbeddingEngine:
    return EmbeddingEngine(settings, ColourModel(readout))


def case(text: str, expect: str | None) -> Case:
    return Case((Turn("user", text),), expect)


def colour_cases(count: int) -> list[Case]:
    """``count`` conversations of each colour."""
    expected = dict(zip(COLOURS, (*NAMES, None), strict=True))
    return [
        case(f"{colour} {number}", name)
        for colour, name in expected.items()
        for number in range(count)
    ]


def colour_set(*cases: Case, routes: Sequence[str] = NAMES) -> LabelledSet:
    listed = tuple(Route(name, f"about {name}", ()) for name in routes)
    return LabelledSet("mine.jsonl", listed, cases)


def write_colours(directory: Path, labelled: LabelledSet) -> Path:
    """The set as a file."""
    routes = [{"name": one.name, "description": one.description} for one in labelled.routes]
    lines = [json.dumps({"routes": routes})]
    for each in labelled.cases:
        messages = [{"role": turn.role, "content": turn.text} for turn in each.turns]
        lines.append(json.dumps({"messages": messages, "expect": each.expect}))
    file = directory / "mine.jsonl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file
