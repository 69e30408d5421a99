"""A gateway with sessions for tests: its configuration, scores, turns and requests."""

from pathlib import Path
from typing import Any, Final

from serve_app.affinity.identify import Session
from serve_app.domain import Reason, Scores, Unavailable
from tests.unit.fakes import FakeOrchestrator, FakeUpstream, Rig, headers_of, reply, snapshot_of

TEXT: Final = """version: v0.4.0
model_providers:
  - {model: openai/a, default: true}
  - {model: openai/b}
  - {model: openai/c}
model_aliases:
  smart: {target: auto}
routing_preferences:
  - {name: code, description: code, models: [openai/b, openai/c]}
  - {name: talk, description: talk, models: [openai/c]}
"""
SESSION: Final = Session("s", "", "")
SAID: Final = {name: {"x-model-affinity": name} for name in "st"}
CODE: Final = Scores({"code": 0.7, "talk": 0.2}, 0.1, "code")
TALK: Final = Scores({"code": 0.2, "talk": 0.7}, 0.1, "talk")
NOTHING: Final = Scores({"code": 0.0, "talk": 0.0}, 0.1, None)
DOWN: Final = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "late")
USER = {"role": "user", "content": "write a function"}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}},
        {"id": "2", "type": "function", "function": {"name": "grep", "arguments": "{}"}},
    ],
}
RESULTS = [{"role": "tool", "tool_call_id": str(number), "content": "x"} for number in (1, 2)]


def rig(folder: Path, text: str = TEXT, **script: Any) -> Rig:
    answers = {f"openai/{name}": [script.get(name, reply())] for name in "abc"}
    return Rig(snapshot_of(folder, text), FakeUpstream(answers), FakeOrchestrator(CODE))


async def ask(asking: Rig, scores: Scores | Unavailable, **more: Any) -> dict[str, str]:
    asking.orchestrator.scores = scores
    body = more.pop("body", {})
    return headers_of(await asking.ask(body, named=more.pop("named", SAID["s"]), **more))
