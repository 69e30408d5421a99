"""Files of logs: rotated by size, bounded in number, shared by processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.telemetry.rotated_file import RotatedFile


def append(file: RotatedFile, content: bytes) -> bool:
    """Writes once, and returns whether a file was opened for it."""
    is_new = file.prepare(len(content))
    assert file.write(content) == len(content)
    return is_new


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_files_are_rotated_by_size_and_bounded_in_number(tmp_path: Path) -> None:
    """The oldest is deleted; a new file is reported, so that it can have its first line."""
    file = RotatedFile(tmp_path / "logs" / "a.jsonl", max_bytes=10, files=3)
    news = [append(file, b"%d----\n" % number) for number in range(8)]
    file.close()
    assert news == [True, *([True] * 7)]
    assert contents(tmp_path / "logs") == {
        "a.jsonl": b"7----\n",
        "a.jsonl.1": b"6----\n",
        "a.jsonl.2": b"5----\n",
    }


def test_lines_share_a_file_as_long_as_they_fit(tmp_path: Path) -> None:
    """A line that is larger than a file is alone in one."""
    file = RotatedFile(tmp_path / "a", max_bytes=10, files=9)
    assert [append(file, line) for line in (b"1234\n", b"5678\n", b"x" * 20 + b"\n", b"9\n")] == [
        True,
        False,
        True,
        True,
    ]
    file.close()
    assert contents(tmp_path) == {"a": b"9\n", "a.1": b"x" * 20 + b"\n", "a.2": b"1234\n5678\n"}


def test_single_file_begins_anew(tmp_path: Path) -> None:
    """With ``files: 1`` nothing is kept of the full one."""
    file = RotatedFile(tmp_path / "a", max_bytes=6, files=1)
    for line in (b"first\n", b"second\n"):
        append(file, line)
    file.close()
    assert contents(tmp_path) == {"a": b"second\n"}


def test_files_beyond_a_smaller_number_are_deleted(tmp_path: Path) -> None:
    """The bound holds after it was lowered."""
    for number in range(1, 6):
        (tmp_path / f"a.{number}").write_bytes(b"%d\n" % number)
    file = RotatedFile(tmp_path / "a", max_bytes=6, files=2)
    for line in (b"first\n", b"second\n"):
        append(file, line)
    file.close()
    assert contents(tmp_path) == {"a": b"second\n", "a.1": b"first\n"}


def test_file_that_others_renamed_is_opened_anew(tmp_path: Path) -> None:
    """So logrotate needs neither a signal nor ``copytruncate``."""
    file = RotatedFile(tmp_path / "a", max_bytes=100, files=2)
    append(file, b"first\n")
    (tmp_path / "a").rename(tmp_path / "a-2026")
    assert append(file, b"second\n")
    (tmp_path / "a").unlink()
    assert append(file, b"third\n")
    file.close()
    assert contents(tmp_path) == {"a": b"third\n", "a-2026": b"first\n"}


def test_new_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    """Texts of conversations are for the gateway's own user alone."""
    file = RotatedFile(tmp_path / "a", max_bytes=100, files=2, mode=0o600)
    append(file, b"line\n")
    file.close()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_pipe_without_a_reader_is_a_fault(tmp_path: Path) -> None:
    """The thread does not wait for one."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        RotatedFile(tmp_path / "pipe", max_bytes=100, files=2).prepare(1)


def test_processes_share_a_file_without_losing_a_line(tmp_path: Path) -> None:
    """Four append and rotate at once; each line is there once, and whole."""
    program = (
        "import sys; from pathlib import Path\n"
        "from serve_app.telemetry.rotated_file import RotatedFile\n"
        "file = RotatedFile(Path(sys.argv[1]), max_bytes=4000, files=900)\n"
        "for number in range(600):\n"
        "    line = f'{sys.argv[2]} {number} {\"x\" * (number % 90)}\\n'.encode()\n"
        "    file.prepare(len(line)); assert file.write(line) == len(line)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "shared"), name])
        for name in "abcd"
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    found = contents(tmp_path)
    assert len(found) > 10
    lines = b"".join(found.values()).decode().splitlines()
    assert sorted(lines) == sorted(
        f"{name} {number} {'x' * (number % 90)}" for name in "abcd" for number in range(600)
    )
