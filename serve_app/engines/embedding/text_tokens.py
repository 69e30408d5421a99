"""The tokenizer of a model, and the tokens that its own template puts around texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from serve_app.engines.embedding.encoder_files import ModelFiles
from serve_app.engines.faults import EngineFaultError
from serve_app.scoring.prompt import replace_surrogates
from serve_app.scoring.query import head_and_tail, query_tokens

Typed: TypeAlias = tuple[list[int], list[int]]
"""Tokens, and the number of the text that each belongs to, as BERT counts them: 0 or 1."""

_NONE: Final = -1
"""In place of a token that the model does not have."""

_WORDS: Final = ("a", "b")
"""Texts with which the template is found."""


@dataclass(frozen=True, slots=True)
class _PairTemplate:
    """What surrounds two texts, and the types of the tokens of the texts."""

    opening: Typed
    middle: Typed
    closing: Typed
    types: tuple[int, int]

    @property
    def length(self) -> int:
        """The number of tokens that are not of the texts."""
        return sum(len(ids) for ids, _ in (self.opening, self.middle, self.closing))


class TextTokens:
    """Turns texts into a model's tokens. Truncation and padding of its file are not applied."""

    def __init__(self, files: ModelFiles) -> None:
        """Raises EngineFaultError if the tokenizer is invalid or does not fit the model."""
        self._file = files.tokenizer
        self._lower_case = files.lower_case
        try:
            self._tokenizer = _open(files)
            self._first, self._last = self._single()
        except EngineFaultError:
            raise
        except Exception as error:
            raise EngineFaultError(f"{self._file} is not a usable tokenizer: {error}") from error
        size = self._tokenizer.get_vocab_size()
        if files.vocabulary is not None and size > files.vocabulary:
            raise EngineFaultError(
                f"{self._file} has {size} tokens, config.json says {files.vocabulary}; "
                "use the tokenizer of the same model"
            )

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without any of the template."""
        text = replace_surrogates(text)
        ids: list[int] = self._tokenizer.encode(
            text.lower() if self._lower_case else text, add_special_tokens=False
        ).ids
        return ids

    def query(self, texts: Sequence[str], limit: int) -> list[int]:
        """The tokens of one text, or of the parts of a query; at least one, at most ``limit``."""
        parts = [self.ids(text) for text in texts]
        ids = query_tokens(parts, limit, self._first, self._last)
        return [token for token in ids if token != _NONE] or [0]  # a graph needs one token

    def pair_template(self) -> _PairTemplate:
        """The template of two texts. Raises EngineFaultError if there is none."""
        first, second = _WORDS
        encoding = self._tokenizer.encode(first, second)
        ids, types, numbers = encoding.ids, encoding.type_ids, encoding.sequence_ids
        if 0 not in numbers or 1 not in numbers:
            raise EngineFaultError(f"{self._file} has no template for two texts; use another model")
        starts = numbers.index(0), numbers.index(1)
        ends = starts[1] - numbers[: starts[1]][::-1].index(0), len(ids) - numbers[::-1].index(1)
        return _PairTemplate(
            opening=(ids[: starts[0]], types[: starts[0]]),
            middle=(ids[ends[0] : starts[1]], types[ends[0] : starts[1]]),
            closing=(ids[ends[1] :], types[ends[1] :]),
            types=(types[starts[0]], types[starts[1]]),
        )

    def _single(self) -> tuple[int, int]:
        """The tokens before and after a text; _NONE where the model has none."""
        encoding = self._tokenizer.encode(_WORDS[0])
        numbers = encoding.sequence_ids
        start, end = numbers.index(0), len(numbers) - numbers[::-1].index(0)
        before, after = encoding.ids[:start], encoding.ids[end:]
        if len(before) > 1 or len(after) > 1:
            raise EngineFaultError(
                f"{self._file} puts {len(before)} tokens before and {len(after)} after a text; "
                "at most one on each side is supported, use another model"
            )
        return before[0] if before else _NONE, after[0] if after else _NONE


def pair(template: _PairTemplate, query: list[int], passage: list[int], limit: int) -> Typed:
    """The tokens of two texts, at most ``limit``: first the passage loses its end, then the query.

    The query keeps its head and its tail, and at least half of the room.
    """
    room = max(limit - template.length, 0)
    passage = passage[: max(room - len(query), room // 2)]
    query = head_and_tail(query, room - len(passage))
    parts = (
        template.opening,
        (query, [template.types[0]] * len(query)),
        template.middle,
        (passage, [template.types[1]] * len(passage)),
        template.closing,
    )
    return [i for ids, _ in parts for i in ids], [t for _, types in parts for t in types]


def _open(files: ModelFiles) -> Any:  # noqa: ANN401 - the library's two classes share no type
    from tokenizers import BertWordPieceTokenizer, Tokenizer  # noqa: PLC0415 - loaded on demand

    if files.tokenizer.suffix == ".txt":
        return BertWordPieceTokenizer(str(files.tokenizer), lowercase=files.lower_case)
    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
