"""One run of an agent, and what every run has to keep to."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.agents.agents import Prepared, environ_of
from tests.agents.gateway import CLIENT_KEY, KEY, SECOND_KEY
from tests.agents.processes import Ran, run


class Kept(Protocol):
    """A request that is written to files."""

    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


def attempt(prepared: Prepared, home: Path, folder: Path) -> Ran:
    """Runs an agent once in ``folder``, with a HOME that has its files."""
    for name, text in prepared.files.items():
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    environ = {**environ_of(home), **prepared.environ}
    if prepared.before:
        done = run(prepared.before, environ, folder)
        if done.code != 0:
            return done
    return run(prepared.command, environ, folder)


def keep(folder: Path, ran: Ran, requests: Sequence[Kept], lines: Iterable[str]) -> None:
    """Writes an agent's output, its requests, and a line for each answer into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "output.txt").write_text(ran.output)
    (folder / "access.txt").write_text("\n".join(lines))
    for number, one in enumerate(requests):
        (folder / f"{number}-headers.txt").write_text(
            "\n".join([one.path, *(f"{name}: {value}" for name, value in one.headers.items())])
        )
        (folder / f"{number}-body.json").write_bytes(one.body)


def faults_of_keys(received: Iterable[Kept]) -> list[str]:
    """What is wrong with the keys that a provider got."""
    shown = [str(one.headers) for one in received]
    faults = []
    if any(CLIENT_KEY in headers for headers in shown):
        faults.append("the client's key went to the provider")
    if not all(KEY in headers or SECOND_KEY in headers for headers in shown):
        faults.append("a request had no key of the provider")
    return faults
