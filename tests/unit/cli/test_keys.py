"""``fingerpost keys``: keys that are shown once and stored hashed, in files that stay as they are."""

import json
import os
import stat
from pathlib import Path

import pytest

from serve_app.access.keys import Access, Caller
from serve_app.access_errors import InvalidClientKey
from serve_app.cli.main import main
from serve_app.config.locations import ConfigError
from serve_app.config.yaml_keys import add_key, replace_key
from serve_app.snapshot import compile_snapshot

SECRET = "0123456789abcdef0123456789abcdef"
TEXT = """\
version: v0.4.0   # ours
model_providers:
  - model: openai/gpt-4o   # the one
    access_key: $OPENAI_API_KEY
teams:
  ml: {budget: {usd: 100}}   # all of them
"""
BLOCK = TEXT + "client_keys:   # everyone\n- $OLD   # plain\n- key: $CI\n  name: ci\n# the end\n"
FLOW = TEXT + "client_keys: [$OLD, {key: $CI, name: ci}]   # everyone\n"
EARLY = (
    BLOCK.split("\n", 1)[0]
    + "\n"
    + BLOCK.split("teams:", 1)[1].split("\n", 2)[2]
    + ("model_providers: [{model: openai/gpt-4o}]\n")
)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_KEY_SECRET", SECRET)
    monkeypatch.setenv("CI", "fp-ci")


def write(folder: Path, text: str) -> Path:
    file = folder / "gateway.yaml"
    file.write_text(text)
    return file


def keys(*arguments: str | Path) -> bool:
    return main(["keys", *map(str, arguments)]) == 0


def admits(file: Path, key: str, now: float = 0.0) -> str | None:
    """The name of a key's holder; None if it is not valid."""
    config = compile_snapshot(file).config
    access = Access(config, os.environ, wall_clock=lambda: now)
    try:
        return access.check(Caller("203.0.113.9", None, None, (key.encode(),))).name
    except InvalidClientKey:
        return None


@pytest.mark.parametrize("text", [TEXT, BLOCK, FLOW, EARLY, BLOCK.rstrip("\n")])
def test_new_key_is_written_hashed(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is printed once and admits its holder; the file has its hash, and all it had before."""
    file = write(tmp_path, text)
    file.chmod(0o640)
    assert keys("new", file, "ide", "--allow", "openai/gpt-4o, auto", "--concurrent", "3")
    out, err = capsys.readouterr()
    key = out.strip()
    assert key.startswith("fp-")
    assert key not in err
    written = file.read_text()
    assert key not in written
    assert [line for line in text.splitlines() if line not in written.splitlines()] == (
        [text.splitlines()[-1]] if text == FLOW else []
    )
    assert "# everyone" in written or text == TEXT
    assert admits(file, key) == "ide"
    (entry,) = [one for one in compile_snapshot(file).config.keyed_clients if one.name == "ide"]
    assert entry.allow == ["openai/gpt-4o", "auto"]
    assert entry.limits is not None
    assert entry.limits.concurrent == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_two_keys_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each key is random, and has a team and a budget if they are asked for."""
    file = write(tmp_path, TEXT)
    assert keys("new", file, "a", "--team", "ml", "--budget", "2.5", "--window", "day")
    assert keys("new", file, "b")
    first, second = capsys.readouterr().out.split()
    assert first != second
    assert (admits(file, first), admits(file, second)) == ("a", "b")
    budget = compile_snapshot(file).config.keyed_clients[0].budget
    assert budget is not None
    assert (budget.usd, budget.window) == (2.5, "day")


@pytest.mark.parametrize("text", [BLOCK, FLOW])
def test_rotated_key_stays_valid_for_the_grace(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old and new key are valid side by side until the time that is written; then the new one."""
    file = write(tmp_path, text)
    assert keys("rotate", file, "ci", "--grace", "2h")
    new = capsys.readouterr().out.strip()
    assert (admits(file, new), admits(file, "fp-ci")) == ("ci", "ci")
    assert "# everyone" in file.read_text()
    entry = compile_snapshot(file).config.keyed_clients[0]
    assert entry.previous is not None
    assert admits(file, "fp-ci", now=entry.previous.expires_at) is None
    assert admits(file, new, now=entry.previous.expires_at) == "ci"
    assert keys("rotate", file, "ci", "--grace", "1d")
    newer = capsys.readouterr().out.strip()
    assert (admits(file, newer), admits(file, new), admits(file, "fp-ci")) == ("ci", "ci", None)


def test_rotation_without_grace_ends_old_keys_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --grace 0 neither the old key nor one before it is valid any more."""
    file = write(tmp_path, BLOCK)
    assert keys("rotate", file, "ci", "--grace", "0")
    first = capsys.readouterr().out.strip()
    assert (admits(file, first), admits(file, "fp-ci")) == ("ci", None)
    assert keys("rotate", file, "ci")
    assert keys("rotate", file, "ci", "--grace", "0")
    last = capsys.readouterr().out.split()[-1]
    assert admits(file, last, now=4e9) == "ci"
    assert admits(file, first, now=4e9) is None


def test_list_shows_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list says what each key may do and how it is stored, but neither keys nor hashes."""
    file = write(tmp_path, BLOCK.replace("name: ci", "name: ci\n  metadata: {owner: ann}"))
    assert keys("new", file, "ide", "--team", "ml", "--budget", "5", "--requests-per-minute", "9")
    assert keys("rotate", file, "ci")
    shown = capsys.readouterr().out.split()
    assert keys("list", file)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "(no name): key $OLD"
    assert lines[1].startswith("ci: key hashed; previous key valid until 20")
    assert lines[1].endswith("; metadata owner=ann")
    assert (
        lines[2] == "ide: key hashed; team ml; limits requests_per_minute 9; budget 5 USD per month"
    )
    assert keys("list", file, "--json")
    text = capsys.readouterr().out
    assert [one["name"] for one in json.loads(text)["keys"]] == ["", "ci", "ide"]
    assert "sha256" not in text
    assert not any(key in text for key in shown)
    assert keys("list", write(tmp_path, TEXT))
    assert capsys.readouterr().out == "no client_keys\n"


PROBLEMS = {
    "duplicate": (["new", "ci"], "client_keys[2].name: duplicate name 'ci'; rename one"),
    "team": (["new", "x", "--team", "mll"], "no entry of teams is named 'mll'; did you mean 'ml'?"),
    "unknown": (["rotate", "ide"], "no key is named 'ide'; the keys are: ci"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_refused_change_leaves_the_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the gateway would refuse is not written, and no key is shown."""
    (action, *rest), expected = PROBLEMS[name]
    file = write(tmp_path, BLOCK)
    assert not keys(action, file, *rest)
    out, err = capsys.readouterr()
    assert (out, file.read_text()) == ("", BLOCK)
    assert expected in err
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("value", ["", "short"])
def test_secret_is_needed(
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a long secret of the server no key is made, and the error says how to get one."""
    monkeypatch.setenv("FINGERPOST_KEY_SECRET", value)
    file = write(tmp_path, TEXT)
    assert not keys("new", file, "ide")
    out, err = capsys.readouterr()
    assert out == ""
    assert "openssl rand -hex 32" in err
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    "arguments", [["new"], ["rotate"], ["rotate", "ci", "--grace", "soon"], ["drop", "ci"]]
)
def test_wrong_command_line_is_refused(arguments: list[str], tmp_path: Path) -> None:
    """A missing name, an unknown action or an odd grace is a usage error."""
    file = write(tmp_path, BLOCK)
    with pytest.raises(SystemExit) as caught:
        keys(arguments[0], file, *arguments[1:])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "text",
    [
        "version: v0.4.0\nx: &keys [a]\nclient_keys: *keys\n",
        "{version: v0.4.0}\n",
        "client_keys: {a: 1}\n",
    ],
)
def test_text_that_cannot_be_edited_is_refused(text: str) -> None:
    """Anchors and other forms are not changed by guessing."""
    with pytest.raises(ConfigError):
        add_key(text, "gateway.yaml", {"name": "x", "key": "k"})
    with pytest.raises(ConfigError):
        replace_key(text, "gateway.yaml", 0, "k", None)
