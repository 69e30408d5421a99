"""A process of vLLM's ends with its parent, without vLLM."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

_PARENT: Final = """
import multiprocessing, time
child = multiprocessing.get_context("spawn").Process(target=exec, args=(CHILD,))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""
_CHILD: Final = "import time, {name}\nprint('up', flush=True)\ntime.sleep(600)"


@pytest.mark.parametrize(
    ("name", "ends"), [("serve_app.engines.vllm.leash", True), ("json", False)]
)
def test_leash_ends_the_child_of_a_killed_parent(name: str, *, ends: bool) -> None:
    """Without the leash, the child survives."""
    child = _CHILD.format(name=name)
    script = _PARENT.replace("CHILD", repr(child))
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "up\n"
        parent.kill()
    _, alive = psutil.wait_procs([process], timeout=5 if ends else 1)
    assert bool(alive) is not ends
    for left in alive:
        left.kill()
