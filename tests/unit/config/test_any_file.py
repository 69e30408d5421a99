"""Any file is read, or refused with a ConfigError."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serve_app.config.load import load
from serve_app.config.locations import ConfigError, Problem
from serve_app.config.warnings import config_warnings
from serve_app.snapshot import Snapshot, compile_snapshot
from tests.unit.config.trees import DEMOS, FILES, JUNK, OLDER

MANY = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def outcome(directory: Path, content: bytes) -> Snapshot | ConfigError:
    file = directory / "gateway.yaml"
    file.write_bytes(content)
    try:
        loaded = load(file)
        assert all(isinstance(warning, str) for warning in config_warnings(loaded.config, {}))
        return compile_snapshot(file)
    except ConfigError as error:
        _is_sound(error.problems, content)
        return error


def _is_sound(problems: tuple[Problem, ...], content: bytes) -> None:
    """There are some, in order, each once, on lines that the file has."""
    assert problems
    assert len(set(problems)) == len(problems)
    lines = [problem.line for problem in problems]
    assert lines == sorted(lines)
    breaks = sum(content.count(sign) for sign in (b"\n", b"\r", b"\x85", b"\xa8", b"\xa9", b"\x00"))
    assert 0 <= lines[-1] <= breaks + 2
    assert all(problem.message and problem.path.isprintable() for problem in problems)


def dumped(tree: Any, **style: Any) -> bytes:
    text: str = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, **style)
    return text.encode()


@MANY
@given(FILES, st.sampled_from([None, True, False]))
@example({"version": "v0.4.0", "overrides": {"upstream_tls_ca_path": "~\x00"}}, None)
def test_any_structure_of_known_keys_is_read_or_refused(
    tmp_path: Path, tree: Any, flow: bool | None
) -> None:
    """It has valid values, invalid ones, and unknown keys."""
    outcome(tmp_path, dumped(tree, default_flow_style=flow))


@MANY
@given(
    st.sampled_from([text.encode() for text in DEMOS]),
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=3) | st.sampled_from([b"&a ", b"*a", b"<<: ", b"\n", b"  ", b"- ", b"!!int ", b"? ", b"{", b"]", b"| ", b"'", b"#", b"---\n"])),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
def test_any_change_of_a_good_file_is_read_or_refused(
    tmp_path: Path, content: bytes, changes: list[tuple[float, int, bytes]]
) -> None:
    """Parts are removed and inserted anywhere."""
    for where, length, put in changes:
        at = int(where * len(content))
        content = content[:at] + put + content[at + length :]
    outcome(tmp_path, content)


@MANY
@given(
    st.text(st.sampled_from(list("ab:-?&*!|>'\"[]{}#%@`,.<~01\n\t \\\r\x85\u2028é😀")), max_size=60)
)
@example("%YAML 9.9\n---\na: 1")
@example("!!int ''")
@example('"\\ud800": 1')
@example("? a")
@example("&a [*a]")
def test_any_characters_of_yaml_are_read_or_refused(tmp_path: Path, text: str) -> None:
    """Most of these texts are not YAML."""
    outcome(tmp_path, text.encode())


@MANY
@given(
    st.sampled_from(["!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!null", "!!str", "!!seq", "!!map", "!!set", "!!omap", "!!pairs", "!x", "!"]),
    st.text(st.sampled_from(list("0123456789abcdefxoT:+-_.~ ")), max_size=12),
)  # fmt: skip
def test_any_tag_is_read_or_refused(tmp_path: Path, tag: str, text: str) -> None:
    """A value that does not match its tag is a problem, not an exception."""
    outcome(tmp_path, f"version: v0.4.0\nsystem_prompt: {tag} '{text}'\n".encode())


@MANY
@given(st.integers(1, 80), st.sampled_from(["{a: ", "[", "a:\n"]))
def test_any_depth_is_read_or_refused(tmp_path: Path, depth: int, opening: str) -> None:
    """Too deep a nesting is a problem."""
    if opening == "a:\n":
        text = "".join("  " * level + "a:\n" for level in range(depth))
    else:
        text = opening * depth + ("]" if opening == "[" else "}") * depth
    outcome(tmp_path, f"version: v0.4.0\nagents: {text}\n".encode())
    outcome(tmp_path, text.encode())


@MANY
@given(OLDER, st.data())
def test_unknown_key_of_an_older_file_is_located(
    tmp_path: Path, tree: Any, data: st.DataObject
) -> None:
    """The problem has the line and the path in the older format."""
    places = list(_mappings(tree, ""))
    path, section = data.draw(st.sampled_from(places))
    section["zzqq"] = data.draw(JUNK)
    content = dumped(tree, default_flow_style=False)
    result = outcome(tmp_path, content)
    assert isinstance(result, ConfigError)
    (line,) = [
        number
        for number, text in enumerate(content.decode().split("\n"), 1)
        if text.lstrip("- ").startswith("zzqq:")
    ]
    mine = [problem for problem in result.problems if problem.path.endswith("zzqq")]
    assert [(problem.line, problem.path) for problem in mine] == [(line, f"{path}zzqq")]
    assert mine[0].message.startswith("unknown key")


def _mappings(value: Any, path: str) -> Any:
    """Every section with closed keys, by its path."""
    if isinstance(value, dict):
        if not path.endswith(("model_aliases.", "headers.")):
            yield path, value
        for key, inner in value.items():
            yield from _mappings(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _mappings(inner, f"{path[:-1]}[{index}].")


@pytest.mark.parametrize("name", ["a\0b", "", "x" * 5000, "/", "\udc80"])
def test_impossible_file_name_is_refused(name: str) -> None:
    """A name that cannot belong to a file is a ConfigError."""
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert caught.value.problems[0].message.startswith("cannot read the file: ")
