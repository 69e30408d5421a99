"""The scripted model in several conversations, without an agent."""

import json
from pathlib import Path

import pytest

from tests.agents.plan import DELEGATE, FULL, MAIN, READ, WAIT, Plan, Told
from tests.agents.script import Asked, Offered, Said

TEXT = {"type": "string"}
READER = Offered("Read", {"properties": {"file_path": TEXT}, "required": ["file_path"]})
SPAWN = Offered(
    "spawn_agent", {"properties": {"message": TEXT, "subagent_type": TEXT}}, "multi_agent"
)
WAITER = Offered("wait_agent", {"properties": {"targets": {"type": "array"}}})


def plan_of(folder: Path, *steps: str) -> Plan:
    """A plan with a main conversation and one for a subagent."""
    return Plan(folder, {MAIN: Told("Plan it", steps), "other": Told("Find it", [READ], "Explore")})


def ask(plan: Plan, *texts: str, results: tuple[str, ...] = (), tools: bool = True) -> Said:
    """The next answer; the request must not be refused."""
    asked = Asked("m", is_stream=False, texts=list(texts), results=list(results))
    asked.tools = [READER, SPAWN, WAITER] if tools else []
    said = plan.decide(asked, 7)
    assert not asked.violations
    return said


def test_conversations_have_steps_of_their_own(tmp_path: Path) -> None:
    """Each reads its next note, and ends with what its notes say."""
    plan = plan_of(tmp_path, READ, FULL)
    main, other = plan.prompt(MAIN), plan.prompt("other")
    read = [ask(plan, text) for text in (main, other, main)]
    paths = [json.loads(said.calls[0].arguments)["file_path"] for said in read]
    assert [path.removeprefix(f"{tmp_path}/") for path in paths] == [
        "main/0.txt",
        "other/0.txt",
        "main/1.txt",
    ]
    assert [said.tokens for said in read] == [100, 100, 990_000]
    assert Path(paths[2]).read_text() == "The word of today is secret-main.\n"
    end = ask(plan, main, results=("secret-main",))
    assert (end.text, end.calls) == ("The note of main says: secret-main", ())


def test_subagents_get_the_other_conversations(tmp_path: Path) -> None:
    """Arguments are those that the tool knows; waiting names the agents that were started."""
    plan = plan_of(tmp_path, DELEGATE, WAIT)
    [call] = ask(plan, plan.prompt(MAIN)).calls
    assert json.loads(call.arguments) == {
        "message": plan.prompt("other"),
        "subagent_type": "Explore",
    }
    assert (call.name, call.namespace) == ("spawn_agent", "multi_agent")
    [call] = ask(plan, plan.prompt(MAIN), results=('{"agent_id":"a-1","nickname":"x"}',)).calls
    assert json.loads(call.arguments) == {"targets": ["a-1"]}


@pytest.mark.parametrize("keeps", [True, False])
def test_compacted_conversation_goes_on(tmp_path: Path, keeps: bool) -> None:
    """At its next step, even if the agent keeps nothing of what the user said."""
    plan = plan_of(tmp_path, READ, READ)
    prompt = plan.prompt(MAIN)
    ask(plan, prompt)
    summary = ask(plan, prompt, "Write a detailed summary").text
    assert plan.compactions == 1
    next_ = ask(plan, *([summary] if keeps else []), "Go on")
    assert json.loads(next_.calls[0].arguments)["file_path"].endswith("main/1.txt")


def test_requests_beside_get_a_verdict(tmp_path: Path) -> None:
    """Without tools, or without a prompt of the plan, there is nothing to do."""
    plan = plan_of(tmp_path, READ)
    beside = ask(plan, plan.prompt(MAIN), tools=False)
    assert json.loads(beside.text)["ok"] is True
    assert ask(plan, "Hello").text == beside.text


def test_missing_tool_is_reported(tmp_path: Path) -> None:
    """An agent that can't start subagents fails its scenario."""
    plan = plan_of(tmp_path, DELEGATE)
    asked = Asked("m", is_stream=False, texts=[plan.prompt(MAIN)], tools=[READER])
    assert plan.decide(asked, 1).calls == ()
    assert asked.violations == ["no tool for delegate: ['Read']"]
