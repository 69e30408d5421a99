"""A file of lines that several processes append to, and that is rotated by size."""

import fcntl
import os
import stat
from contextlib import suppress
from itertools import count
from pathlib import Path


class RotatedFile:
    """Appends to a file; at its maximum size it becomes ``NAME.1``, and that ``NAME.2``, and so on.

    Processes that append to one file do not disturb each other: each write is at its end, and the
    process that holds the lock of the full file renames it, while the others open the new one. A
    file that another program has renamed or deleted is opened anew, too. What is not a regular
    file, such as a pipe, is written and never renamed.
    """

    def __init__(self, path: Path, *, max_bytes: int, files: int, mode: int = 0o640) -> None:
        """``files`` is the maximum number, the current one included."""
        self.name = str(path)
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._mode = mode
        self._descriptor: int | None = None

    def prepare(self, size: int) -> bool:
        """Opens the file that the path names now, and rotates it if ``size`` does not fit."""
        is_new = not self._is_current()
        if is_new:
            self._open()
        if not self._has_room(size):
            self._rotate()
            self._open()
            return True
        return is_new

    def write(self, content: bytes) -> int:
        """Appends as much as the system takes at once."""
        return os.write(self._opened, content)

    def close(self) -> None:
        """Closes the file, if it is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def _opened(self) -> int:
        if self._descriptor is None:
            message = "the file is not open"
            raise OSError(message)
        return self._descriptor

    def _open(self) -> None:
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # a pipe without a reader, or a full one, is a fault and not a wait
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, self._mode)

    def _is_current(self) -> bool:
        """True if the path still names the file that is open."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _has_room(self, size: int) -> bool:
        found = os.fstat(self._opened)
        is_empty = found.st_size == 0  # a batch that is larger than a file gets one of its own
        return (
            not stat.S_ISREG(found.st_mode) or is_empty or found.st_size + size <= self._max_bytes
        )

    def _rotate(self) -> None:
        """Renames the full file, unless another process did while this one waited for the lock.

        The rename is last, because from then on other processes open and rotate the next file.
        """
        fcntl.flock(self._opened, fcntl.LOCK_EX)  # released when the file is closed
        if not self._is_current():
            return
        for number in count(self._files):  # left by a configuration with more files
            try:
                self._numbered(number).unlink()
            except FileNotFoundError:
                break
        for number in range(self._files - 1, 1, -1):
            with suppress(FileNotFoundError):
                self._numbered(number - 1).replace(self._numbered(number))
        if self._files == 1:
            self._path.unlink()
        else:
            self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
