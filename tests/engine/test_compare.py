"""An embedding model in vLLM: all-MiniLM-L6-v2, and the scorer of the embedded engine.

The embedded engine runs the same untrained weights here: the graph of the pinned package, which
has 8 bits where the model in vLLM has 32.
"""

import asyncio

import numpy as np
import pytest

from benchmarks.lib.package_model import package_graph
from serve_app.domain import Question, Route, Scores, Turn
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingSettings
from serve_app.engines.vllm.embed_decider import EmbedDecider
from serve_app.evaluation.labelled_set import LabelledSet
from serve_app.scoring.excerpt import recent
from tests.engine.conftest import Site, core_of, on_loop


@pytest.fixture(scope="module")
def comparer(embedding: Site) -> EmbedDecider:
    running = embedding.engine._running
    assert running is not None
    assert isinstance(running.decider, EmbedDecider)
    return running.decider


def test_start_and_memory_of_the_engine(embedding: Site) -> None:
    """Both are printed."""
    size = core_of(embedding.engine).memory_info().rss >> 20
    print(f"\nstart {embedding.engine.start_s:.1f} s, {size} MB in the process of the model")
    assert embedding.engine.starts == 1


async def test_scores_agree_with_the_embedded_engine(
    embedding: Site, labelled: LabelledSet
) -> None:
    """They differ by the loss of 8 bits; the winner is nearly always the same, and mostly right."""
    own = EmbeddingEngine(EmbeddingSettings(model=package_graph()))
    cases = [case for case in labelled.cases[::6] if len(recent(case.turns)) == 1]
    asked = [Question(recent(case.turns), labelled.routes, "k") for case in cases]
    result = await asyncio.gather(*map(embedding.engine.score, asked))
    same, right, apart = 0, 0, []
    for case, question, one in zip(cases, asked, result, strict=True):
        other = own.score(question, lambda: True)
        assert isinstance(one, Scores)
        assert isinstance(other, Scores)
        best = max(one.routes, key=one.routes.__getitem__)
        same += best == max(other.routes, key=other.routes.__getitem__)
        right += best == case.expect
        apart += [abs(one.routes[name] - score) for name, score in other.routes.items()]
    print(f"\nof {len(cases)}: {same} as the embedded engine, {right} right")
    assert same / len(cases) > 0.8
    assert right / sum(case.expect is not None for case in cases) > 0.4  # untrained, by names
    assert float(np.mean(apart)) < 0.03


async def test_new_routes_are_embedded_once(
    embedding: Site, comparer: EmbedDecider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All their texts are embedded at once before scoring; after that only the conversation."""
    embedded: list[str] = []
    embed = comparer._embed

    async def counted(text: str) -> object:
        embedded.append(text)
        return await embed(text)

    monkeypatch.setattr(comparer, "_embed", counted)
    routes = (
        Route("sea", "boats, fish and tides", (), examples=("when is high water", "buy a boat")),
        Route("sky", "planes and birds", ()),
    )
    for text in ("which fish is this", "which bird is this"):
        result = await embedding.engine.score(Question((Turn("user", text),), routes, "new"))
        assert isinstance(result, Scores)
        assert result.winner == ("sea" if "fish" in text else "sky")
    new = ["boats", "fish", "tides", "planes", "birds", "sea", "sky", "when is high water"]
    new += ["buy a boat", "sea: boats, fish and tides", "sky: planes and birds"]
    assert sorted(embedded) == sorted([*new, "which fish is this", "which bird is this"])


def test_long_text_keeps_head_and_tail(embedding: Site, comparer: EmbedDecider) -> None:
    """The number of tokens is configured; an unpaired surrogate is not a character."""
    plain = on_loop(embedding.engine, comparer._embed("word " * 30 + "middle " * 500 + "end " * 31))
    other = on_loop(embedding.engine, comparer._embed("word " * 30 + "another " * 9 + "end " * 31))
    assert plain.shape == (384,)
    assert float(np.linalg.norm(plain)) == pytest.approx(1.0, abs=1e-5)
    assert float(plain @ other) > 0.9
    assert on_loop(embedding.engine, comparer._embed("broken \ud83d")).shape == (384,)
