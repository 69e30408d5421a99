"""A gateway between fakes, with six models, for the tests of the use case."""

from collections.abc import Mapping, Sequence

from serve_app.domain import Reason, Scores, Unavailable
from serve_app.snapshot import Snapshot
from tests.unit.config.broken import V
from tests.unit.fakes import (
    FakeOrchestrator,
    FakeUpstream,
    Rig,
    Scripted,
)

TEXT = f"""{V}
model_providers:
  - {{model: openai/a, default: true}}
  - {{model: openai/b}}
  - {{model: vllm/c, base_url: "http://h:1"}}
  - {{model: vllm/*, base_url: "http://h:1"}}
  - {{model: openai/d}}
  - {{model: openai/e}}
model_aliases:
  fast: {{target: openai/b}}
timeouts: {{total_s: 100}}
"""
ROUTES = """
routing_preferences:
  - {name: code é, description: d, models: [openai/b, vllm/c]}
"""
DOWN = Unavailable(Reason.ORCHESTRATOR_TIMEOUT, "no answer")


def make_rig(
    snapshot: Snapshot,
    script: Mapping[str, Scripted | Sequence[Scripted]],
    scores: Scores | Unavailable = DOWN,
) -> Rig:
    answers = {name: a if isinstance(a, Sequence) else [a] for name, a in script.items()}
    return Rig(snapshot, FakeUpstream(answers), FakeOrchestrator(scores))
