"""The int8 graph over the package's embeddings and the trained layers, beside both in float."""

import json
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import numpy as np
import onnxruntime
import pytest

from serve_app.engines.embedding import minilm
from serve_app.engines.embedding.engine import (
    PACKAGE,
    VOCABULARY,
    EmbeddingModel,
    EmbeddingSettings,
)
from serve_app.engines.embedding.minilm import TENSORS, TRAINED, open_session
from serve_app.scoring.embedding import Vector
from training.encoder import Encoder
from training.shipped import shipped_encoder

TEXTS: Final = {
    "a word": "hello",
    "a question": "How do I reset the password of my account?",
    "an order": "Write a Python function that reverses a linked list",
    "small letters": "whats the weather like tmrw, need an umbrella??",
    "capitals": "STOP WRITING IN CAPITALS",
    "numbers": "3x^2 - 5x + 2 = 0, 17 % of 2300, 1e-9 and 2024-02-29",
    "code": "for i in range(10):\n    if i % 2: print(f'{i:>4}')  # odd ones\n",
    "json": '{"a": [1, null, {"b": "c"}], "d": -1.5e3}',
    "signs": "!!! ... ??? --- *** ((())) <<<>>> @@@ ### $$$",
    "german": "Wie spät fährt am Sonntag der letzte Zug von Köln nach Zürich?",
    "chinese": "请帮我写一个函数,把链表反转过来",
    "russian": "Переведи это письмо на английский язык",
    "arabic": "اكتب قصيدة عن البحر",
    "emoji": "party tonight 🎉🎉 who is in 🙋",
    "nothing": "",
    "the same again": "very " * 300,
    "long": "The committee met on Monday to discuss the budget of the library. " * 40,
    "long code": "def f(x):\n    return x * 2 if x > 0 else -x\n\n" * 40,
    "long chinese": "今天天气很好我们去公园散步吧" * 60,
}


TERMS: Final = ("value", "times", "plus")


def weights() -> Path:
    found = find_spec(PACKAGE)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model.onnx"


@pytest.fixture(scope="module")
def ours() -> EmbeddingModel:
    return EmbeddingModel(EmbeddingSettings(max_query_tokens=512))


@pytest.fixture(scope="module")
def exact() -> Encoder:
    return shipped_encoder()


def opened(file: Path) -> Any:
    """A session on one thread, which spins on no core that others need."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return open_session(file, options)


@pytest.fixture(scope="module")
def session() -> Any:
    return opened(weights())


def tokens(count: int) -> Any:
    """So many of the vocabulary, as one row."""
    return np.random.default_rng(count).integers(1000, 30_000, (1, count))


def embed(session: Any, row: Any) -> Vector:
    (vector,) = session.run(None, {"input_ids": row})
    assert isinstance(vector, np.ndarray)
    return vector


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_int8_agrees_with_the_same_weights_in_float(
    text: str, ours: EmbeddingModel, exact: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so for short and long texts in any language."""
    tokens: list[list[int]] = []
    vector = ours.embed(text)
    with monkeypatch.context() as patch:
        patch.setattr(ours, "_direction", tokens.append)
        ours.embed(text)
    (reference,) = exact.embed([tuple(tokens[0])]).detach().numpy()
    assert float(vector @ reference) >= 0.99


def test_session_has_one_input_and_one_output(session: Any) -> None:
    """Names and types are as its docstring has them."""
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("input_ids", "tensor(int64)")
    assert (got.name, got.type) == ("embedding", "tensor(float)")


@pytest.mark.parametrize(
    "count", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 256, 511, 512]
)
def test_every_length_is_embedded(count: int, session: Any) -> None:
    """Any length from one token to the maximum of the model gives a unit vector."""
    vector = embed(session, tokens(count))
    assert vector.shape == (384,)
    assert vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


def test_every_token_counts(session: Any) -> None:
    """Another one at the beginning, in the middle or at the end changes the vector."""
    row = tokens(40)
    directions = [embed(session, row)]
    for place in (0, 20, 39):
        other = row.copy()
        other[0, place] += 1
        directions.append(embed(session, other))
    assert len({vector.tobytes() for vector in directions}) == 4


def test_punctuation_counts_less_in_the_mean() -> None:
    """The shares of the tokens are in the order of the vocabulary."""
    recipe = json.loads(TENSORS.read_bytes())["tensors"]["shares"]
    ((offset, dtype, shape, _),) = recipe["value"]["parts"]
    shares = np.frombuffer(TRAINED.read_bytes(), dtype, int(np.prod(shape)), offset)
    words = VOCABULARY.read_text("utf-8").splitlines()
    assert len(shares) == len(words)
    found = dict(zip(words, shares.tolist(), strict=True))
    for punctuation in ".?!,/$。¿":
        assert found[punctuation] == 6
    for word in ("house", "##ing", "7", "ß", "中", "[UNK]"):
        assert found[word] == 10
    assert (found["[CLS]"], found["[SEP]"]) == (13, 7)


def test_session_does_not_need_its_file_later(session: Any, tmp_path: Path) -> None:
    """It has copies of all weights: the file may change or disappear."""
    file = tmp_path / "model.onnx"
    copyfile(weights(), file)
    other = opened(file)
    with file.open("r+b") as changed:
        changed.write(bytes(file.stat().st_size))
    file.unlink()
    assert np.array_equal(embed(other, tokens(64)), embed(session, tokens(64)))


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_truncated_file_opens_no_session(size: int, tmp_path: Path) -> None:
    """The caller checks the hash; without it, missing weights are an error all the same."""
    file = tmp_path / "model.onnx"
    file.write_bytes(weights().read_bytes()[:size])
    with pytest.raises(ValueError, match=r"file|buffer"):
        opened(file)


def test_other_trained_weights_open_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trained file must be the one that the list of tensors names."""
    (tmp_path / "minilm_trained.bin").write_bytes(TRAINED.read_bytes()[:-1])
    monkeypatch.setattr(minilm, "TRAINED", tmp_path / "minilm_trained.bin")
    with pytest.raises(ValueError, match="reinstall fingerpost"):
        opened(weights())


def test_every_weight_is_in_the_file() -> None:
    """Each tensor is made of bytes of the pinned file, or of what was trained."""
    sizes = {"package": weights().stat().st_size, "trained": TRAINED.stat().st_size}
    recipes: dict[str, dict[str, Any]] = json.loads(TENSORS.read_bytes())["tensors"]
    terms = [recipe[key] for recipe in recipes.values() for key in recipe if key in TERMS]
    parts = [part for term in terms for part in term["parts"]]
    assert len(parts) >= len(recipes) > 0
    for offset, dtype, shape, *where in parts:
        size = sizes[where[0] if where else "package"]
        assert 0 <= offset <= size - np.dtype(dtype).itemsize * int(np.prod(shape))
