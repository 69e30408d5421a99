"""The data, the draws and the arithmetic of the training agree with the engine that is shipped."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from serve_app.domain import Question, Scores
from serve_app.engines.embedding.engine import EmbeddingEngine, EmbeddingModel, EmbeddingSettings
from serve_app.scoring.embedding import Vector
from serve_app.scoring.readout import softmax
from tests.unit.training.policies import POLICY
from training.data import (
    HELD_OUT_FROM,
    TRAINED_WHOLE,
    Policy,
    Tokenizer,
    noisy,
    read_policies,
    varied,
)
from training.encoder import Encoder, average, base_weights, vectors
from training.features import Examples, Similarities, drawn
from training.measure import auroc, calibration_error, quality
from training.readout import START, _logits
from training.train import Sampler, Scales, Settings, step_loss


@pytest.fixture(scope="module")
def policies() -> list[Policy]:
    return read_policies()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(base_weights())


def test_every_policy_can_be_trained_on(policies: list[Policy]) -> None:
    """Each has routes with conversations, some that match none, and names that differ."""
    assert len(policies) > 250
    for policy in policies:
        counts = Counter(talk.route for talk in policy.talks)
        assert counts[-1] >= 3, policy.id
        assert all(counts[route] >= 2 for route in range(len(policy.routes))), policy.id
        assert len({route.name for route in policy.routes}) == len(policy.routes), policy.id


def test_a_fifth_of_each_family_is_held_out(policies: list[Policy]) -> None:
    """Whole policies are held out, and no family that is measured on is without any."""
    held_out = Counter(policy.id[0] for policy in policies if policy.held_out)
    assert held_out.keys() == HELD_OUT_FROM.keys()
    measured = [policy for policy in policies if policy.id[0] not in TRAINED_WHOLE]
    assert 0.18 < held_out.total() / len(measured) < 0.25
    assert {policy.id[0] for policy in policies} == HELD_OUT_FROM.keys() | TRAINED_WHOLE


def test_tokens_are_those_of_the_engine(
    policies: list[Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation has the same tokens in training and in the engine."""
    model, tokens = EmbeddingModel(EmbeddingSettings()), Tokenizer()
    seen: list[list[int]] = []

    def keep(ids: list[int]) -> Vector:
        seen.append(ids)
        return np.zeros(384, np.float32)

    monkeypatch.setattr(model, "_direction", keep)
    similarities = Similarities(model)
    talks = [talk for policy in policies[::25] for talk in policy.talks[:9]]
    for talk in talks:
        similarities._talk(talk)
    assert [list(tokens.turns(talk.turns)) for talk in dict.fromkeys(talks)] == seen


def test_equal_seeds_draw_equal_steps() -> None:
    """What is drawn depends on the seed alone."""

    def texts(seed: int) -> list[object]:
        settings = Settings(seed=seed, steps=3, policies=2, conversations=4)
        return [step.talks for step in Sampler([POLICY, replace(POLICY, id="f01")], settings)]

    assert texts(1) == texts(1) != texts(2)


def test_conversations_of_left_out_routes_belong_to_none() -> None:
    """A label is a route that is there, or none; examples are never among what is asked."""
    settings = Settings(steps=20, policies=1, conversations=6, fewer_routes=1.0, examples=1.0)
    for step in Sampler([POLICY], settings):
        (task,) = step.tasks
        assert len(task.routes) < len(POLICY.routes)
        assert all(0 <= label <= len(task.routes) for label in task.labels)
        assert task.examples is not None
        assert len(task.examples) == len(task.routes)


def test_steps_lower_the_loss(encoder: Encoder) -> None:
    """A few steps on one policy fit it better, and only the layers change."""
    settings = Settings(steps=1, policies=1, conversations=12, dropout=0.0, examples=1.0)
    (step,) = Sampler([POLICY], settings)
    scales, words = Scales(), encoder.words.clone()
    copy = Encoder({**base_weights(), **encoder.state()})
    optimizer = torch.optim.AdamW(copy.parameters(), lr=1e-4)
    losses = []
    for _ in range(4):
        loss = step_loss(copy, scales, step, settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert torch.equal(copy.words, words)


def test_a_batch_embeds_as_its_texts_alone(encoder: Encoder) -> None:
    """Groups by length and padding change nothing."""
    tokens = Tokenizer()
    texts = [tokens.text(text) for text in ("hi", "write a poem about the sea", "a " * 90, "ok")]
    together = vectors(encoder, texts)
    for text in texts:
        alone = encoder.embed([text]).detach().numpy()[0]
        np.testing.assert_allclose(together[text], alone, atol=1e-5)


def test_average_lies_between_the_weights() -> None:
    """Half of the way is the mean."""
    one, other = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    assert average(other, one, 0.5)["a"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("with_examples", [False, True])
def test_fitted_logits_are_those_of_the_scorer(*, with_examples: bool) -> None:
    """What is fitted with gradients is what the engine computes."""
    similarities = Similarities(EmbeddingModel(EmbeddingSettings()))
    examples, used = drawn(POLICY, 2, seed=0) if with_examples else (None, [])
    features = similarities.of(POLICY, examples, used)
    direction = np.random.default_rng(1).normal(0, 0.1, 384).tolist()
    readout = replace(START, trust=(0.0, 0.3, 0.6, 1.0), none_direction=tuple(direction))
    (logits,) = _logits(readout, [features], {})
    expected = features.probabilities(readout)
    np.testing.assert_allclose([softmax(row) for row in logits.numpy()], expected, atol=1e-9)


def test_bundled_readout_decides_as_it_was_measured() -> None:
    """The engine gives the probabilities that the figures of the card are made of."""
    engine = EmbeddingEngine(EmbeddingSettings())
    model = engine.model
    assert isinstance(model, EmbeddingModel)
    assert len(model.readout.none_direction) == 384
    found = Similarities(model).of(POLICY).probabilities(model.readout)
    for talk, expected in zip(POLICY.talks, found, strict=True):
        scores = engine.score(Question(talk.turns, POLICY.routes, "key"), lambda: True)
        assert isinstance(scores, Scores)
        assert [*scores.routes.values(), scores.none] == pytest.approx(expected, abs=2e-6)


def test_drawn_examples_are_not_measured() -> None:
    """What is drawn is left out of what is asked, and each route keeps one conversation."""
    examples, used = drawn(POLICY, 5, seed=3)
    assert isinstance(examples, Examples)
    rest = [talk.route for index, talk in enumerate(POLICY.talks) if index not in used]
    assert set(range(len(POLICY.routes))) <= set(rest)
    assert sum(map(len, examples.routes)) + len(examples.none) == len(used)


def test_noise_and_other_turns_keep_the_last_turn_last() -> None:
    """A varied conversation still ends with what the user asked."""
    chance = np.random.default_rng(5)
    for talk in POLICY.talks * 20:
        turns = varied(talk, lambda: POLICY.talks[0], chance)
        assert turns[-1].role == "user"
        assert turns[-1].text.strip()
        assert noisy(turns[-1].text, chance).strip()


def test_calibration_error_is_zero_for_honest_probabilities() -> None:
    """Half of the decisions at one half are right."""
    assert calibration_error(np.array([True, False]), np.array([0.5, 0.5])) == 0.0
    assert calibration_error(np.array([False]), np.array([0.95])) == pytest.approx(0.95)


def test_auroc_counts_ties_as_half() -> None:
    """It is the share of pairs in the right order."""
    assert auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == pytest.approx(0.875)
    assert np.isnan(auroc(np.array([]), np.array([0.1])))


def test_quality_counts_none_as_a_decision() -> None:
    """Its shares lie between 0 and 1, for each language and for all others together."""
    features = Similarities(EmbeddingModel(EmbeddingSettings())).of(POLICY)
    found = quality([(features, START)])
    assert found.conversations == len(POLICY.talks)
    assert 0.0 <= found.decided <= 1.0
    assert "decided" in found.line()
