"""Prices of the four classes of tokens."""

from pathlib import Path

from serve_app.dialects import ir
from serve_app.domain import ModelRef
from serve_app.providers.prices import answer_usd, price_table
from tests.unit.config.broken import V
from tests.unit.fakes import snapshot_of

TEXT = f"""{V}model_providers: [{{model: openai/a}}, {{model: openai/b}}]
prices:
  openai/a: {{input: 2, output: 8, cached_input: 0.5, cache_write: 3}}
  openai/b: {{input: 2, output: 8}}
"""
MILLION = 1_000_000


def test_configured_price_has_four_classes(tmp_path: Path) -> None:
    """Each class of tokens has its configured price, or costs as plain input without one."""
    table = price_table(snapshot_of(tmp_path, TEXT).config)
    usage = ir.Usage(MILLION, cache_read=MILLION, cache_write=MILLION, output=MILLION)
    own, other = (table.price(ModelRef("openai", name)) for name in "ab")
    assert own is not None
    assert other is not None
    assert answer_usd(own, usage) == 2 + 0.5 + 3 + 8
    assert answer_usd(other, usage) == 2 + 2 + 2 + 8
