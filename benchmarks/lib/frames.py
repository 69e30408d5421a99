"""Frames of any size over a pipe: four bytes with the length, then the bytes.

A single ``write`` to a pipe can be short, even where the pipe blocks: a signal, or an io_uring that
the same thread has just closed (uvloop closes one at the end of each run), interrupts the wait for
room. Without a buffer, as with ``PYTHONUNBUFFERED=1``, ``print`` and ``sys.stdout.write`` drop the
rest. ``write_frame`` goes on until all is written, and ``read_frame`` until all is read.
"""

import os
import select
import struct
from typing import Final

_LENGTH: Final = struct.Struct("!I")


def write_frame(descriptor: int, content: bytes) -> None:
    """Writes one frame in full. Raises BrokenPipeError if the reader has closed the pipe."""
    left = memoryview(_LENGTH.pack(len(content)) + content)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _wait(descriptor, select.POLLOUT)


def read_frame(descriptor: int) -> bytes | None:
    """Reads one frame in full. Returns None if the pipe ends before it.

    Raises EOFError if the pipe ends within the frame.
    """
    head = _read(descriptor, _LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(_whole(head, _LENGTH.size))
    return _whole(_read(descriptor, length), length)


def _read(descriptor: int, length: int) -> bytes:
    """Returns ``length`` bytes, or fewer if the pipe ends before."""
    content = bytearray()
    while len(content) < length:
        try:
            part = os.read(descriptor, length - len(content))
        except BlockingIOError:
            _wait(descriptor, select.POLLIN)
            continue
        if not part:
            break
        content += part
    return bytes(content)


def _whole(content: bytes, length: int) -> bytes:
    if len(content) < length:
        raise EOFError(f"the pipe ended after {len(content)} of {length} bytes")
    return content


def _wait(descriptor: int, event: int) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    poll.poll()
