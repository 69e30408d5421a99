"""The file of a calibration: what it holds, and what is reported of a bad one."""

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.config.calibration_file import CalibrationFile, read_calibration
from serve_app.config.locations import ConfigError
from tests.unit.config.calibrations import calibration_fields, point


def test_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Its text is JSON, with a line for each point of the curve."""
    made = CalibrationFile.model_validate(calibration_fields(temperature=1.5, none_shift=-0.25))
    file = tmp_path / "calibration.json"
    file.write_text(made.as_text(), "utf-8")
    assert read_calibration(file) == made
    assert json.loads(made.as_text()) == made.model_dump(mode="json")
    assert sum("min_confidence" in line for line in made.as_text().splitlines()) == len(made.curve)


def problems_of(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_calibration(file)
    assert caught.value.file == str(file)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"format": 2}, ["format: must be 1, not 2"]),
        ({"temperature": 0.0}, ["temperature: must be at least 0.05"]),
        ({"temperature": 21.0}, ["temperature: must be at most 20"]),
        ({"none_shift": "0"}, ["none_shift: must be a number, not '0'"]),
        ({"confidence": 1.0}, ["confidence: must be less than 1"]),
        ({"curve": []}, ["curve: must not be empty; add an entry"]),
        ({"curve": [point(0.1, 9, 10)]}, ["curve[0]: `wrong` must not be greater than `routed`"]),
        (
            {"curve": [point(0.1, 9, 1), point(0.1, 8, 1)]},
            ["`curve` must be in ascending order of min_confidence"],
        ),
        (
            {"curve": [{**point(0.1, 9, 1), "routed": "x"}], "cases": 0},
            ["cases: must be at least 1", "curve[0].routed: must be an integer, not 'x'"],
        ),
        ({"temprature": 1.0}, ["temprature: unknown key; did you mean 'temperature'?"]),
    ],
)
def test_problems_name_the_key(fields: dict[str, Any], problems: list[str], tmp_path: Path) -> None:
    """All of them are reported."""
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({**calibration_fields(), **fields}), "utf-8")
    assert problems_of(file) == problems


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"nonsense", "file is not JSON; make it with `fingerpost eval SET --calibrate`"),
        (b"\xff", "file is not JSON; make it with `fingerpost eval SET --calibrate`"),
        (b"[" * 100_000, "file is not JSON; make it with `fingerpost eval SET --calibrate`"),
        (b"[]", "must be a mapping of keys, not a list"),
        (b" " * ((1 << 20) + 1), "file is larger than 1048576 bytes; make it with"),
    ],
)
def test_other_file_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    """It has one problem."""
    file = tmp_path / "calibration.json"
    file.write_bytes(content)
    (found,) = problems_of(file)
    assert found.startswith(problem)


@pytest.mark.parametrize("name", ["missing.json", "a\0b.json", "."])
def test_file_that_cannot_be_opened_is_reported(name: str, tmp_path: Path) -> None:
    """The problem says how to make one."""
    (found,) = problems_of(tmp_path / name)
    assert found.startswith("cannot read the file: ")
    assert found.endswith("; make it with `fingerpost eval SET --calibrate`")


def test_infinite_number_is_a_problem(tmp_path: Path) -> None:
    """JSON has none, but Python reads it."""
    file = tmp_path / "calibration.json"
    text = json.dumps(calibration_fields()).replace('"none_shift": 0.0', '"none_shift": NaN')
    file.write_text(text, "utf-8")
    assert problems_of(file) == ["none_shift: input should be a finite number"]
