"""Warnings about budgets: where they are counted, and models without a price."""

from pathlib import Path

import pytest

from serve_app.access.enforcement import limits_problem
from serve_app.access.spending_warnings import spending_warnings
from serve_app.snapshot import Snapshot, compile_snapshot
from tests.unit.access.api_rig import ENVIRON, MODELS
from tests.unit.config.broken import V

BUDGET = "client_keys: [{key: $IDE, name: a, budget: {usd: 1}}]\n"
REDIS = "limit_storage: {type: redis, url: 'redis://h'}\n"
MEMORY = "budgets are counted in memory and begin again when the gateway restarts; set limit_storage.type: redis with a url"
UNPRICED = "client keys with a budget can't use vllm/own, because the price is unknown; set it under prices"
PRICES = "prices: {vllm/own: {input: 0, output: 0}}\n"


def compiled(folder: Path, more: str) -> Snapshot:
    file = folder / "gateway.yaml"
    file.write_text(V + MODELS + more)
    return compile_snapshot(file, ENVIRON)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (BUDGET, [MEMORY, UNPRICED]),
        ("teams: {t: {budget: {usd: 1}}}\n" + PRICES, [MEMORY]),
        (BUDGET + REDIS, [UNPRICED]),
        (BUDGET + REDIS + PRICES, []),
        ("savings: {baseline: openai/gpt-4o}\n", []),
        (
            "savings: {baseline: vllm/own}\n",
            [
                "savings.baseline: the price of 'vllm/own' is unknown, so nothing is compared; set it under prices"
            ],
        ),
    ],
)
def test_warning_says_what_a_budget_lacks(text: str, expected: list[str], tmp_path: Path) -> None:
    """Counts that are lost at a restart, and models that keys with a budget can't use, are named."""
    snapshot = compiled(tmp_path, text)
    found = spending_warnings(snapshot.config, snapshot.policy, snapshot.baseline)
    assert list(found) == expected


def test_limits_in_memory_need_one_replica(tmp_path: Path) -> None:
    """What a running ingress counts in decides, also after a reload that names Redis."""
    limited = compiled(tmp_path, BUDGET).config
    shared = compiled(tmp_path, BUDGET + REDIS).config
    assert limits_problem(limited, 1) is None
    assert limits_problem(shared, 8) is None
    assert limits_problem(compiled(tmp_path, "").config, 8) is None
    for problem in (limits_problem(limited, 8), limits_problem(shared, 8, "memory")):
        assert problem is not None
        assert "8 replicas" in problem
