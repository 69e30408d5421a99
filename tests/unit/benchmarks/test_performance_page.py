"""The page of figures, and the shares of a profile, from recorded results."""

import json
from typing import Any, Final
from xml.etree import ElementTree as ET

from benchmarks.lib.paths import RESULTS
from benchmarks.lib.performance_page import cpu_picture, performance_page
from benchmarks.profile_owners import own_functions, owners, us_by_owner
from benchmarks.suite import STEPS

_STACKS: Final = (
    "run (asyncio/runners.py:1);call (ray/serve/replica.py:2);serve (serve_app/api/app.py:3) 6",
    "run (asyncio/runners.py:1);serve (serve_app/api/app.py:9);send (uvicorn/impl.py:4) 3",
    "run (asyncio/runners.py:1) 1",
)


def _recorded() -> dict[str, dict[str, Any]]:
    files = [RESULTS / f"{step}.json" for step in STEPS]
    return {file.stem: json.loads(file.read_text()) for file in files if file.exists()}


def test_page_shows_every_recorded_script() -> None:
    """Each result has its section, with the machine that it was measured on."""
    recorded = _recorded()
    page = performance_page(recorded)
    for name in ("overhead", "startup", "decision_cost", "translation_cost", "surfaces", "soak"):
        assert f"Script: `benchmarks/{name}.py`." in page
        assert recorded[name]["machine"]["date"] in page
    assert "## What was not measured" in page
    assert "## Start and memory" not in performance_page({"soak": recorded["soak"]})


def test_picture_has_a_bar_for_each_variant() -> None:
    """Bars are as long as their figures; the longest one ends inside of the picture."""
    rows = [
        {"load": "unary c=8", "variant": "fingerpost-inline", "cpu_ms": 0.5},
        {"load": "unary c=8", "variant": "litellm", "cpu_ms": 50.0},
        {"load": "unary c=1", "variant": "not-shown", "cpu_ms": 1.0},
        {"load": "stream c=8", "variant": "raw-hop", "cpu_ms": 1.0},
    ]
    picture = ET.fromstring(cpu_picture(rows))  # noqa: S314 - our own
    bars = [element for element in picture.iter() if element.get("height") == "16"]
    assert [float(bar.get("width", "")) for bar in bars] == [235.0, 470.0, 470.0]


def test_sample_belongs_to_its_innermost_owner() -> None:
    """A function of the gateway counts with all that it calls."""
    assert owners(_STACKS) == {"fingerpost": 6, "uvicorn": 3, "Python and its event loop": 1}
    assert own_functions(_STACKS) == {"serve (serve_app/api/app.py)": 9}


def test_loop_time_is_divided_by_the_samples_and_other_threads_are_rays() -> None:
    """The samples of other threads do not count; their CPU time does."""
    stacks = [f"thread (7): AsyncIO Thread: default;{line}" for line in _STACKS]
    stacks.append("thread (8): MainThread;wait (threading.py:1) 90")
    by_owner, inside = us_by_owner(stacks, {7: 1.0, 8: 0.25, 9: 0.25}, requests=1000)
    assert by_owner == {
        "fingerpost": 600.0,
        "uvicorn": 300.0,
        "Python and its event loop": 100.0,
        "other threads": 500.0,
    }
    assert inside == {"serve (serve_app/api/app.py)": 900.0}
