"""The order of a route's models in ``fingerpost route``."""

from pathlib import Path

import pytest

from serve_app.cli.main import main
from tests.unit.config_texts import VERSION

USD = "USD per million tokens of input and output"
TEXT = f"""{VERSION}
model_providers:
  - {{model: openai/a, default: true}}
  - {{model: openai/b}}
routing_preferences:
  - name: code
    description: writing, explaining and debugging code
    models: [b, {{model: a, effort: low}}]
    selection_policy: {{prefer: %s}}
prices:
  openai/a: {{input: 1, output: 2}}
  openai/b: {{input: 2, output: 2}}
"""


@pytest.mark.parametrize(
    ("prefer", "shown"),
    [
        (
            "cheapest",
            [
                f"openai/a: model 2 of route 'code', cheapest first, 3 {USD}",
                f"openai/b: model 1 of route 'code', cheapest first, 4 {USD}",
            ],
        ),
        (
            "fastest",
            [
                "openai/b: model 1 of route 'code', fastest first, not measured",
                "openai/a: model 2 of route 'code', fastest first, not measured",
            ],
        ),
        (
            "none",
            ["openai/b: model 1 of route 'code'", "openai/a: model 2 of route 'code'"],
        ),
    ],
)
def test_models_are_shown_in_their_order(
    prefer: str, shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a gateway that has not measured anything yet."""
    config = tmp_path / "gateway.yaml"
    config.write_text(TEXT % prefer, "utf-8")
    assert main(["route", "Why does this Python loop never end?", "--config", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.partition(". ")[2] for line in lines] == shown
