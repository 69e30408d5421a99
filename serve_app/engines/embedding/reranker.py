"""A cross-encoder for the second look at close calls: it reads a conversation and a route together."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from serve_app.domain import Turn
from serve_app.engines.embedding.encoder_files import read_cross_encoder
from serve_app.engines.embedding.graph import TransformerGraph
from serve_app.engines.embedding.text_tokens import TextTokens, Typed, pair
from serve_app.engines.faults import EngineFaultError
from serve_app.ports import Clock
from serve_app.scoring.query import head_and_tail, query_parts
from serve_app.scoring.second_look import LEAST_ROUTES, MAX_ROUTES

PASSAGE_TOKENS: Final = 96
"""Tokens of a route's text that are read, at most."""

_LEAST_ROOM: Final = 8
_SLACK: Final = 1.25
"""How much longer than usual a pair may take before the deadline is missed."""

_FORGET: Final = 0.95
"""After a refusal the expected time shrinks, so that one slow moment does not end all second looks."""

_LEAST: Final = 0.25
"""To this share of the time at load, at most."""


class RerankerFaultError(EngineFaultError):
    """A reranker that cannot be used; the engine works without it."""


class Reranker:
    """Scores pairs of a conversation and a route's text, one pair at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        query_tokens: int,
        longest_s: float = math.inf,
        clock: Clock = time.perf_counter,
    ) -> None:
        """Loads the model, and measures the time of a token. Raises RerankerFaultError.

        ``longest_s`` is the longest that a second look may take, seconds.
        """
        self._longest_s = longest_s
        self._clock = clock
        self._query_tokens = query_tokens
        try:
            self._load(folder, threads)
        except EngineFaultError as error:
            raise RerankerFaultError(str(error)) from error

    def _load(self, folder: Path, threads: int) -> None:
        files = read_cross_encoder(folder)
        self._tokens = TextTokens(files)
        self._template = self._tokens.pair_template()
        longest = self._query_tokens + PASSAGE_TOKENS + self._template.length
        self._limit = min(longest, files.max_tokens or longest)
        if self._limit < self._template.length + _LEAST_ROOM:
            raise EngineFaultError(
                f"{folder} allows {self._limit} tokens, too few for two texts; "
                "correct model_max_length or max_position_embeddings in its files"
            )
        self._graph = TransformerGraph(
            files.graph,
            threads=threads,
            first_position=files.first_position,
            is_cross_encoder=True,
        )
        words = self._tokens.ids(" ".join(["a"] * self._limit))
        ids, types = pair(self._template, words, words, self._limit)
        values = self._graph.try_run(ids, types).size
        if values != 1:
            raise EngineFaultError(
                f"{files.graph} returns {values} logits for a pair; a reranker has one, "
                "so use a cross-encoder for relevance"
            )
        started = self._clock()
        self._graph.run(ids, types)  # the first run takes longer than those to come
        self._token_s = (self._clock() - started) / len(ids)
        self._least_s = _LEAST * self._token_s
        self.description = (
            f"{files.model_type or 'unknown family'}, {files.graph.name}; {self._times()}"
        )

    def _times(self) -> str:
        """How long second looks take, for people."""
        pair_s = self._token_s * self._limit
        in_time = int(min(MAX_ROUTES, self._longest_s / max(_SLACK * pair_s, 1e-9)))
        longest_ms = 1e3 * pair_s * MAX_ROUTES
        times = f"a second look takes up to {longest_ms:.0f} ms on this machine"
        if in_time == MAX_ROUTES:
            return times
        limit = f"orchestrator.reranker_ms is {1e3 * self._longest_s:.0f}"
        if in_time < LEAST_ROUTES:
            return (
                f"{times}, and {limit}: long texts get none; raise that, or use a smaller reranker"
            )
        return f"{times}, and {limit}: of long texts, the likeliest {in_time} are read"

    def logits(
        self,
        turns: Sequence[Turn],
        texts: Sequence[str],
        *,
        in_time: Callable[[], bool] = lambda: True,
        within_s: float | None = None,
    ) -> list[float] | None:
        """The logit of each text, or None if there is too little time for all of them.

        ``in_time`` returns False when the caller does not wait any more, ``within_s`` is how long
        it still waits, without a limit if None. Of more texts than ``longest_s`` has time for, the
        first ones are read, at least two. ``turns`` are those of scoring/excerpt.py's ``recent``:
        the last one is read first, then the earlier ones, then the answer.
        """
        left_s = self._longest_s if within_s is None else min(within_s, self._longest_s)
        ends_at = self._clock() + left_s
        pairs = self._that_fit(self._pairs(turns, texts))
        left = sum(len(ids) for ids, _ in pairs)
        found: list[float] = []
        for ids, types in pairs:
            began = self._clock()
            expected_s = _SLACK * left * self._token_s
            if began + expected_s > ends_at:
                self._token_s = max(_FORGET * self._token_s, self._least_s)
                return None
            if not in_time():
                return None
            found.append(float(self._graph.run(ids, types).reshape(-1)[0]))
            took_s = (self._clock() - began) / len(ids)
            self._token_s += (took_s - self._token_s) / 4
            left -= len(ids)
        return found

    def _that_fit(self, pairs: list[Typed]) -> list[Typed]:
        """The first pairs, as many as ``longest_s`` has time for, but at least two."""
        kept = len(pairs)
        expected_s = _SLACK * self._token_s * sum(len(ids) for ids, _ in pairs)
        while kept > LEAST_ROUTES and expected_s > self._longest_s:
            kept -= 1
            expected_s -= _SLACK * self._token_s * len(pairs[kept][0])
        return pairs[:kept]

    def _pairs(self, turns: Sequence[Turn], texts: Sequence[str]) -> list[Typed]:
        words = self._tokens.ids(" ".join(part for part in query_parts(turns) if part))
        query = head_and_tail(words, self._query_tokens)
        passages = (self._tokens.ids(text)[:PASSAGE_TOKENS] for text in texts)
        return [pair(self._template, query, passage, self._limit) for passage in passages]
