"""References to the environment and to files: their values, and errors for missing ones."""

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

ENVIRON = {
    "A": "one",
    "B_2": "two",
    "EMPTY": "",
    "DOLLAR": "$A",
    "ECHOED": "\tsk-1 \r\n",
    "BLANK": " \n",
}


@pytest.mark.parametrize(
    ("text", "expanded", "names"),
    [
        ("plain", "plain", ()),
        ("", "", ()),
        ("$A", "one", ("A",)),
        ("${A}", "one", ("A",)),
        ("x-$A.${B_2}-$A", "x-one.two-one", ("A", "B_2", "A")),
        ("$DOLLAR", "$A", ("DOLLAR",)),
        ("$ECHOED", "sk-1", ("ECHOED",)),
        ("Bearer ${ECHOED}", "Bearer sk-1", ("ECHOED",)),
        ("http://$ECHOED:1/v1", "http://sk-1:1/v1", ("ECHOED",)),
        (" plain\n", "plain", ()),
        ("a$", "a$", ()),
        ("$-A", "$-A", ()),
        ("File:/x", "File:/x", ()),
        ("x file:/y", "x file:/y", ()),
    ],
)
def test_variables_are_replaced(text: str, expanded: str, names: tuple[str, ...]) -> None:
    """Both forms are replaced anywhere, without white space around a value; references inside values
    are not.
    """
    assert expand(text, ENVIRON) == expanded
    assert references(text) == names
    assert missing(text, ENVIRON) == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$NO", ("NO",)),
        ("$EMPTY", ("EMPTY",)),
        ("$BLANK", ("BLANK",)),
        ("$A$NO${OTHER}$NO", ("NO", "OTHER")),
    ],
)
def test_unset_variables_are_named(text: str, names: tuple[str, ...]) -> None:
    """An empty or blank variable counts as unset, and each name appears once."""
    with pytest.raises(MissingEnvironmentError) as caught:
        expand(text, ENVIRON)
    assert caught.value.names == names == missing(text, ENVIRON)
    variables, are = ("variable", "is") if len(names) == 1 else ("variables", "are")
    expected = f"the environment {variables} {' and '.join(names)} {are} not set"
    assert str(caught.value) == expected


@pytest.mark.parametrize("content", ["sk-1", "sk-1\n", " \r\n\tsk-1 \n\n"])
def test_file_reference_is_replaced_by_its_content(content: str, tmp_path: Path) -> None:
    """White space around the content is removed."""
    file = tmp_path / "k$A y"
    file.write_text(content)
    text = f"file:{file}"
    assert expand(text, ENVIRON) == "sk-1"
    assert (references(text), missing(text, ENVIRON), is_file(text)) == ((), (), True)
    assert secrets(text, ENVIRON) == ("sk-1",)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"k" * 70_000])
def test_file_without_a_key_is_named(content: bytes | None, tmp_path: Path) -> None:
    """It is missing, empty, not text, or far too large; no content is shown."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(MissingEnvironmentError) as caught:
        expand(f"file:{file}", {})
    assert str(caught.value) == f"the file {file} is missing, unreadable or empty"
    assert missing(f"file:{file}", {}) == (f"file:{file}",)


@pytest.mark.parametrize("name", ["", "/dev/zero", "a\0b", "/dev/null/x", "x" * 5000])
def test_only_regular_files_are_read(name: str) -> None:
    """Folders, devices and impossible names count as missing files."""
    assert missing(f"file:{name}", {}) == (f"file:{name}",)


def test_pipe_is_not_read(tmp_path: Path) -> None:
    """It might never be written."""
    os.mkfifo(tmp_path / "pipe")
    text = f"file:{tmp_path}/pipe"
    assert missing(text, {}) == (text,)


def test_secrets_are_the_values_of_references() -> None:
    """Literal parts of the string are not secrets."""
    assert secrets("Bearer $A, ${B_2}", ENVIRON) == ("one", "two")
    assert secrets("Bearer x", ENVIRON) == ()
    assert secrets("$ECHOED", ENVIRON) == ("sk-1",)


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
def test_relative_key_file_starts_at_the_configuration(text: str, expected: str) -> None:
    """The current folder does not matter."""
    assert absolute(text, Path("/etc/gateway")) == expected


def test_key_file_may_be_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home folder of the user who runs the gateway."""
    monkeypatch.setenv("HOME", "/home/somebody")
    assert absolute("file:~/key", Path("/etc")) == "file:/home/somebody/key"
