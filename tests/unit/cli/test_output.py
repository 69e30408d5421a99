"""Output of the commands: to terminals, and to files."""

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
def test_characters_that_an_encoding_lacks_are_escaped(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line ends as requested."""
    written = terminal(monkeypatch, encoding)
    say("é 写 \ud83d", end="")
    assert written.getvalue().decode(encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
@pytest.mark.parametrize("text", ["plain", "é 写 😀", "half \ud83d"])
def test_json_is_valid_in_any_encoding(
    encoding: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal may lack characters."""
    written = terminal(monkeypatch, encoding)
    say_json({"text": text})
    assert json.loads(written.getvalue().decode(encoding)) == {"text": text}


def test_json_shows_characters_that_the_encoding_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not escaped."""
    written = terminal(monkeypatch, "utf-8")
    say_json(["写"])
    assert written.getvalue().decode() == '[\n  "写"\n]\n'


def test_closed_pipe_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the output is dropped."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        say("one", closed)
        say("two", closed)


def test_file_is_replaced(tmp_path: Path) -> None:
    """The mode is kept, and no other file is left in the folder."""
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
    """A link, as of a mounted configuration, would become a file."""
    file, link, pipe = tmp_path / "a", tmp_path / "link", tmp_path / "pipe"
    file.write_text("old")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert refused(link) == f"a link to {file}; name that file"
    assert refused(pipe) == refused(tmp_path) == "not a regular file; name one"
    assert refused(tmp_path / "no") == "cannot write the file: No such file or directory"
    assert file.read_text() == "old"


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    """No other file is left in the folder."""
    file = tmp_path / "gateway.yaml"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "half \ud83d")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_failed_creation_of_a_file_is_reported(tmp_path: Path) -> None:
    """The reason may be a name that is too long for a temporary file."""
    file = tmp_path / ("x" * 250)
    file.write_text("old")
    assert refused(file) == "cannot write the file: File name too long"
    assert file.read_text() == "old"
