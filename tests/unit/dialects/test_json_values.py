"""Values of JSON that a provider or a client wrote, and JSON that the gateway writes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.dialects.json_values import (
    JsonTemplate,
    count_of,
    json_bytes,
    json_text,
    number_of,
    object_of,
    objects_of,
    read_json,
    seconds_of,
    text_of,
    text_or_none,
)
from serve_app.dialects.tool_arguments import arguments_of
from serve_app.domain import Json
from tests.unit.dialects.streams import json_values


def nested() -> Json:
    """A value that is nested too deeply to be written."""
    deep: Json = {}
    for _ in range(100_000):
        deep = {"a": deep}
    return deep


@pytest.mark.parametrize(
    ("value", "number", "count", "seconds"),
    [
        (3, 3, 3, 3),
        (3.0, 3, 3, 3),
        (3.5, 3.5, None, 3),
        (0, 0, 0, 0),
        (-1, -1, None, None),
        (True, None, None, None),
        (math.inf, None, None, None),
        (math.nan, None, None, None),
        ("3", None, None, None),
        (None, None, None, None),
    ],
)
def test_numbers(value: Json, number: float | None, count: int | None, seconds: int | None) -> None:
    """Only finite numbers count, and of these only some are counts or times."""
    assert (number_of(value), count_of(value), seconds_of(value)) == (number, count, seconds)
    assert not isinstance(count_of(value), float)


@given(json_values(["a", "b"], ["x"]))
def test_values_of_another_type_count_as_absent(value: Json) -> None:
    """Whatever a sloppy provider writes, readers get the type that they asked for."""
    assert text_of(value) == (value if isinstance(value, str) else "")
    assert text_or_none(value) == (value if isinstance(value, str) else None)
    assert object_of(value) == (value if isinstance(value, dict) else {})
    assert objects_of([value, 1, {"a": 1}])[-1] == {"a": 1}
    assert all(isinstance(entry, dict) for entry in objects_of(value))


@given(json_values(["a", "\ud83d"], ["é", "a\ud83d"]))
def test_written_json_is_utf_8(value: Json) -> None:
    """Every value comes back, but for halves of surrogate pairs."""
    plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    assert json.loads(json_bytes(value)) == json.loads(plain)


def test_written_json_is_compact() -> None:
    """It has no spaces and no needless escapes; half a surrogate pair becomes a question mark."""
    value = {"é": [1, "a\ud83d"]}
    assert json_text(value) == '{"é":[1,"a\ud83d"]}'
    assert json_bytes(value) == '{"é":[1,"a?"]}'.encode()
    with pytest.raises(RecursionError):
        json_text(nested())


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        (None, ""),
        ("", ""),
        ('{"a": 1}', '{"a": 1}'),
        ("not JSON", "not JSON"),
        ({}, "{}"),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
        (nested(), ""),
    ],
    ids=["null", "empty", "text", "no JSON", "empty object", "object", "deep"],
)
def test_arguments_are_text(value: Json, arguments: str) -> None:
    """Servers that send them as an object, or null, are understood."""
    assert arguments_of(value) == arguments


TEXTS = st.text() | st.sampled_from([JsonTemplate.PLACE, "\ud83d", '"\\\n\x00'])


@given(TEXTS, TEXTS)
def test_a_template_writes_what_json_bytes_writes(before: str, text: str) -> None:
    """Also where a string before the place looks like it."""

    def value(inner: str) -> Json:
        return {"id": before, "choices": [{"delta": {"content": inner}, "index": 0}], "usage": None}

    template = JsonTemplate(value(JsonTemplate.PLACE), head=b"data: ", tail=b"\n\n")
    assert template.fill(text) == b"data: " + json_bytes(value(text)) + b"\n\n"


@given(json_values([*"abc"], [*"xyz"]), st.sampled_from(["", " ", "\n", "x", "{}"]))
def test_json_is_read_as_the_standard_library_reads_it(value: Json, after: str) -> None:
    """With space after the value, and not with anything else there."""
    data = json.dumps(value).encode() + after.encode()
    try:
        expected = json.loads(data)
    except ValueError:
        with pytest.raises(ValueError, match=r"Extra data|Expecting"):
            read_json(data)
    else:
        assert json_text(read_json(data)) == json_text(expected)
