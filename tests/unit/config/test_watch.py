"""The watch over a file: a valid change replaces the state, an invalid one changes nothing."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve_app.config import watch
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.watch import KEPT, Watch
from tests.site import eventually


@dataclass(frozen=True)
class State:
    version: str


def compiling(file: Path) -> Callable[[], State]:
    """The file's text as a version; ``bad`` can't be compiled, and ``bug`` is one of ours."""

    def compile_() -> State:
        text = file.read_text()
        if text == "bad":
            raise ConfigError(str(file), (Problem(1, "x", "is bad"),))
        if text == "bug":
            raise RuntimeError("a secret")
        return State(text)

    return compile_


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(watch, "SETTLED_S", 0.001)
    path = tmp_path / "gateway.yaml"
    path.write_text("one")
    return path


def test_changed_file_replaces_the_state(file: Path) -> None:
    """It is replaced at the next reading; without a change nothing happens."""
    adopted: list[State] = []
    watching = Watch(str(file), compiling(file), adopted.append)
    assert not watching.look()
    file.write_text("two")
    assert watching.look()
    assert watching.current == State("two")
    assert adopted == [State("two")]
    assert watching.of("one") == State("one")
    assert not watching.look()


@pytest.mark.parametrize(
    ("text", "why"),
    [("bad", "gateway.yaml has 1 problem:\n  line 1: x: is bad"), ("bug", "RuntimeError while")],
)
def test_bad_file_changes_nothing(file: Path, text: str, why: str) -> None:
    """The error is reported once, and cleared when the file is good again."""
    heard: list[str | None] = []
    watching = Watch(str(file), compiling(file), on_change=lambda: heard.append(watching.error))
    file.write_text(text)
    assert not watching.look()
    assert not watching.look()
    assert watching.current == State("one")
    assert why in str(watching.error)
    assert "secret" not in str(watching.error)
    file.write_text("one")
    assert watching.look()
    assert watching.error is None
    assert [error is None for error in heard] == [False, True]


def test_state_that_cannot_be_adopted_is_refused(file: Path) -> None:
    """The old state stays active."""

    def adopt(state: State) -> None:
        raise ConfigError(state.version, (Problem(0, "", "not here"),))

    watching = Watch(str(file), compiling(file), adopt)
    file.write_text("two")
    assert not watching.look()
    assert watching.current == State("one")
    assert watching.error == "two has 1 problem:\n  not here"


def test_file_may_disappear_and_return(file: Path) -> None:
    """A moment without it, as with editors and mounts, loses nothing."""
    watching = Watch(str(file), compiling(file))
    file.unlink()
    assert not watching.look()
    assert (watching.current.version, bool(watching.error)) == ("one", True)
    file.write_text("two")
    assert watching.look()
    assert (watching.current.version, watching.error) == ("two", None)


def test_swapped_folder_is_noticed(tmp_path: Path, file: Path) -> None:
    """Kubernetes swaps the folder of a ConfigMap."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.yaml").write_text(name)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    path = link / "gateway.yaml"
    watching = Watch(str(path), compiling(path))
    (tmp_path / "new").symlink_to(tmp_path / "two")
    os.replace(tmp_path / "new", link)  # noqa: PTH105 - a link, not what it points to
    assert watching.look()
    assert watching.current == State("two")


def test_last_versions_are_kept(file: Path) -> None:
    """KEPT of them are kept, with the active one."""
    watching = Watch(str(file), compiling(file))
    for number in range(KEPT + 2):
        file.write_text(f"v{number}")
        assert watching.look()
    assert watching.of("v1") is None
    assert all(watching.of(f"v{number}") for number in range(2, KEPT + 2))
    assert watching.of("") is None


def test_half_written_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file is read once it stops changing."""
    monkeypatch.setattr(watch, "SETTLED_S", 0.4)
    path = tmp_path / "gateway.yaml"
    path.write_text("one")
    seen: list[str] = []
    watching = Watch(str(path), compiling(path), lambda state: seen.append(state.version))

    def write() -> None:
        for size in range(1, 13):
            path.write_text("x" * size)
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.02)
    while not watching.look():
        pass
    writer.join()
    assert seen == ["x" * 12]


def test_watch_reads_in_its_own_thread(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends with the watch; without a file there is none."""
    monkeypatch.setattr(watch, "WATCH_S", 0.01)
    changed = threading.Event()
    watching = Watch(str(file), compiling(file), on_change=changed.set)
    watching.start()
    file.write_text("two")
    assert changed.wait(5)
    assert watching.current == State("two")
    watching.close()
    nothing = Watch(None, lambda: State("none"))
    nothing.start()
    assert not nothing.look()
    assert nothing.current == State("none")
    nothing.close()


def test_watch_reports_every_look(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing changes, because gauges expire that are not set again."""
    monkeypatch.setattr(watch, "WATCH_S", 0.01)
    looks: list[str] = []
    watching = Watch(
        str(file), compiling(file), on_look=lambda: looks.append(watching.current.version)
    )
    watching.start()
    eventually(lambda: len(looks) > 2, 10)
    watching.close()
    assert set(looks) == {watching.current.version}
