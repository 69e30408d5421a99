"""The tokens in OpenAI's objects ``usage``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects import ir
from serve_app.dialects.openai_usage import UsageNames
from serve_app.domain import Json

NAMES = UsageNames("input_tokens", "output_tokens")
COUNT = st.integers(0, 10**9)


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        (None, None),
        ({}, None),
        ({"total_tokens": 3}, None),
        ({"prompt_tokens": 3}, None),
        ({"input_tokens": -1, "output_tokens": "2"}, None),
        ({"output_tokens": 2}, ir.Usage(output=2)),
        ({"input_tokens": 3.0, "input_tokens_details": {"cached_tokens": 1}}, ir.Usage(2, 1)),
        ({"input_tokens": 1, "input_tokens_details": {"cached_tokens": 4}}, ir.Usage(0, 4)),
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 0},
                "prompt_cache_hit_tokens": 4,
            },
            ir.Usage(5, 4),
        ),
        ({"input_tokens": 9, "cached_tokens": 4, "cache_write_tokens": 2}, ir.Usage(3, 4, 2)),
    ],
)
def test_usage_is_read(sent: Json, usage: ir.Usage | None) -> None:
    """Counts of another type count as absent; the input holds the cached tokens."""
    assert NAMES.read(sent) == usage


@given(COUNT, COUNT, COUNT, COUNT, st.none() | COUNT)
def test_usage_comes_back(
    new: int, read: int, written: int, output: int, spent: int | None
) -> None:
    """What is written for a client is read from a provider as the same."""
    usage = ir.Usage(new, read, written, output, spent)
    body = NAMES.write(usage)
    assert NAMES.read(body) == usage
    assert body["total_tokens"] == new + read + written + output
