"""How models of Anthropic are asked to think."""

import pytest

from serve_app.dialects import ir
from serve_app.domain import Json
from tests.unit.dialects.anthropic_messages.test_write_request import (
    ADAPTIVE,
    BUDGET,
    NEWEST,
    OLD,
    PLAIN,
    TOOL,
    USER,
    write,
)


def reasoned(model: str, reasoning: ir.Reasoning, **fields: Json) -> dict[str, Json]:
    """What a wish to think adds to a request, or changes."""
    body = write(model, reasoning=reasoning, **fields).body
    plain = write(model, **fields).body
    return {key: value for key, value in body.items() if plain.get(key) != value}


THINKING: list[tuple[str, ir.Reasoning, int, Json]] = [
    (OLD, ir.Reasoning(effort="high"), 100, {}),
    (BUDGET, ir.Reasoning(), 100, {}),
    (BUDGET, ir.Reasoning(summary="auto"), 100, {}),
    (BUDGET, ir.Reasoning(effort="none"), 100, {}),
    (BUDGET, ir.Reasoning(effort="minimal"), 100, {}),
    (BUDGET, ir.Reasoning(enabled=False, effort="high"), 100, {}),
    (
        BUDGET,
        ir.Reasoning(effort="low"),
        100,
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2148},
    ),
    (
        BUDGET,
        ir.Reasoning(effort="xhigh"),
        30000,
        {"thinking": {"type": "enabled", "budget_tokens": 24576}},
    ),
    (
        BUDGET,
        ir.Reasoning(enabled=True),
        30000,
        {"thinking": {"type": "enabled", "budget_tokens": 8192}},
    ),
    (
        BUDGET,
        ir.Reasoning(budget_tokens=10),
        30000,
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    ),
    (
        "claude-opus-4-1",
        ir.Reasoning(effort="max"),
        20000,
        {"thinking": {"type": "enabled", "budget_tokens": 16000}, "max_tokens": 32000},
    ),
    (
        "kimi-k2",
        ir.Reasoning(budget_tokens=40000),
        20000,
        {"thinking": {"type": "enabled", "budget_tokens": 40000}, "max_tokens": 60000},
    ),
    (
        ADAPTIVE,
        ir.Reasoning(effort="medium"),
        100,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}},
    ),
    (
        ADAPTIVE,
        ir.Reasoning(effort="xhigh"),
        100,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
    ),
    (
        NEWEST,
        ir.Reasoning(effort="max", summary="detailed"),
        100,
        {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "max"},
        },
    ),
    (
        NEWEST,
        ir.Reasoning(enabled=True, summary="none"),
        100,
        {"thinking": {"type": "adaptive", "display": "omitted"}},
    ),
    (NEWEST, ir.Reasoning(effort="none"), 100, {"output_config": {"effort": "low"}}),
    *(
        (
            NEWEST,
            ir.Reasoning(budget_tokens=budget),
            100,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}},
        )
        for budget, effort in ((4096, "low"), (16384, "medium"), (16385, "high"))
    ),
]


@pytest.mark.parametrize(("model", "reasoning", "limit", "added"), THINKING)
def test_thinking(model: str, reasoning: ir.Reasoning, limit: int, added: Json) -> None:
    """Each generation of models is asked to think in its own way."""
    assert reasoned(model, reasoning, max_output_tokens=limit) == added


def test_thinking_gives_way_to_a_forced_call() -> None:
    """Models that think by a budget can't be forced to call tools; adaptive ones can."""
    fields: dict[str, Json] = {
        "tools": (TOOL,),
        "tool_choice": ir.ToolChoice(ir.ToolMode.REQUIRED),
        "reasoning": ir.Reasoning(effort="low"),
    }
    written = write(BUDGET, PLAIN, **fields)
    assert "thinking" not in written.body
    assert written.dropped == ("reasoning",)
    assert "thinking" in write(ADAPTIVE, PLAIN, **fields).body


def test_thinking_gives_way_to_an_open_tool_loop() -> None:
    """The model's last turn has no thoughts of its own."""
    history = (
        USER,
        ir.Message(ir.Role.ASSISTANT, (ir.ToolCall("i", "a"),)),
        ir.Message(ir.Role.USER, (ir.ToolResult("i"),)),
    )
    fields: dict[str, Json] = {
        "messages": history,
        "tools": (TOOL,),
        "reasoning": ir.Reasoning(effort="low"),
    }
    assert write(BUDGET, PLAIN, **fields, names={"reasoning": "thinking"}).dropped == ("thinking",)
    assert "thinking" in write(ADAPTIVE, PLAIN, **fields).body


@pytest.mark.parametrize(
    ("sampling", "kept", "dropped"),
    [
        (ir.Sampling(temperature=0.2, top_k=3), {}, ("temperature", "top_k")),
        (ir.Sampling(temperature=1), {}, ()),
        (ir.Sampling(top_p=0.5), {}, ("top_p",)),
        (ir.Sampling(top_p=0.97), {"top_p": 0.97}, ()),
    ],
)
def test_sampling_gives_way_to_thinking(
    sampling: ir.Sampling, kept: dict[str, Json], dropped: tuple[str, ...]
) -> None:
    """A model that thinks samples as it does by default."""
    written = write(BUDGET, reasoning=ir.Reasoning(effort="low"), sampling=sampling)
    names = ("temperature", "top_p", "top_k")
    assert {key: written.body[key] for key in names if key in written.body} == kept
    assert written.dropped == dropped
