"""A language model chooses a route: the answers it may give, and how one is read from it.

``trie`` asks for the odds of every token at which the answers part, all at once: one step of the
model, and a probability for each route. ``trie_lazy`` asks for them one after the other, going
the way of the likeliest: the same numbers, but for one route only. ``choice`` comes to the same
in one request, in which the model writes, held to the answers, from where they part until only
one is left. ``json`` lets it write a whole answer, held to a schema; it may name several routes,
and may come to another answer: a grammar of characters lets the model spell a name in tokens
that it was never shown, and what it thinks after those is another matter.
"""

import asyncio
import functools
import itertools
import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serve_app.domain import Question, Reason, Route, Scores, Unavailable
from serve_app.engines.vllm.settings import Mode, VllmSettings
from serve_app.scoring.answers import UnreadableAnswerError, read_answer
from serve_app.scoring.prompt import MAX_NAMED, RouteAnswer, answer_schema
from serve_app.scoring.token_trie import MAX_CHILDREN, Ask, Tokens, Trie, build_trie

MAX_SETS: Final = 64
"""Sets of routes that are kept ready; the least recently used go."""

MAX_COUNTS: Final = 256
"""Texts whose length in tokens is remembered, the beginnings of prompts above all."""

BUSY: Final = 2
"""So many others under way, ``auto`` lets the model write: it has less to read in all."""

_NOTHING: Final = "\N{ZERO WIDTH SPACE}"
_SLACK_TOKENS: Final = 16
"""More than the longest answer, for one written with other tokens."""

_ROUND: Final = 6


@dataclass(frozen=True, slots=True)
class _AnswerSets:
    """What a set of routes comes to."""

    names: tuple[str, ...]
    answers: tuple[RouteAnswer, ...]
    tokens: tuple[Tokens, ...]
    trie: Trie
    asks: tuple[Ask, ...]
    schema: str
    start: Tokens
    """What all answers begin with, as far as it is whole characters."""
    rests: tuple[str, ...]
    """The answers after the start, as texts."""
    allowed: tuple[int, ...]
    """All tokens of the answers, in ascending order."""
    children: tuple[int, ...]
    """Those of them that the model may have to choose from, in ascending order."""

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(map(len, self.tokens))


@dataclass(frozen=True, slots=True)
class _Choice:
    """One answer, and how likely it is among all of them where that is known."""

    route: str | None
    probability: float | None = None
    named: tuple[str, ...] = ()
    """All that the model named, where it may name several."""


class ChatDecider:
    """Decides by the language model that an engine of vLLM's runs."""

    def __init__(self, engine: Any, tokenizer: Any, settings: VllmSettings, longest: int) -> None:  # noqa: ANN401 - vLLM has no types here
        """``longest`` is what a sequence may have, in tokens."""
        from vllm import SamplingParams  # noqa: PLC0415 - only who makes an engine needs it
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: PLC0415

        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._longest = longest
        self._params = functools.partial(
            SamplingParams, temperature=0.0, output_kind=RequestOutputKind.FINAL_ONLY
        )
        self._held = StructuredOutputsParams
        self._numbers = itertools.count()
        self._sets: OrderedDict[str, _AnswerSets] = OrderedDict()
        self._count = functools.lru_cache(MAX_COUNTS)(self._tokens_of)
        self._control = _control_tokens(tokenizer)
        self._around = len(self._chat(""))
        self._tail = self._chat_text("").removeprefix(self._chat_text("", closed=True))
        self.under_way = 0
        """Decisions that have begun and not ended."""

    async def decide(self, question: Question, mode: Mode | None = None) -> Scores | Unavailable:
        """The scores; Unavailable where the routes leave no room for a conversation."""
        known = self._known(question)
        budget = min(self._settings.budget_tokens, self._longest - self._around - known.longest)
        prompt = self._settings.family.messages(
            question.turns, question.routes, budget=budget, count=self._count
        )
        ids = self._chat(prompt.text)
        if len(ids) + known.longest > self._longest:
            detail = (
                f"these routes need a prompt of {len(ids)} tokens, and max_model_len is "
                f"{self._longest}; shorten their descriptions, or raise it"
            )
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)  # no fault of the engine's
        mode = self._mode(known) if mode in {None, "auto"} else mode
        self.under_way += 1
        try:
            if mode == "trie":
                return await self._by_trie(ids, known, question.routes)
            choice = await self._choose(mode, ids, known)
        finally:
            self.under_way -= 1
        if isinstance(choice, Unavailable):
            return choice
        return self._of_one(choice)

    def _mode(self, known: _AnswerSets) -> Mode:
        mode = self._settings.mode
        if mode != "auto":
            return mode
        return "trie" if len(known.asks) <= 1 or self.under_way < BUSY else "choice"

    async def _by_trie(self, ids: list[int], known: _AnswerSets, routes: Sequence[Route]) -> Scores:
        said = await asyncio.gather(*(self._odds(ids, ask) for ask in known.asks))
        outcome = known.trie.score(dict(zip(known.asks, said, strict=True)))
        likely = {
            answer.route: round(probability, _ROUND)
            for answer, probability in zip(known.answers, outcome.probabilities, strict=True)
        }
        none = likely.get(None, 0.0)
        scores = {route.name: likely.get(route.name, 0.0) for route in routes}
        best, second = [*sorted(scores.values(), reverse=True), 0.0][:2]
        settings = self._settings
        wins = best > none and best >= settings.min_confidence
        wins = wins and best - second >= settings.min_margin
        return Scores(
            routes=scores,
            threshold=max(none, settings.min_confidence),
            winner=max(scores, key=scores.__getitem__) if wins else None,
            required_margin=settings.min_margin,
            doubt=round(outcome.off_schema, _ROUND),
        )

    def _of_one(self, choice: _Choice) -> Scores:
        """Where only one answer was followed to its end, the others have no scores."""
        least, score = self._settings.min_confidence, choice.probability
        scored = (
            {} if choice.route is None or score is None else {choice.route: round(score, _ROUND)}
        )
        wins = score is None or score >= least
        return Scores(
            routes=scored,
            threshold=least,
            winner=choice.route if wins else None,
            required_margin=self._settings.min_margin,
            named=choice.named,
        )

    async def _choose(
        self, mode: Mode | None, ids: list[int], known: _AnswerSets
    ) -> _Choice | Unavailable:
        if mode == "trie_lazy":
            return await self._lazily(ids, known)
        if mode == "choice":
            return await self._held_to(ids, known)
        held = None
        if mode == "json":
            held = self._held(json=known.schema, disable_any_whitespace=True)
        longest = known.longest * (MAX_NAMED if self._settings.family.many else 1)
        params = self._params(max_tokens=longest + _SLACK_TOKENS, structured_outputs=held)
        output = await self._finished(ids, params)
        try:
            names = read_answer(output.text, known.names)
        except UnreadableAnswerError as error:
            return Unavailable(Reason.ORCHESTRATOR_ERROR, str(error))
        return _Choice(
            names[0] if names else None, named=names if self._settings.family.many else ()
        )

    async def _held_to(self, ids: list[int], known: _AnswerSets) -> _Choice:
        """One request, in which the model writes no more than what decides.

        It is held to the answers by their characters and by the tokens that they are made of,
        which leaves few other spellings. Where it finds one, the nodes are asked about.
        """
        trie, start = known.trie, known.start
        if not trie.nodes:
            return _Choice(known.answers[0].route, 1.0)
        children = known.children
        told = len(children) <= MAX_CHILDREN
        params = self._params(
            max_tokens=trie.depth + len(trie.forced) - len(start),
            allowed_token_ids=list(known.allowed),
            structured_outputs=self._held(choice=list(known.rests)),
            detokenize=False,
            logprob_token_ids=list(children) if told else None,
        )
        output = await self._finished([*ids, *start], params)
        path = (*start, *output.token_ids)
        place = trie.answer(path)
        if place is None:
            return await self._lazily(ids, known)
        route = known.answers[place].route
        if not told:
            return _Choice(route)
        odds = {
            path[: len(start) + step]: {child: said[child].logprob for child in children}
            for step, said in enumerate(output.logprobs)
        }
        return _Choice(route, trie.likelihood(place, odds))

    async def _lazily(self, ids: list[int], known: _AnswerSets) -> _Choice:
        walk = known.trie.walk()
        nodes: dict[Tokens, dict[int, float]] = {}
        try:
            ask = next(walk)
            while True:
                said = await self._odds(ids, ask)
                nodes.setdefault(ask.prefix, {}).update(said)
                ask = walk.send(said)
        except StopIteration as end:
            place: int = end.value
        return _Choice(known.answers[place].route, known.trie.likelihood(place, nodes))

    async def _odds(self, ids: list[int], ask: Ask) -> Mapping[int, float]:
        """Log-probabilities over the whole vocabulary; which token is taken makes no odds."""
        params = self._params(max_tokens=1, detokenize=False, logprob_token_ids=list(ask.children))
        output = await self._finished([*ids, *ask.prefix], params)
        odds = output.logprobs[0]
        return {child: odds[child].logprob for child in ask.children}

    async def _finished(self, ids: list[int], params: Any) -> Any:  # noqa: ANN401 - vLLM's
        number = f"decision-{next(self._numbers)}"
        last = None
        async for output in self._engine.generate({"prompt_token_ids": ids}, params, number):
            last = output
        if last is None or not last.outputs:
            raise RuntimeError("vLLM ended a request without an answer")
        return last.outputs[0]

    def _known(self, question: Question) -> _AnswerSets:
        known = self._sets.get(question.key)
        if known is not None:
            self._sets.move_to_end(question.key)
            return known
        answers = self._settings.family.answers(question.routes)
        tokens = tuple(self._answer_tokens(answer.text) for answer in answers)
        trie = build_trie(tokens)
        names = tuple(route.name for route in question.routes)
        schema = json.dumps(
            answer_schema(answers, many=self._settings.family.many), ensure_ascii=False
        )
        start, rests = self._parted(answers, trie.forced)
        known = _AnswerSets(
            names=names,
            answers=answers,
            tokens=tokens,
            trie=trie,
            asks=trie.asks(),
            schema=schema,
            start=start,
            rests=rests,
            allowed=tuple(sorted(set(itertools.chain.from_iterable(tokens)))),
            children=tuple(sorted({child for node in trie.nodes for child in node.children})),
        )
        self._sets[question.key] = known
        if len(self._sets) > MAX_SETS:
            self._sets.popitem(last=False)
        return known

    def _parted(
        self, answers: Sequence[RouteAnswer], forced: Tokens
    ) -> tuple[Tokens, tuple[str, ...]]:
        """What all begin with, and the texts of the rest; the whole where tokens split letters."""
        text = self._tokenizer.decode(list(forced))
        if not all(answer.text.startswith(text) for answer in answers):
            text, forced = "", ()
        rests = dict.fromkeys(answer.text.removeprefix(text) for answer in answers)
        return forced, tuple(rests)

    def _answer_tokens(self, text: str) -> Tokens:
        """As the model would write it after the prompt, its end included."""
        before = self._encoded(self._tail)
        both = self._encoded(self._tail + text)
        own = both[len(before) :] if both[: len(before)] == before else self._encoded(text)
        return (*own, self._tokenizer.eos_token_id)

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _tokens_of(self, text: str) -> int:
        return len(self._encoded(text))

    def _chat_text(self, text: str, *, closed: bool = False) -> str:
        """The prompt with what the model's template puts around it."""
        turn = [{"role": "user", "content": text}]
        laid: str = self._tokenizer.apply_chat_template(
            turn,
            tokenize=False,
            add_generation_prompt=not closed,
            enable_thinking=False,  # where a template knows of it
        )
        return laid

    def _chat(self, text: str) -> list[int]:
        """The whole prompt; nobody's words end their own turn, or begin another one's."""
        safe = self._control.sub(lambda found: f"{found[0][0]}{_NOTHING}{found[0][1:]}", text)
        return self._encoded(self._chat_text(safe))


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:  # noqa: ANN401 - vLLM's
    """What a model's template is made of, and no text may hold."""
    added = tokenizer.added_tokens_decoder.values()
    names = [re.escape(str(token)) for token in added if token.special and str(token)]
    return re.compile("|".join(names) or r"(?!)")
