"""A language model chooses a route: the allowed answers, and four modes of getting one.

``trie`` requests the log-probabilities of every token at which the answers branch, all at once:
one step of the model, and a probability for each route. ``trie_lazy`` requests them one after the
other along the likeliest branch: the same numbers, but for one route only. ``choice`` gets the
same result in one request, in which the model generates one of the answers, from where they
branch until only one is left. ``json`` lets it generate a whole answer that follows a schema; it
may name several routes. Its result may differ: a grammar of characters allows the model to spell
a name in tokens that it was not trained on, which changes what it generates next.
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
from serve_app.scoring.calibration import DecisionRule
from serve_app.scoring.prompt import MAX_NAMED, RouteAnswer, answer_schema
from serve_app.scoring.token_trie import MAX_CHILDREN, Ask, Tokens, Trie, build_trie

MAX_SETS: Final = 64
"""Maximum number of compiled sets of routes; the least recently used are evicted."""

MAX_COUNTS: Final = 256
"""Number of texts whose count of tokens is cached, mainly the beginnings of prompts."""

BUSY: Final = 2
"""Decisions in progress from which ``auto`` uses ``choice``, which needs fewer prefills."""

_SEPARATOR: Final = "\N{ZERO WIDTH SPACE}"
_SLACK_TOKENS: Final = 16
"""Tokens beyond the longest answer, for one that is spelled with other tokens."""

_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class _CompiledRoutes:
    """The allowed answers for a set of routes."""

    names: tuple[str, ...]
    answers: tuple[RouteAnswer, ...]
    tokens: tuple[Tokens, ...]
    trie: Trie
    asks: tuple[Ask, ...]
    schema: str
    start: Tokens
    """The common beginning of all answers; empty if it ends inside a character."""
    rests: tuple[str, ...]
    """The texts of the answers after the common beginning."""
    allowed: tuple[int, ...]
    """All tokens of the answers, in ascending order."""
    children: tuple[int, ...]
    """Those of them at which answers branch, in ascending order."""

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(map(len, self.tokens))


@dataclass(frozen=True, slots=True)
class _Choice:
    """One answer, and its probability among all of them if that is known."""

    route: str | None
    probability: float | None = None
    named: tuple[str, ...] = ()
    """All routes that the model named, if it may name several."""


class ChatDecider:
    """Decides with a language model in a vLLM engine."""

    def __init__(self, engine: Any, tokenizer: Any, settings: VllmSettings, longest: int) -> None:  # noqa: ANN401 - vLLM has no types here
        """``longest`` is the maximum of tokens in a sequence."""
        from vllm import SamplingParams  # noqa: PLC0415 - loaded only where an engine is made
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: PLC0415

        self._engine = engine
        self._tokenizer = tokenizer
        self._settings = settings
        self._longest = longest
        self._params = functools.partial(
            SamplingParams, temperature=0.0, output_kind=RequestOutputKind.FINAL_ONLY
        )
        self._structured_outputs = StructuredOutputsParams
        self._numbers = itertools.count()
        self._sets: OrderedDict[str, _CompiledRoutes] = OrderedDict()
        self._count_tokens = functools.lru_cache(MAX_COUNTS)(self._uncached_count)
        self._control_tokens = _control_tokens(tokenizer)
        self._template_tokens = len(self._chat(""))
        self._tail = self._chat_text("").removeprefix(self._chat_text("", closed=True))
        self.under_way = 0
        """Number of decisions in progress."""

    async def decide(self, question: Question, mode: Mode | None = None) -> Scores | Unavailable:
        """The scores, or Unavailable if the routes leave no room for a conversation."""
        known = self._compiled(question)
        budget = min(
            self._settings.budget_tokens, self._longest - self._template_tokens - known.longest
        )
        prompt = self._settings.family.messages(
            question.turns, question.routes, budget=budget, count=self._count_tokens
        )
        ids = self._chat(prompt.text)
        if len(ids) + known.longest > self._longest:
            detail = (
                f"these routes need a prompt of {len(ids)} tokens, but max_model_len is "
                f"{self._longest}; shorten their descriptions or raise it"
            )
            return Unavailable(Reason.ORCHESTRATOR_BUSY, detail)  # not a fault of the engine
        if mode in {None, "auto"}:
            mode = self._mode(known, all_routes=question.wants_probabilities)
        self.under_way += 1
        try:
            if mode == "trie":
                return await self._by_trie(ids, known, question.routes)
            choice = await self._choose(mode, ids, known)
        finally:
            self.under_way -= 1
        if isinstance(choice, Unavailable):
            return choice
        return self._scores_of(choice)

    def _mode(self, known: _CompiledRoutes, *, all_routes: bool) -> Mode:
        """``all_routes``: the probability of the best route alone is not enough."""
        mode = self._settings.mode
        if mode != "auto":
            return mode
        by_trie = all_routes or len(known.asks) <= 1 or self.under_way < BUSY
        return "trie" if by_trie else "choice"

    async def _by_trie(
        self, ids: list[int], known: _CompiledRoutes, routes: Sequence[Route]
    ) -> Scores:
        odds = await asyncio.gather(*(self._odds(ids, ask) for ask in known.asks))
        outcome = known.trie.score(dict(zip(known.asks, odds, strict=True)))
        probabilities = {
            answer.route: round(probability, _DIGITS)
            for answer, probability in zip(known.answers, outcome.probabilities, strict=True)
        }
        none = probabilities.get(None, 0.0)
        scores = {route.name: probabilities.get(route.name, 0.0) for route in routes}
        doubt = round(outcome.off_schema, _DIGITS)
        rule = DecisionRule(self._settings.min_confidence, self._settings.min_margin)
        return rule.apply(Scores(scores, 0.0, None, none=none, doubt=doubt))

    def _scores_of(self, choice: _Choice) -> Scores:
        """The scores of a mode that follows one answer; the others have none."""
        threshold, score = self._settings.min_confidence, choice.probability
        scores = (
            {} if choice.route is None or score is None else {choice.route: round(score, _DIGITS)}
        )
        wins = score is None or score >= threshold
        return Scores(
            routes=scores,
            threshold=threshold,
            winner=choice.route if wins else None,
            required_margin=self._settings.min_margin,
            named=choice.named,
        )

    async def _choose(
        self, mode: Mode | None, ids: list[int], known: _CompiledRoutes
    ) -> _Choice | Unavailable:
        if mode == "trie_lazy":
            return await self._walk(ids, known)
        if mode == "choice":
            return await self._generate_choice(ids, known)
        structured = None
        if mode == "json":
            structured = self._structured_outputs(json=known.schema, disable_any_whitespace=True)
        longest = known.longest * (MAX_NAMED if self._settings.family.many else 1)
        params = self._params(max_tokens=longest + _SLACK_TOKENS, structured_outputs=structured)
        output = await self._generate(ids, params)
        cut = output.finish_reason == "length"
        try:
            names = read_answer(output.text, known.names, cut=cut)
        except UnreadableAnswerError as error:
            why = "the model ran out of tokens before answering" if cut else str(error)
            return Unavailable(Reason.ORCHESTRATOR_ERROR, why)
        return _Choice(
            names[0] if names else None, named=names if self._settings.family.many else ()
        )

    async def _generate_choice(self, ids: list[int], known: _CompiledRoutes) -> _Choice:
        """The choice by one request, in which the model generates only the deciding tokens.

        It is restricted to the characters of the answers and to their tokens, which leaves few
        other spellings. If it generates one of these, the choice is made as by ``trie_lazy``.
        """
        trie, start = known.trie, known.start
        if not trie.nodes:
            return _Choice(known.answers[0].route, 1.0)
        children = known.children
        has_odds = len(children) <= MAX_CHILDREN
        params = self._params(
            max_tokens=trie.depth + len(trie.forced) - len(start),
            allowed_token_ids=list(known.allowed),
            structured_outputs=self._structured_outputs(choice=list(known.rests)),
            detokenize=False,
            logprob_token_ids=list(children) if has_odds else None,
        )
        output = await self._generate([*ids, *start], params)
        path = (*start, *output.token_ids)
        index = trie.answer(path)
        if index is None:
            return await self._walk(ids, known)
        route = known.answers[index].route
        if not has_odds:
            return _Choice(route)
        odds = {
            path[: len(start) + step]: {child: logprobs[child].logprob for child in children}
            for step, logprobs in enumerate(output.logprobs)
        }
        return _Choice(route, trie.likelihood(index, odds))

    async def _walk(self, ids: list[int], known: _CompiledRoutes) -> _Choice:
        walk = known.trie.walk()
        nodes: dict[Tokens, dict[int, float]] = {}
        try:
            ask = next(walk)
            while True:
                odds = await self._odds(ids, ask)
                nodes.setdefault(ask.prefix, {}).update(odds)
                ask = walk.send(odds)
        except StopIteration as end:
            index: int = end.value
        return _Choice(known.answers[index].route, known.trie.likelihood(index, nodes))

    async def _odds(self, ids: list[int], ask: Ask) -> Mapping[int, float]:
        """Log-probabilities over the whole vocabulary; the sampled token is ignored."""
        params = self._params(max_tokens=1, detokenize=False, logprob_token_ids=list(ask.children))
        output = await self._generate([*ids, *ask.prefix], params)
        odds = output.logprobs[0]
        return {child: odds[child].logprob for child in ask.children}

    async def _generate(self, ids: list[int], params: Any) -> Any:  # noqa: ANN401 - vLLM's
        number = f"decision-{next(self._numbers)}"
        last = None
        async for output in self._engine.generate({"prompt_token_ids": ids}, params, number):
            last = output
        if last is None or not last.outputs:
            raise RuntimeError("vLLM ended a request without an answer")
        return last.outputs[0]

    def _compiled(self, question: Question) -> _CompiledRoutes:
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
        start, rests = self._split(answers, trie.forced)
        known = _CompiledRoutes(
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

    def _split(
        self, answers: Sequence[RouteAnswer], forced: Tokens
    ) -> tuple[Tokens, tuple[str, ...]]:
        """The common beginning, and the texts after it; the whole texts if tokens split characters."""
        text = self._tokenizer.decode(list(forced))
        if not all(answer.text.startswith(text) for answer in answers):
            text, forced = "", ()
        rests = dict.fromkeys(answer.text.removeprefix(text) for answer in answers)
        return forced, tuple(rests)

    def _answer_tokens(self, text: str) -> Tokens:
        """The tokens of an answer as the model generates it after the prompt, with its end."""
        before = self._encode(self._tail)
        both = self._encode(self._tail + text)
        own = both[len(before) :] if both[: len(before)] == before else self._encode(text)
        return (*own, self._tokenizer.eos_token_id)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _uncached_count(self, text: str) -> int:
        return len(self._encode(text))

    def _chat_text(self, text: str, *, closed: bool = False) -> str:
        """The prompt inside the model's chat template."""
        turn = [{"role": "user", "content": text}]
        chat: str = self._tokenizer.apply_chat_template(
            turn,
            tokenize=False,
            add_generation_prompt=not closed,
            enable_thinking=False,  # for templates that support it
        )
        return chat

    def _chat(self, text: str) -> list[int]:
        """The tokens of the whole prompt; its text cannot end its turn or begin another one."""
        safe = self._control_tokens.sub(
            lambda match: f"{match[0][0]}{_SEPARATOR}{match[0][1:]}", text
        )
        return self._encode(self._chat_text(safe))


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:  # noqa: ANN401 - vLLM's
    """Matches the control tokens of a model's template, which no text may contain."""
    added = tokenizer.added_tokens_decoder.values()
    names = [re.escape(str(token)) for token in added if token.special and str(token)]
    return re.compile("|".join(names) or r"(?!)")
