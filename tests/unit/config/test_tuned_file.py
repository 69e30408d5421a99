"""The file of ``fingerpost tune``: what is written can be read, and all else is a problem."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from serve_app.config.locations import ConfigError
from serve_app.config.tuned_file import TunedFile, no_route_hash, read_tuned, rounded, route_hash
from serve_app.domain import ModelRef
from tests.unit.scoring.embeddings import route
from tests.unit.tuned_files import learned, tuned_file

CODE: Final = route("code", "writing code", "fix my loop")
FILE: Final = tuned_file(
    {CODE: learned(weights=[0.5, -0.25], offset=-0.1, examples=[[0.6, 0.8]], conversations=1)}
)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """The file has a line for each key and each route, so that versions can be compared."""
    file = tmp_path / "tuned.json"
    file.write_text(FILE.as_text(), "utf-8")
    assert read_tuned(file) == FILE
    lines = file.read_text("utf-8").splitlines()
    assert len(lines) == len(TunedFile.model_fields) + len(FILE.routes) + 3
    assert '"weights": [0.5, -0.25]' in lines[-3]


Change = Callable[[Any], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop("routes"), "routes: missing; add `routes:`"),
        (lambda fields: fields.update(format=2), "format: must be 1, not 2"),
        (lambda fields: fields.update(temperature=0), "temperature: must be at least 0.25"),
        (lambda fields: fields.update(ridge=-1), "ridge: must be greater than 0"),
        (lambda fields: fields.update(model_hash=3), "model_hash: must be a string"),
        (lambda fields: fields.update(more=3), "more: unknown key"),
        (
            lambda fields: fields["routes"]["code"]["weights"].append(1),
            'a vector of "code" does not have 2 numbers',
        ),
        (
            lambda fields: fields["no_route"].update(examples=[[1.0]]),
            'a vector of "no_route" does not have 2 numbers',
        ),
        (
            lambda fields: fields["routes"]["code"].update(weights=[1e9, "x"]),
            "routes.code.weights[0]: must be at most 1000000",
        ),
        (
            lambda fields: fields["cross_validation"].update(p_value=float("nan")),
            "cross_validation.p_value: input should be a finite number",
        ),
    ],
)
def test_bad_value_is_a_problem_with_its_path(change: Change, message: str, tmp_path: Path) -> None:
    """A value that a person changed never reaches a decision."""
    fields = json.loads(FILE.as_text())
    change(fields)
    file = tmp_path / "tuned.json"
    file.write_text(json.dumps(fields), "utf-8")
    with pytest.raises(ConfigError) as caught:
        read_tuned(file)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the file: No such file or directory; make it with `fingerpost tune`"),
        (b"{", "file is not JSON; make it with"),
        (b"\xff\xfe{", "file is not JSON"),
        (b"[" * 5000, "file is not JSON"),
        (b" " * ((32 << 20) + 1), "file is larger than 33554432 bytes"),
        (b"[]", "must be a mapping of keys"),
    ],
)
def test_bad_file_is_a_problem(content: bytes | None, message: str, tmp_path: Path) -> None:
    """The message says how to make one."""
    file = tmp_path / "tuned.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_tuned(file)
    assert message in str(caught.value)


def test_hash_is_of_the_texts_of_a_route_alone() -> None:
    """Its models may change; its name, its description and its examples may not."""
    others = [
        replace(CODE, name="coding"),
        replace(CODE, description="reading code"),
        replace(CODE, examples=("fix my loop", "and this")),
        replace(CODE, description="writing code fix my loop", examples=()),
    ]
    hashes = {route_hash(other) for other in others}
    assert len(hashes) == len(others)
    assert route_hash(CODE) not in hashes
    assert route_hash(replace(CODE, models=(ModelRef("a", "b"),))) == route_hash(CODE)
    assert route_hash(replace(CODE, name="half \ud83d")) != route_hash(CODE)
    assert no_route_hash(()) != no_route_hash(("hello",))


def test_numbers_have_six_digits() -> None:
    """And zero has no sign."""
    assert (rounded(0.12345678), str(rounded(-1e-9))) == (0.123457, "0.0")
