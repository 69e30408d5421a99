"""Odds of answers from odds of tokens, against doing it the long way."""

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.scoring.token_trie import Ask, Node, Trie, TrieOutcome, build_trie

END = 99
NEVER = -math.inf
WORDS = 6
"""The size of the vocabulary that random answers are made of; the last one ends them."""

Odds = Mapping[Ask, Mapping[int, float]]
Answers = list[tuple[int, ...]]


class Model:
    """A language model of a few words: fixed odds after every prefix, made of a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def logprob(self, prefix: tuple[int, ...], token: int) -> float:
        weights = [self._weight(prefix, word) for word in range(WORDS)]
        total = sum(weights)
        return math.log(weights[token] / total) if weights[token] else NEVER

    def _weight(self, prefix: tuple[int, ...], token: int) -> float:
        # tuples of ints hash alike in every process
        return float((hash((self.seed, prefix, token)) >> 7) % 5)  # 0 now and then, and ties

    def tell(self, ask: Ask) -> dict[int, float]:
        return {token: self.logprob(ask.prefix, token) for token in ask.children}


def choices(answers: Sequence[tuple[int, ...]], prefix: tuple[int, ...]) -> list[int]:
    """What may follow a prefix when only these answers are allowed."""
    size = len(prefix)
    return sorted({one[size] for one in answers if len(one) > size and one[:size] == prefix})


def share(model: Model, answers: Sequence[tuple[int, ...]], one: tuple[int, ...]) -> float:
    """The chance of one answer when every step is renormalised over what is allowed."""
    chance = 1.0
    for size in range(len(one)):
        prefix = one[:size]
        allowed = choices(answers, prefix)
        masses = {token: math.exp(model.logprob(prefix, token)) for token in allowed}
        total = sum(masses.values())
        chance *= masses[one[size]] / total if total else 1 / len(allowed)
    return chance


def stays(model: Model, answers: Sequence[tuple[int, ...]], one: tuple[int, ...]) -> float:
    """The chance of one answer when forced tokens are certain and others are as likely as returned."""
    chance = 1.0
    for size in range(len(one)):
        if len(choices(answers, one[:size])) > 1:
            chance *= math.exp(model.logprob(one[:size], one[size]))
    return chance


def greedy(model: Model, answers: Sequence[tuple[int, ...]]) -> int:
    """Step by step the likeliest token of those that are allowed."""
    prefix: tuple[int, ...] = ()
    while prefix not in answers:
        prefix = (*prefix, max(choices(answers, prefix), key=lambda t: model.logprob(prefix, t)))
    return answers.index(prefix)


def follow(trie: Trie, model: Model, limit: int) -> tuple[int, list[Ask]]:
    """Where walking ends, and what was asked on the way."""
    walk = trie.walk(limit)
    asked: list[Ask] = []
    try:
        asked.append(next(walk))
        while True:
            asked.append(walk.send(model.tell(asked[-1])))
    except StopIteration as stop:
        index: int = stop.value
        return index, asked


BODIES = st.lists(st.integers(0, WORDS - 2), max_size=4).map(lambda body: (*body, WORDS - 1))
ANSWERS = st.lists(BODIES, min_size=1, max_size=9)


@given(answers=ANSWERS, seed=st.integers(0, 10_000), limit=st.integers(1, 4))
@example(answers=[(0, 5), (0, 5)], seed=0, limit=1)
@example(answers=[(0, 5), (1, 5), (0, 5)], seed=3, limit=2)
@example(answers=[(0, 1, 2, 5), (0, 1, 3, 5), (0, 5), (5,)], seed=1, limit=1)
def test_scores_are_those_of_constrained_decoding(answers: Answers, seed: int, limit: int) -> None:
    """The probability of an answer is the product of its renormalised steps; the sum is 1."""
    model = Model(seed)
    trie = build_trie(answers)
    outcome = trie.score({ask: model.tell(ask) for ask in trie.asks(limit)})
    expected = [share(model, answers, one) / answers.count(one) for one in answers]
    assert outcome.probabilities == pytest.approx(expected, abs=1e-12)
    assert math.fsum(outcome.probabilities) == pytest.approx(1.0)
    on_schema = sum(stays(model, answers, one) for one in set(answers))
    assert outcome.off_schema == pytest.approx(1 - on_schema, abs=1e-12)
    assert 0.0 <= outcome.off_schema <= 1.0


@given(answers=ANSWERS, seed=st.integers(0, 10_000), limit=st.integers(1, 4))
@example(answers=[(0, 5), (0, 5)], seed=0, limit=1)
def test_walking_is_greedy_decoding(answers: Answers, seed: int, limit: int) -> None:
    """It ends where constrained decoding ends, and requests only nodes on its way."""
    model = Model(seed)
    trie = build_trie(answers)
    index, asked = follow(trie, model, limit)
    assert index == greedy(model, answers)
    assert set(asked) <= set(trie.asks(limit))
    assert all(answers[index][: len(ask.prefix)] == ask.prefix for ask in asked)


@given(answers=ANSWERS, seed=st.integers(0, 10_000))
def test_likelihood_needs_only_the_nodes_of_the_answer(answers: Answers, seed: int) -> None:
    """It is the same as from all nodes, with no more tokens than the depth of the tree."""
    trie, model = build_trie(answers), Model(seed)
    odds = {ask: model.tell(ask) for ask in trie.asks()}
    outcome = trie.score(odds)
    by_prefix = {ask.prefix: values for ask, values in odds.items()}
    for place, answer in enumerate(answers):
        likely = trie.likelihood(place, by_prefix)
        assert likely == pytest.approx(outcome.probabilities[place], abs=1e-9)
        found = trie.answer(answer[: len(trie.forced) + trie.depth])
        assert found is not None
        assert answers[found] == answer


@given(answers=ANSWERS)
def test_nodes_are_where_answers_branch(answers: Answers) -> None:
    """Each prefix with more than one next token is a node, once, after those before it."""
    trie = build_trie(answers)
    prefixes = {one[:size] for one in answers for size in range(len(one))}
    parting = {prefix: tuple(choices(answers, prefix)) for prefix in prefixes}
    expected = {Node(prefix, tokens) for prefix, tokens in parting.items() if len(tokens) > 1}
    assert len(trie.nodes) == len(expected)
    assert set(trie.nodes) == expected
    lengths = [len(node.prefix) for node in trie.nodes]
    assert all(trie.nodes[0].prefix == node.prefix[: lengths[0]] for node in trie.nodes)
    assert all(one[: len(trie.forced)] == trie.forced for one in answers)
    assert trie.forced == (trie.nodes[0].prefix if trie.nodes else answers[0])


def test_forced_beginning_is_found() -> None:
    """The answers are like routes: an equal beginning, then names, of which two begin alike."""
    trie = build_trie([(1, 2, 3, 7, END), (1, 2, 4, 7, END), (1, 2, 3, 8, END)])
    assert trie.forced == (1, 2)
    assert trie.nodes == (Node((1, 2), (3, 4)), Node((1, 2, 3), (7, 8)))
    assert trie.asks() == (Ask((1, 2), (3, 4)), Ask((1, 2, 3), (7, 8)))


def test_large_nodes_are_requested_in_groups() -> None:
    """A request has at most as many children as the engine returns."""
    trie = build_trie([(7, token, END) for token in range(300)])
    asks = trie.asks()
    assert [len(ask.children) for ask in asks] == [128, 128, 44]
    assert {ask.prefix for ask in asks} == {(7,)}
    assert [child for ask in asks for child in ask.children] == list(range(300))
    odds = {ask: {token: -300.0 + token for token in ask.children} for ask in asks}
    outcome = trie.score(odds)
    assert outcome.probabilities[299] == pytest.approx((1 - math.exp(-1)) / (1 - math.exp(-300)))


def one_node(*odds: float) -> TrieOutcome:
    """What a choice of single tokens with these log-probabilities comes to."""
    trie = build_trie([(token, END) for token in range(len(odds))])
    return trie.score({trie.asks()[0]: dict(enumerate(odds))})


@pytest.mark.parametrize(
    ("odds", "probabilities", "off"),
    [
        ((math.log(0.3), math.log(0.1)), (0.75, 0.25), 0.6),
        ((math.log(0.5), math.log(0.5)), (0.5, 0.5), 0.0),
        ((0.0, NEVER), (1.0, 0.0), 0.0),
        ((NEVER, NEVER), (0.5, 0.5), 1.0),
        ((math.nan, -1.0), (0.0, 1.0), 1 - math.exp(-1)),
        ((math.nan, math.nan), (0.5, 0.5), 1.0),
        ((-800.0, -800.0 - math.log(3)), (0.75, 0.25), 1.0),
        ((-1e308, -5.0), (0.0, 1.0), 1 - math.exp(-5)),
        ((1e-7, NEVER), (1.0, 0.0), 0.0),
        ((math.inf, NEVER), (1.0, 0.0), 0.0),
        ((math.log(0.7), math.log(0.4)), (7 / 11, 4 / 11), 0.0),
    ],
)
def test_unusual_numbers_give_valid_probabilities(
    odds: tuple[float, ...], probabilities: tuple[float, ...], off: float
) -> None:
    """Zero probabilities, tiny ones and rounding above 1 still add up to 1."""
    outcome = one_node(*odds)
    assert outcome.probabilities == pytest.approx(probabilities)
    assert outcome.off_schema == pytest.approx(off, abs=1e-12)


def test_leaving_the_answers_counts_along_the_way() -> None:
    """Half leave at first; of those on the branch with another node, another half."""
    trie = build_trie([(1, END), (2, 3, END), (2, 4, END)])
    first, second = trie.asks()
    quarter, half = math.log(0.25), math.log(0.5)
    outcome = trie.score({first: {1: quarter, 2: quarter}, second: {3: NEVER, 4: half}})
    assert outcome.probabilities == pytest.approx((0.5, 0.0, 0.5))
    assert outcome.off_schema == pytest.approx(0.5 + 0.25 * 0.5)


@pytest.mark.parametrize("answers", [[(4, END)], [(4, END), (4, END)]])
def test_single_answer_is_certain(answers: Answers) -> None:
    """Nothing is requested; equal answers have equal shares, and the first is decoded."""
    trie = build_trie(answers)
    assert (trie.forced, trie.nodes, trie.asks()) == ((4, END), (), ())
    assert trie.score({}) == TrieOutcome((1 / len(answers),) * len(answers), 0.0)
    assert follow(trie, Model(0), 1) == (0, [])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([], "at least one answer"),
        ([()], "at least one token"),
        ([(1, END), ()], "at least one token"),
        ([(1, 2), (1, 2, 3)], "answer 0 is the beginning of another one"),
        ([(1, 2, 3), (1, 4), (1, 2)], "answer 2 is the beginning of another one"),
    ],
)
def test_invalid_answers_are_refused(answers: Answers, message: str) -> None:
    """There are none, one is empty, or one is the beginning of another."""
    with pytest.raises(ValueError, match=message):
        build_trie(answers)


def test_missing_log_probabilities_are_refused() -> None:
    """An engine must return all of them; additional ones do no harm."""
    trie = build_trie([(1, END), (2, END), (3, END)])
    (ask,) = trie.asks()
    whole = {1: -1.0, 2: -2.0, 3: -3.0, 4: -0.1}
    odd: Odds = {ask: whole, Ask((9, 9), (1,)): {1: 0.0}}
    assert trie.score(odd) == trie.score({ask: whole})
    for odds in ({}, {ask: {1: -1.0, 2: -1.0}}):
        with pytest.raises(ValueError, match=r"no log-probability of tokens \[.*3\] after \(\)"):
            trie.score(odds)
    walk = trie.walk()
    next(walk)
    with pytest.raises(ValueError, match="no log-probability"):
        walk.send({1: -1.0})


def test_long_chains_of_answers_are_supported() -> None:
    """There are hundreds of nodes, one below the other."""
    answers = [(0,) * size + (1,) for size in range(300)]
    trie = build_trie(answers)
    assert len(trie.nodes) == 299
    outcome = trie.score({ask: {0: math.log(0.5), 1: math.log(0.5)} for ask in trie.asks()})
    assert outcome.probabilities[:3] == pytest.approx((0.5, 0.25, 0.125))
    assert outcome.off_schema == 0.0
