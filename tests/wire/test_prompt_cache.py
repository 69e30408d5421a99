"""Turns of agents find their prompts in the caches of providers, whichever replica they come to."""

from pathlib import Path

import pytest

from benchmarks.lib.prompt_caches import ELIGIBLE, WAYS, SharedMemory, Way, run

KEPT = [way for way in WAYS if not way.is_off]
IN_TURN = [way for way in WAYS if way.is_off]


def stores(way: Way) -> list[SharedMemory]:
    """Two replicas share bindings where the content decides, and nothing where a name does."""
    shared = SharedMemory()
    return [shared, shared if way.model == "auto" else SharedMemory()]


@pytest.mark.parametrize("way", KEPT, ids=lambda way: way.name)
def test_every_turn_finds_its_conversation_in_the_cache(way: Way, tmp_path: Path) -> None:
    """Both endpoints of a model are used, and no conversation changes its endpoint or its model."""
    found = run(way, tmp_path, stores(way))
    assert (found.hits, found.eligible) == (ELIGIBLE, ELIGIBLE)
    assert sum(found.conversations) == 20
    assert min(found.conversations) > 0


@pytest.mark.parametrize("way", IN_TURN, ids=lambda way: way.name)
def test_turns_lose_the_cache_where_sessions_are_off(way: Way, tmp_path: Path) -> None:
    """The same load misses about half of its caches at least, so that the test above can fail."""
    found = run(way, tmp_path, stores(way))
    assert found.eligible == ELIGIBLE
    assert found.hits <= 0.6 * ELIGIBLE
