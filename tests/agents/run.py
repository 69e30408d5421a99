"""Lets real coding agents do one task each through the gateway, and prints what came of it.

``python -m tests.agents.run [NAME...] [--upstream DIALECT] [--fault FAULT] [--tools FOLDER]``
installs the agents into a temporary folder, or into ``--tools`` to use them again. Needs npm, and
the registries of npm and PyPI once. Exits with 1 if a run failed.
"""

import argparse
import secrets
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.agents.agents import AGENTS, Agent, Task
from tests.agents.attempt import attempt, faults_of_keys, keep
from tests.agents.gateway import ROWS, AccessLog, plain, serve
from tests.agents.install import PACKAGES, install
from tests.agents.processes import Ran
from tests.agents.script import WORD
from tests.agents.upstream import COUNT_TOKENS, FAULTS, REFUSAL, SPEECHES, Upstream

_PATHS = dict(zip(("chat", "messages", "responses"), SPEECHES, strict=True))


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    agent: str
    upstream: str
    faults: list[str]
    seconds: float
    clients_view: str
    upstreams_view: str

    def __str__(self) -> str:
        verdict = "ok" if not self.faults else "; ".join(self.faults)
        seen = f"{self.clients_view} | {self.upstreams_view}"
        return f"{self.agent} | {self.upstream} | {verdict} | {self.seconds:.1f} s | {seen}"


@dataclass(frozen=True)
class Bench:
    """The gateway and the scripted model; they stay for all runs."""

    url: str
    access: AccessLog
    upstream: Upstream
    keep: Path | None
    fault: str
    """One of ``FAULTS``, or empty."""

    def run(self, name: str, dialect: str, program: Path) -> Outcome:
        """Runs an agent against a provider of a dialect."""
        agent = AGENTS[name]
        secret = f"secret-{secrets.token_hex(4)}"
        self.access.lines.clear()
        self.upstream.begin(is_strict=agent.dialect != dialect, fault=self.fault)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            home, work = Path(folder) / "home", Path(folder) / "work"
            home.mkdir()
            work.mkdir()
            (work / "note.txt").write_text(f"The word of today is {secret}.\n")
            prompt = f"Read the file {work}/note.txt and tell me the word in it."
            task = Task(program, self.url, ROWS[dialect].model, prompt, home)
            ran = attempt(agent.prepare(task), home, work)
        faults = self._faults(ran, secret, agent)
        wrong = {one.path for one in self.upstream.received} - {_PATHS[dialect]}
        if wrong - {COUNT_TOKENS}:
            faults.append(f"the provider was asked at {sorted(wrong)}")
        if self.keep is not None:
            received = self.upstream.received
            keep(self.keep / f"{name}-{dialect}", ran, received, self.access.lines)
        steps = ", ".join(one.step or "?" for one in self.upstream.received)
        return Outcome(name, dialect, faults, ran.seconds, _counted(self.access.lines), steps)

    def _faults(self, ran: Ran, secret: str, agent: Agent) -> list[str]:
        """What went wrong in a run, if anything."""
        received, faults = self.upstream.received, []
        gives_up = self.fault == "refused" or (self.fault == "cut" and not agent.resumes)
        wanted = f"note says: {secret}"
        if not agent.has_tools:
            wanted = WORD  # no fault befalls requests without tools
        elif gives_up:
            wanted = REFUSAL if self.fault == "refused" else "closed the connection"
        if ran.code is None:
            faults.append("took too long")
        elif ran.code and not gives_up:
            faults.append(f"exit status {ran.code}")
        if wanted not in ran.output:
            faults.append(f"no {wanted!r} in its output")
        if not self.fault:
            bad = {line for line in self.access.lines if not line.endswith(("200", "204"))}
            faults += [f"got {line}" for line in sorted(bad)]
        if agent.has_tools and not gives_up:
            steps = {one.step for one in received}
            faults += [f"no step {step!r}" for step in ("1 calls", "text") if step not in steps]
        faults += sorted({text for one in received for text in one.violations})
        return faults + faults_of_keys(received)


def _counted(lines: list[str]) -> str:
    return ", ".join(f"{count} x {line}" for line, count in Counter(lines).items())


def main(arguments: list[str]) -> int:
    """Runs the agents that are named, or all, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.agents.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(AGENTS))
    parser.add_argument("--upstream", choices=tuple(ROWS), help="only providers of this dialect")
    parser.add_argument("--tools", type=Path, help="folder of the agents, used again")
    parser.add_argument("--keep", type=Path, help="folder for outputs and requests")
    parser.add_argument("--fault", choices=FAULTS, default="", help="what befalls the requests")
    options = parser.parse_args(arguments)
    failed = False
    with ExitStack() as stack:
        temporary = Path(
            stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        )
        upstream = stack.enter_context(Upstream())
        url, access = stack.enter_context(serve(temporary, plain(upstream.url)))
        bench = Bench(url, access, upstream, options.keep, options.fault)
        print("agent | upstream | verdict | time | gateway's answers | upstream's answers")
        for name in options.names or AGENTS:
            agent = AGENTS[name]
            program = install(agent.tool, options.tools or temporary)
            package = PACKAGES[agent.tool]
            print(f"# {name}: {package.name} {package.version}", flush=True)
            for dialect in agent.upstreams:
                if options.upstream in {None, dialect}:
                    outcome = bench.run(name, dialect, program)
                    print(outcome, flush=True)
                    failed = failed or bool(outcome.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
