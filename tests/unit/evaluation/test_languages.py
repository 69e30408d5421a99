"""Accuracy by language."""

import json
from pathlib import Path

import pytest

from serve_app.config.locations import ConfigError
from serve_app.evaluation.labelled_set import read_set
from serve_app.evaluation.languages import LanguageQuality, by_language
from serve_app.evaluation.report import report_json, report_text
from tests.unit.evaluation.labelled_sets import HEAD, line, write_set
from tests.unit.evaluation.scored import evaluation_with, scored

RIGHT = {"a": 0.9, "b": 0.0, "c": 0.0}
CASES = (
    scored("a", RIGHT, 0.1, lang="en"),
    scored("b", RIGHT, 0.1, lang="en"),
    scored(None, RIGHT, 0.1, lang="en"),
    scored(None, {"a": 0.1, "b": 0.0, "c": 0.0}, 0.9, lang="de"),
    scored("a", RIGHT, 0.1),
)


def test_each_language_has_its_accuracy() -> None:
    """The most frequent one comes first; cases that name none have an empty name."""
    assert by_language(evaluation_with(*CASES)) == [
        LanguageQuality("en", 3, 1 / 2, 1 / 3),
        LanguageQuality("", 1, 1.0, 1.0),
        LanguageQuality("de", 1, None, 1.0),
    ]


def test_report_has_the_languages() -> None:
    """Both forms have them."""
    result = evaluation_with(*CASES)
    lines = report_text(result)
    start = lines.index("By language")
    assert lines[start + 1 : start + 5] == [
        "  language  accuracy  decided  cases",
        "  en            0.50     0.33      3",
        "  -             1.00     1.00      1",
        "  de               -     1.00      1",
    ]
    assert [row["lang"] for row in report_json(result)["languages"]] == ["en", "", "de"]


def test_set_without_languages_has_none_in_its_report() -> None:
    """There is no section with a single dash."""
    result = evaluation_with(CASES[-1])
    assert by_language(result) == []
    assert "By language" not in report_text(result)


def test_language_is_read_from_the_set(tmp_path: Path) -> None:
    """It may be missing or null."""
    cases = [line("a", "code", lang="de"), line("b", None, lang=None), line("c", None)]
    read = read_set(write_set(tmp_path, HEAD, *cases))
    assert [case.lang for case in read.cases] == ["de", None, None]


@pytest.mark.parametrize("lang", [1, ["de"], {}])
def test_language_must_be_a_string(lang: object, tmp_path: Path) -> None:
    """The problem names the line."""
    text = json.loads(line("a", "code"))
    file = write_set(tmp_path, HEAD, json.dumps({**text, "lang": lang}))
    with pytest.raises(ConfigError) as caught:
        read_set(file)
    assert [str(problem) for problem in caught.value.problems] == [
        f"line 2: lang: must be a string, not {lang!r}"
    ]
