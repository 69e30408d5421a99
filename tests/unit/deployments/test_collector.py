"""What a replica does with garbage and freed memory once it has started."""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray import serve

from deployments import collector
from deployments.collector import YOUNG_OBJECTS, calm_collector, return_freed_memory


@pytest.fixture(name="done")
def _done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked of Python's collector and of the C library, in order."""
    done: list[tuple[Any, ...]] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda *arguments: done.append((name, *arguments))

    names = ("collect", "freeze", "set_threshold")
    fake = SimpleNamespace(**{name: noting(name) for name in names})
    fake.get_threshold = lambda: (700, 10, 10)
    monkeypatch.setattr(collector, "gc", fake)
    library = SimpleNamespace(malloc_trim=noting("malloc_trim"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    return done


def test_replica_collects_once_and_keeps_its_start_out_of_later_collections(
    done: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is returned between the two; later collections are rare."""
    monkeypatch.setattr(serve, "get_replica_context", lambda: None)
    calm_collector()
    expected = [
        ("collect",),
        ("malloc_trim", 0),
        ("freeze",),
        ("set_threshold", YOUNG_OBJECTS, 10, 10),
    ]
    assert done == expected


def test_other_processes_are_left_alone(done: list[tuple[Any, ...]]) -> None:
    """Outside of a replica, as here, nothing is changed."""
    calm_collector()
    assert done == []


def test_a_library_without_the_function_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of Alpine Linux."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    return_freed_memory()
