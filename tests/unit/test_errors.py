"""The tree of errors, and what an instance keeps on its way between processes."""

import copy
import pickle
import re
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from serve_app import errors
from serve_app.config.locations import ConfigError, Problem
from serve_app.errors import GatewayError, UnknownModel

VALUES: dict[str, object] = {
    "message": "mé",
    "param": "stream",
    "limit": 4096,
    "path": "/x",
    "model": "a/b",
    "nearest": ("a/c", "d"),
    "method": "PUT",
    "allowed": "POST",
    "file": "gateway.yaml",
    "served": ("/a", "/b"),
}


def tree(root: type[GatewayError]) -> list[type[GatewayError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in tree(child))]


ALL = tree(GatewayError)


def build(cls: Any) -> GatewayError:
    """An instance whose fields all have a value."""
    names = [field.name for field in fields(cls)] if is_dataclass(cls) else []
    error = cls(**{name: VALUES[name] for name in names})
    assert isinstance(error, GatewayError)
    return error


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(cls: type[GatewayError], protocol: int) -> None:
    """Status, code, fields and text arrive on the other side."""
    error = build(cls)
    same = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(same) is cls
    assert (same.status, same.code, same.param) == (error.status, error.code, error.param)
    assert (str(same), vars(same)) == (str(error), vars(error))


@pytest.mark.parametrize("cls", ALL)
def test_every_error_can_be_copied(cls: type[GatewayError]) -> None:
    """A copy, deep or not, says the same."""
    error = build(cls)
    for same in (copy.copy(error), copy.deepcopy(error)):
        assert type(same) is cls
        assert (str(same), vars(same)) == (str(error), vars(error))


@pytest.mark.parametrize("cls", ALL)
def test_every_error_can_be_raised_and_hashed(cls: type[GatewayError]) -> None:
    """Errors are told apart by identity, as tracebacks need it."""
    error = build(cls)
    with pytest.raises(cls) as caught:
        raise error
    assert caught.value is error
    assert {error} != {build(cls)}


@pytest.mark.parametrize("cls", ALL)
def test_every_error_speaks_to_the_client(cls: type[GatewayError]) -> None:
    """Each has a text, a status that is an error, a code in snake case, and a docstring."""
    error = build(cls)
    assert str(error)
    assert error.status in range(400, 600)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    assert cls.__doc__


def drawn() -> list[tuple[int, str, int, str]]:
    """The tree of the docstring: depth, name, status and code of each line, in order."""
    line = re.compile(
        r"^    (?P<lead>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<status>\d{3}) (?P<code>\w+)$"
    )
    matches = filter(None, map(line.match, (errors.__doc__ or "").splitlines()))
    return [
        (len(match["lead"]) // 4, match["name"], int(match["status"]), match["code"])
        for match in matches
    ]


def test_the_tree_is_drawn_as_it_is() -> None:
    """Every class stands in the docstring below its base, with its status and its code."""
    above: list[str] = []
    shown: dict[str, tuple[str | None, int, str]] = {}
    for depth, name, status, code in drawn():
        del above[depth:]
        shown[name] = (above[-1] if above else None, status, code)
        above.append(name)
    actual = {
        cls.__name__: (
            None if cls is GatewayError else cls.__bases__[0].__name__,
            cls.status,
            cls.code,
        )
        for cls in ALL
    }
    assert shown == actual


def test_classes_have_one_base() -> None:
    """It is a tree."""
    assert all(len(cls.__bases__) == 1 for cls in ALL)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(3, "a.b", "missing"), "line 3: a.b: missing"),
        (Problem(0, "a.b", "missing"), "a.b: missing"),
        (Problem(3, "", "is empty"), "line 3: is empty"),
        (Problem(0, "", "can't be read"), "can't be read"),
    ],
)
def test_a_problem_says_where_it_stands(problem: Problem, text: str) -> None:
    """Line and path are shown as far as they are known."""
    assert str(problem) == text


def test_a_configuration_shows_all_its_problems() -> None:
    """One line each below a line that counts them."""
    one, two = Problem(1, "a", "x"), Problem(2, "b", "y")
    assert str(ConfigError("f", (one,))) == "f has 1 problem:\n  line 1: a: x"
    assert str(ConfigError("f", (one, two))) == (
        "f has 2 problems:\n  line 1: a: x\n  line 2: b: y"
    )


@pytest.mark.parametrize(
    ("nearest", "way_out"),
    [
        ((), "; GET /v1/models lists the names"),
        (("a/c",), "; did you mean 'a/c'?"),
        (("a/c", "d"), "; did you mean 'a/c' or 'd'?"),
    ],
)
def test_an_unknown_model_shows_a_way_out(nearest: tuple[str, ...], way_out: str) -> None:
    """The nearest names, or where to find all of them."""
    assert str(UnknownModel("b", nearest)) == f"the model 'b' does not exist here{way_out}"
