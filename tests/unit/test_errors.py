"""The tree of errors, and what an instance keeps when it crosses processes."""

import copy
import pickle
import re
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from serve_app import access_errors, errors
from serve_app.access_errors import LimitKind
from serve_app.config.locations import ConfigError, Problem
from serve_app.domain import SpentCap
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
    "reported_code": "overloaded",
    "reported_status": 529,
    "detail": "timed out",
    "cap": SpentCap("daily", 1796083200.0, 60.0, "mé"),
    "retry_after_s": 3,
    "encoding": "br",
    "supported": ("gzip", "deflate"),
    "whose": "client key 'ide'",
    "kind": LimitKind.TOKENS,
    "span_s": 60.0,
    "reset_s": 60.0,
}


def tree(root: type[GatewayError]) -> list[type[GatewayError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in tree(child))]


ALL = tree(GatewayError)


def build(cls: Any) -> GatewayError:
    """An instance of the class with a value in every field."""
    names = [field.name for field in fields(cls)] if is_dataclass(cls) else []
    error = cls(**{name: VALUES[name] for name in names})
    assert isinstance(error, GatewayError)
    return error


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_error_survives_pickling(cls: type[GatewayError], protocol: int) -> None:
    """Every error keeps its status, code, fields and text when it is pickled."""
    error = build(cls)
    same = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - pickled here
    assert type(same) is cls
    assert (same.status, same.code, same.param) == (error.status, error.code, error.param)
    assert (str(same), vars(same)) == (str(error), vars(error))


@pytest.mark.parametrize("cls", ALL)
def test_error_can_be_copied(cls: type[GatewayError]) -> None:
    """A shallow or a deep copy of an error has the same text and fields."""
    error = build(cls)
    for same in (copy.copy(error), copy.deepcopy(error)):
        assert type(same) is cls
        assert (str(same), vars(same)) == (str(error), vars(error))


@pytest.mark.parametrize("cls", ALL)
def test_error_is_hashed_by_identity(cls: type[GatewayError]) -> None:
    """Errors can be raised and are hashed by identity, as tracebacks require."""
    error = build(cls)
    with pytest.raises(cls) as caught:
        raise error
    assert caught.value is error
    assert {error} != {build(cls)}


@pytest.mark.parametrize("cls", ALL)
def test_error_has_text_status_code_and_docstring(cls: type[GatewayError]) -> None:
    """Every error has a text, a 4xx or 5xx status, a snake-case code and a docstring."""
    error = build(cls)
    assert str(error)
    assert error.status in range(400, 600)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
    assert cls.__doc__


def drawn() -> list[tuple[int, str, int, str]]:
    """The trees in both docstrings: depth, name, status and code of each line, in order."""
    line = re.compile(
        r"^    (?P<lead>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<status>\d{3}) (?P<code>\w+)$"
    )
    texts = (errors.__doc__ or "", access_errors.__doc__ or "")
    lines = [one for text in texts for one in text.splitlines()]
    matches = filter(None, map(line.match, lines))
    return [
        (len(match["lead"]) // 4, match["name"], int(match["status"]), match["code"])
        for match in matches
    ]


def test_docstring_draws_actual_error_tree() -> None:
    """The tree in the docstring shows every class below its base, with its status and code."""
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


def test_error_class_has_one_base() -> None:
    """Every error class has exactly one base class."""
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
def test_problem_shows_known_location(problem: Problem, text: str) -> None:
    """A problem shows its line and path as far as they are known."""
    assert str(problem) == text


def test_config_error_lists_all_problems() -> None:
    """A ConfigError counts its problems and lists each on its own line."""
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
def test_unknown_model_suggests_names(nearest: tuple[str, ...], way_out: str) -> None:
    """An UnknownModel suggests the nearest names, or where all names are listed."""
    assert str(UnknownModel("b", nearest)) == f"the model 'b' does not exist here{way_out}"
