"""Fields of a request that hold one plain value."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from serve_app.dialects.cache_marks import cache_of
from serve_app.dialects.json_edits import Document, read_document
from serve_app.dialects.plain_fields import read_boolean, read_integer, read_number, read_string
from serve_app.domain import Json
from serve_app.errors import InvalidRequest

POSITIVE = partial(read_integer, least=1)


def document(value: Json) -> Document:
    """A body with one field, which may be a number that JSON can hold and a float cannot."""
    text = json.dumps(value).replace("Infinity", "1e999")
    return read_document(f'{{"x": {text}}}'.encode(), unique=frozenset())


@pytest.mark.parametrize(
    ("reader", "value", "read"),
    [
        (read_number, 0.5, 0.5),
        (read_number, -1, -1),
        (read_integer, 3, 3),
        (read_integer, -3.0, -3),
        (POSITIVE, 1, 1),
        (read_boolean, False, False),
        (read_string, "a", "a"),
        (read_string, "", None),
        *((reader, None, None) for reader in (read_number, POSITIVE, read_boolean, read_string)),
    ],
)
def test_value_is_read(reader: Callable[[Document, str], Json], value: Json, read: Json) -> None:
    """A value of the right type comes back; null is absent."""
    found = reader(document(value), "x")
    assert (found, type(found)) == (read, type(read))
    assert reader(document(value), "y") is None


@pytest.mark.parametrize(
    ("reader", "value", "why"),
    [
        (read_number, "1", "must be a number"),
        (read_number, True, "must be a number"),
        (read_number, float("inf"), "must be a number"),
        (read_integer, 1.5, "must be an integer"),
        (POSITIVE, 1.5, "must be an integer of at least 1"),
        (POSITIVE, 0, "must be an integer of at least 1"),
        (read_boolean, 1, "must be true or false"),
        (read_string, 1, "must be a string"),
    ],
)
def test_other_value_is_refused(
    reader: Callable[[Document, str], Json], value: Json, why: str
) -> None:
    """The error names the field and says what it takes."""
    with pytest.raises(InvalidRequest) as caught:
        reader(document(value), "x")
    assert (str(caught.value), caught.value.param) == (f"x {why}", "x")


@pytest.mark.parametrize("value", [None, {}, "ephemeral", []])
def test_mark_of_another_form_is_absent(value: Json) -> None:
    """Only an object marks what is to be cached."""
    assert cache_of({"cache_control": value}) is None
    assert cache_of({"cache_control": {"type": "ephemeral"}}) == {"type": "ephemeral"}
