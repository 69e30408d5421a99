"""Lets real coding agents work in routed conversations, and checks that each stays on its model.

``python -m tests.agents.routing [NAME...] [--upstream DIALECT] [--tools FOLDER] [--keep FOLDER]``
serves the gateway of the agent's page, with the embedded engine and two endpoints of each model,
in front of the scripted model. Prints a row for each scenario, and with ``--show`` one for each
request. Exits with 1 if a scenario failed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.agents.agents import AGENTS, Prepared, Task
from tests.agents.attempt import attempt, faults_of_keys, keep
from tests.agents.gateway import ROWS, RULED, routed, serve
from tests.agents.install import PACKAGES, install
from tests.agents.plan import DELEGATE, FULL, MAIN, READ, WAIT, Plan, Told
from tests.agents.tap import Tap
from tests.agents.turns import Turn, Wanted, cache_view, counted, faults_of, turns_of
from tests.agents.upstream import Upstream

_HARD: Final = "Plan the move of our sessions from memory to Redis"
_EASY: Final = "Where is the retry limit set"
_BY_RULE: Final = Wanted(RULED.partition("/")[2], "rule")


@dataclass(frozen=True)
class Scenario:
    """A run of an agent: what it is told, and where its requests have to go."""

    agent: str
    """Its name in ``AGENTS``."""
    page: str
    told: Mapping[str, Told]
    wanted: Mapping[str, Wanted]
    upstreams: tuple[str, ...]
    """The dialects of the providers that it is tried with."""
    compactions: int = 0
    """How many summaries the agent has to ask for, at least."""
    change: Callable[[Prepared], Prepared] = lambda prepared: prepared
    """What differs from the agent's other runs."""


def _by_content(model: str) -> Wanted:
    return Wanted(model, "route", "affinity")


def _five(*steps: str) -> dict[str, Told]:
    return {MAIN: Told(_HARD, [*steps, *[READ] * (5 - len(steps))])}


def _with_hooks(prepared: Prepared) -> Prepared:
    """Claude Code asks beside the conversation: by a hook of its small model, and one of the alias."""
    own = {"type": "prompt", "prompt": "May the tool run? $ARGUMENTS", "timeout": 30}
    other = {**own, "prompt": "Is this harmless? $ARGUMENTS", "model": "claude-auto"}
    hooks = [{"matcher": "Read", "hooks": [own, other]}]
    settings = {".claude/settings.json": json.dumps({"hooks": {"PreToolUse": hooks}})}
    return replace(prepared, files={**prepared.files, **settings})


_OPUS: Final = {"main": _by_content("claude-opus-5-5")}
_SOL: Final = {"main": _by_content("gpt-6.1-sol")}
SCENARIOS: Final[Mapping[str, Scenario]] = {
    "claude": Scenario(
        "claude",
        "claude-code",
        {
            MAIN: Told(_HARD, [READ, DELEGATE, READ, READ, READ]),
            "easy": Told(_EASY, [READ, READ], "general-purpose"),
            "explore": Told(_HARD, [READ, READ], "Explore"),
        },
        {
            **_OPUS,
            "subagent general-purpose": _by_content("claude-haiku-5-5"),
            "subagent Explore": _BY_RULE,
        },
        ("messages", "chat"),
    ),
    "claude-compaction": Scenario(
        "claude",
        "claude-code",
        _five(READ, READ, FULL),
        {**_OPUS, "compaction": _BY_RULE},
        ("messages", "chat"),
        1,
    ),
    "claude-beside": Scenario(
        "claude",
        "claude-code",
        _five(),
        {
            **_OPUS,
            "auxiliary": _BY_RULE,
            "auxiliary by claude-small": Wanted("claude-haiku-5-5", "alias"),
        },
        ("messages", "chat"),
        change=_with_hooks,
    ),
    "codex": Scenario("codex", "codex", _five(), _SOL, ("responses", "chat")),
    "codex-compaction": Scenario(
        "codex",
        "codex",
        _five(READ, READ, FULL),
        {**_SOL, "compaction": _BY_RULE},
        ("responses", "chat"),
        1,
    ),
    "codex-subagent": Scenario(
        "codex",
        "codex",
        {MAIN: Told(_HARD, [READ, DELEGATE, WAIT, READ]), "easy": Told(_EASY, [READ, READ])},
        {**_SOL, "subagent collab_spawn": _BY_RULE},
        ("responses", "chat"),
    ),
    **{
        f"opencode-{dialect}": Scenario(
            f"opencode-{dialect}",
            "opencode",
            {
                MAIN: Told(_HARD, [READ, DELEGATE, READ, FULL, READ]),
                "easy": Told(_EASY, [READ, READ], "general"),
            },
            {
                **_SOL,
                "main by opencode-small": Wanted("gpt-6-luna", "alias"),
                "subagent": _BY_RULE,
            },
            (dialect, "chat" if dialect != "chat" else "messages"),
            1,
        )
        for dialect in ROWS
    },
    "cline": Scenario("cline", "cline", _five(), _SOL, ("chat", "messages")),
    "continue": Scenario("continue", "continue", _five(), _SOL, ("chat", "messages")),
}


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    name: str
    upstream: str
    faults: list[str]
    seconds: float
    turns: list[Turn]

    def __str__(self) -> str:
        verdict = "; ".join(dict.fromkeys(self.faults)) or "ok"
        hits, pairs = cache_view(self.turns)
        row = f"{self.name} | {self.upstream} | {verdict} | {self.seconds:.1f} s"
        return f"{row} | {counted(self.turns)} | {hits} of {pairs}"


def run_scenario(name: str, dialect: str, program: Path, folder: Path, kept: Path | None) -> Result:
    """Runs a scenario once in an empty folder, and writes what came of it to ``kept``."""
    scenario = SCENARIOS[name]
    agent = AGENTS[scenario.agent]
    home, work = folder / "home", folder / "work"
    home.mkdir(parents=True)
    work.mkdir()
    with ExitStack() as stack:
        plan = Plan(work, scenario.told)
        upstream = stack.enter_context(Upstream())
        config = routed(scenario.page, dialect, upstream.url)
        url, access = stack.enter_context(serve(folder, config))
        tap = stack.enter_context(Tap(url))
        upstream.begin(is_strict=agent.dialect != dialect, script=plan.decide)
        task = Task(program, tap.url, None, plan.prompt(MAIN), home)
        ran = attempt(scenario.change(agent.prepare(task)), home, work)
        turns = turns_of(tap.passed, upstream.received)
        if kept is not None:
            keep(kept / f"{name}-{dialect}", ran, tap.passed, [*map(str, turns), *access.lines])
    faults = [] if ran.code == 0 else [f"exit status {ran.code}"]
    if f"note of {MAIN} says: secret-{MAIN}" not in ran.output:
        faults.append("the word is not in its output")
    if plan.compactions < scenario.compactions:
        faults.append(f"{plan.compactions} compactions, not {scenario.compactions}")
    faults += faults_of(turns, scenario.wanted) + faults_of_keys(upstream.received)
    faults += sorted({text for one in upstream.received for text in one.violations})
    return Result(name, dialect, faults, ran.seconds, turns)


def main(arguments: list[str]) -> int:
    """Runs the scenarios that are named, or all, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.agents.routing", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--upstream", choices=tuple(ROWS), help="only providers of this dialect")
    parser.add_argument("--tools", type=Path, help="folder of the agents, used again")
    parser.add_argument("--keep", type=Path, help="folder for outputs and requests")
    parser.add_argument("--show", action="store_true", help="a row for each request, too")
    options = parser.parse_args(arguments)
    failed = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        print("scenario | upstream | verdict | time | requests | same endpoint")
        for name in options.names or SCENARIOS:
            tool = AGENTS[SCENARIOS[name].agent].tool
            program = install(tool, options.tools or Path(temporary))
            print(f"# {name}: {PACKAGES[tool].name} {PACKAGES[tool].version}", flush=True)
            for dialect in SCENARIOS[name].upstreams:
                if options.upstream in {None, dialect}:
                    folder = Path(temporary) / "runs" / f"{name}-{dialect}"
                    result = run_scenario(name, dialect, program, folder, options.keep)
                    print(result, flush=True)
                    if options.show:
                        print("\n".join(f"    {turn}" for turn in result.turns), flush=True)
                    failed = failed or bool(result.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
