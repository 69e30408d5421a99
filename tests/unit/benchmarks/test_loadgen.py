"""The load generator of the benchmarks and the pipe to it."""

import os
import subprocess
import sys
import threading
import time
from typing import Final

import pytest

from benchmarks.lib import frames, loadgen
from benchmarks.lib.paths import PROJECT

# uvloop closes an io_uring when a run ends, which can cut the next write to a full pipe short;
# and without a buffer Python's standard output drops what such a write leaves.
GENERATOR: Final = """
from benchmarks.lib import loadgen

async def send_all(load):
    return loadgen.Figures([float(number) / 3 for number in range(load.clients)], 0, 1.0, "")

loadgen._send_all = send_all
loadgen.main()
"""


@pytest.mark.parametrize("answers", [0, 1, 8_000, 50_000])
def test_figures_of_any_number_of_answers_arrive_whole(answers: int) -> None:
    """None is lost on the way, whether Python buffers its standard output or not."""
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(PROJECT)}
    load = loadgen.Load(1, "/", "", answers, 0.0, "")
    with subprocess.Popen(
        [sys.executable, "-c", GENERATOR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
    ) as process:
        try:
            generator = loadgen.Generator(process)
            for _ in range(3):
                generator.send(load)
                time.sleep(0.3)  # so that the generator finds the pipe full and waits
                assert generator.receive().latencies_ms == [n / 3 for n in range(answers)]
        finally:
            process.kill()


@pytest.mark.parametrize("size", [0, 5, 300_000])
@pytest.mark.parametrize("blocking", [True, False])
def test_frames_of_any_size_arrive_whole(size: int, blocking: bool) -> None:
    """Neither a small pipe nor one that does not block cuts them."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, blocking)
    content = bytes(number % 251 for number in range(size))
    writing = threading.Thread(target=frames.write_frame, args=(writer, content))
    writing.start()
    assert frames.read_frame(reader) == content
    writing.join()
    os.close(writer)
    assert frames.read_frame(reader) is None
    os.close(reader)


@pytest.mark.parametrize("cut", [2, 7])
def test_frame_that_is_cut_raises_an_error(cut: int) -> None:
    """Within its length, or within its content."""
    reader, writer = os.pipe()
    os.write(writer, b"\0\0\0\x09content"[:cut])
    os.close(writer)
    with pytest.raises(EOFError, match=r"after \d of \d bytes"):
        frames.read_frame(reader)
    os.close(reader)


def test_generator_that_ended_raises_an_error() -> None:
    """The reader does not wait for ever."""
    with subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.wait()
        with pytest.raises(EOFError, match="load generator has ended"):
            loadgen.Generator(process).receive()
