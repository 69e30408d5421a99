"""What commands write."""

import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from serve_app.cli.output import replace_file, say, say_json
from serve_app.config.locations import ConfigError


def terminal(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    return written


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "\\xe9 \\u5199 \\ud83d"),
        ("latin-1", "é \\u5199 \\ud83d"),
        ("utf-8", "é 写 \\ud83d"),
    ],
)
def test_what_an_encoding_lacks_is_escaped(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the line is ended as it is asked to be."""
    written = terminal(monkeypatch, encoding)
    say("é 写 \ud83d", end="")
    assert written.getvalue().decode(encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
@pytest.mark.parametrize("text", ["plain", "é 写 😀", "half \ud83d"])
def test_json_stays_json(encoding: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the terminal can show."""
    written = terminal(monkeypatch, encoding)
    say_json({"text": text})
    assert json.loads(written.getvalue().decode(encoding)) == {"text": text}


def test_json_is_readable_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs that the terminal has stand for themselves."""
    written = terminal(monkeypatch, "utf-8")
    say_json(["写"])
    assert written.getvalue().decode() == '[\n  "写"\n]\n'


def test_who_stops_reading_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is printed from then on, and nothing complains."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        say("one", closed)
        say("two", closed)


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """Its bytes change, its mode stays, and nothing is left beside it."""
    file = tmp_path / "gateway.yaml"
    file.write_text("old")
    file.chmod(0o640)
    before = file.stat().st_ino
    replace_file(file, "new\r\n写")
    assert file.read_bytes() == "new\r\n写".encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [file]


def refused(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        replace_file(file, "new")
    assert caught.value.file == str(file)
    return caught.value.problems[0].message


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    """A link, as a mounted configuration is one, would stop being a link."""
    file, link, pipe = tmp_path / "a", tmp_path / "link", tmp_path / "pipe"
    file.write_text("old")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert refused(link) == f"a link to {file}; name that file"
    assert refused(pipe) == refused(tmp_path) == "not a regular file; name one"
    assert refused(tmp_path / "no") == "cannot write the file: No such file or directory"
    assert file.read_text() == "old"


def test_what_can_not_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    """And no other beside it."""
    file = tmp_path / "gateway.yaml"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "half \ud83d")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_where_no_file_can_be_made_the_reason_is_told(tmp_path: Path) -> None:
    """Such as a name that leaves no room for another one beside it."""
    file = tmp_path / ("x" * 250)
    file.write_text("old")
    assert refused(file) == "cannot write the file: File name too long"
    assert file.read_text() == "old"
