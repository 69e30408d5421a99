"""The thread that writes logs: no line waits for a disk, and faults are counted and logged once."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve_app.telemetry.log_writer import (
    MAX_WAITING_BYTES,
    LineTarget,
    LogWriter,
    StderrTarget,
)
from serve_app.telemetry.rotated_file import RotatedFile


class FakeTarget:
    """Takes some bytes at once, and fails when it is told to."""

    name = "fake"

    def __init__(self, at_once: int = 1 << 20) -> None:
        self.written = b""
        self.at_once = at_once
        self.room = 1 << 30
        self.opens = 1
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, size: int) -> bool:
        del size
        self.opens -= 1
        return self.opens >= 0

    def write(self, content: bytes) -> int:
        self.gate.wait(10)
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = content[: min(self.at_once, self.room)]
        self.room -= len(taken)
        self.written += taken
        return len(taken)

    def close(self) -> None:
        self.written += b"closed"


@contextmanager
def writing(target: LineTarget, preamble: Callable[[], bytes] = bytes) -> Iterator[LogWriter]:
    """A writer that does not collect lines, and is closed at the end."""
    writer = LogWriter(target, preamble=preamble, pause_s=0.0)
    try:
        yield writer
    finally:
        writer.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails after some seconds."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never held")


def wait_for_lost(writer: LogWriter, count: int) -> None:
    """Returns once this number of lines was lost."""
    wait_for(lambda: writer.lost == count)


def test_lines_are_written_in_order_and_whole() -> None:
    """Also by a target that takes a few bytes at once; the preamble is first."""
    target = FakeTarget(at_once=7)
    lines = [b'{"line":%d}\n' % number for number in range(500)]
    with writing(target, lambda: b"head\n") as writer:
        for line in lines:
            writer.put(line)
    assert target.written == b"head\n" + b"".join(lines) + b"closed"
    assert writer.lost == 0


def test_full_disk_loses_lines_and_logs_once(caplog: pytest.LogCaptureFixture) -> None:
    """A line that was cut is ended before the next one, so it alone is damaged."""
    caplog.set_level(logging.WARNING, "fingerpost")
    target = FakeTarget()
    target.room = 6
    with writing(target) as writer:
        writer.put(b"1234567\n")
        wait_for(lambda: writer.lost == 1)
        for count in (2, 3, 4):
            writer.put(b"lost\n")
            wait_for_lost(writer, count)
        target.room = 1 << 20
        writer.put(b"next\n")
        wait_for(lambda: b"next\n" in target.written)
    assert target.written == b"123456\nnext\nclosed"
    assert [record.getMessage() for record in caplog.records] == [
        (
            "logs: cannot write to fake: No space left on device; lines are lost as long as this "
            "lasts; free space, or change the target"
        ),
        "logs: fake is written again; 4 lines were lost",
    ]


def test_put_never_waits_for_a_target_that_hangs() -> None:
    """The queue is bounded; lines beyond it are lost and counted."""
    target = FakeTarget()
    target.gate.clear()
    line = b"x" * 65535 + b"\n"
    with writing(target) as writer:
        began = time.monotonic()
        for _ in range(2 * MAX_WAITING_BYTES // len(line)):
            writer.put(line)
        assert time.monotonic() - began < 1.0
        assert MAX_WAITING_BYTES // len(line) - 8 <= writer.lost
        target.gate.set()
    written = target.written.count(b"\n")
    assert written + writer.lost == 2 * MAX_WAITING_BYTES // len(line)


def test_close_gives_up_on_a_target_that_hangs() -> None:
    """The process ends although the lines are not written."""
    target = FakeTarget()
    target.gate.clear()
    writer = LogWriter(target, pause_s=0.0)
    writer.put(b"line\n")
    began = time.monotonic()
    writer.close(within_s=0.05)
    assert time.monotonic() - began < 1.0
    target.gate.set()


def test_device_without_room_fails_no_caller() -> None:
    """``/dev/full`` refuses each write; it is not renamed either."""
    with writing(RotatedFile(Path("/dev/full"), max_bytes=10, files=2)) as writer:
        for count in range(1, 4):
            writer.put(b"a line that is longer than the file may be\n")
            wait_for_lost(writer, count)
    assert Path("/dev/full").is_char_device()


def test_name_that_no_file_can_have_loses_lines() -> None:
    """The thread survives it."""
    with writing(RotatedFile(Path("a\0b"), max_bytes=10, files=2)) as writer:
        for count in (1, 2):
            writer.put(b"line\n")
            wait_for_lost(writer, count)


def test_closed_pipe_loses_lines() -> None:
    """As when the program that reads the standard error has ended."""
    reader, writer_end = os.pipe()
    target = StderrTarget(writer_end)
    with writing(target) as writer:
        writer.put(b"first\n")
        assert os.read(reader, 100) == b"first\n"
        os.close(reader)
        writer.put(b"second\n")
        wait_for(lambda: writer.lost == 1)
    os.close(writer_end)
