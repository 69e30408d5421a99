"""References to the environment and to files: what they stand for, and what is said without them."""

import os
from pathlib import Path

import pytest

from serve_app.config.references import (
    MissingEnvironmentError,
    absolute,
    expand,
    is_file,
    missing,
    references,
    secrets,
)

ENVIRON = {"A": "one", "B_2": "two", "EMPTY": "", "DOLLAR": "$A"}


@pytest.mark.parametrize(
    ("text", "expanded", "names"),
    [
        ("plain", "plain", ()),
        ("", "", ()),
        ("$A", "one", ("A",)),
        ("${A}", "one", ("A",)),
        ("x-$A.${B_2}-$A", "x-one.two-one", ("A", "B_2", "A")),
        ("$DOLLAR", "$A", ("DOLLAR",)),
        ("a$", "a$", ()),
        ("$-A", "$-A", ()),
        ("File:/x", "File:/x", ()),
        ("x file:/y", "x file:/y", ()),
    ],
)
def test_variables_are_replaced(text: str, expanded: str, names: tuple[str, ...]) -> None:
    """Both forms, wherever they stand; a value is not looked at again."""
    assert expand(text, ENVIRON) == expanded
    assert references(text) == names
    assert missing(text, ENVIRON) == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$NO", ("NO",)),
        ("$EMPTY", ("EMPTY",)),
        ("$A$NO${OTHER}$NO", ("NO", "OTHER")),
    ],
)
def test_all_that_is_unset_is_named(text: str, names: tuple[str, ...]) -> None:
    """An empty variable counts as none; each name is told once."""
    with pytest.raises(MissingEnvironmentError) as caught:
        expand(text, ENVIRON)
    assert caught.value.names == names == missing(text, ENVIRON)
    variables, are = ("variable", "is") if len(names) == 1 else ("variables", "are")
    expected = f"the environment {variables} {' and '.join(names)} {are} not set"
    assert str(caught.value) == expected


@pytest.mark.parametrize("content", ["sk-1", "sk-1\n", " \r\n\tsk-1 \n\n"])
def test_a_file_stands_for_its_content(content: str, tmp_path: Path) -> None:
    """White space around it, as editors leave it, does not count."""
    file = tmp_path / "k$A y"
    file.write_text(content)
    text = f"file:{file}"
    assert expand(text, ENVIRON) == "sk-1"
    assert (references(text), missing(text, ENVIRON), is_file(text)) == ((), (), True)
    assert secrets(text, ENVIRON) == ("sk-1",)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"k" * 70_000])
def test_a_file_without_a_key_is_named(content: bytes | None, tmp_path: Path) -> None:
    """Missing, empty, no text, or far too large: the file is told, and nothing of it."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(MissingEnvironmentError) as caught:
        expand(f"file:{file}", {})
    assert str(caught.value) == f"the file {file} is missing, unreadable or empty"
    assert missing(f"file:{file}", {}) == (f"file:{file}",)


@pytest.mark.parametrize("name", ["", "/dev/zero", "a\0b", "/dev/null/x", "x" * 5000])
def test_what_is_no_file_is_not_read(name: str) -> None:
    """Folders, devices and impossible names are as a missing file."""
    assert missing(f"file:{name}", {}) == (f"file:{name}",)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody may ever write into it."""
    os.mkfifo(tmp_path / "pipe")
    text = f"file:{tmp_path}/pipe"
    assert missing(text, {}) == (text,)


def test_what_stands_for_a_secret_is_known() -> None:
    """The values of the references in a text, and none of what is written out."""
    assert secrets("Bearer $A, ${B_2}", ENVIRON) == ("one", "two")
    assert secrets("Bearer x", ENVIRON) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "$A"),
        ("plain", "plain"),
        ("file:/run/key", "file:/run/key"),
        ("file:///run/key", "file:/run/key"),
        ("file:keys/one", "file:/etc/gateway/keys/one"),
        ("file:../one", "file:/etc/gateway/../one"),
        ("file:~nobody-has-this-name/one", "file:/etc/gateway/~nobody-has-this-name/one"),
    ],
)
def test_a_file_is_looked_for_beside_the_configuration(text: str, expected: str) -> None:
    """A relative name does not depend on where a process runs."""
    assert absolute(text, Path("/etc/gateway")) == expected


def test_a_file_may_be_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home of whoever runs the gateway."""
    monkeypatch.setenv("HOME", "/home/somebody")
    assert absolute("file:~/key", Path("/etc")) == "file:/home/somebody/key"
