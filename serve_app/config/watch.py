"""Watches a configuration file: a valid change replaces the whole configuration at once.

The file is read every WATCH_S seconds and compared by its hash, not by its time: Kubernetes swaps
the folder of a ConfigMap by a symbolic link, and editors write files in many ways.
"""

import hashlib
import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from serve_app.config.locations import ConfigError

WATCH_S: Final = 2.0
SETTLED_S: Final = 0.1
"""Seconds; a file that changes twice within them is still being written."""

KEPT: Final = 8
"""Number of valid versions that are kept, so that a request ends on the one it began with."""

_MAX_READS: Final = 10
_log = logging.getLogger("fingerpost")


class Versioned(Protocol):
    """A value that was compiled from a file."""

    @property
    def version(self) -> str:
        """The version of that file."""
        ...


T = TypeVar("T", bound=Versioned)


class Watch(Generic[T]):
    """The newest valid state of a file, and the ones before it.

    A file that is invalid or missing only sets ``error``. ``adopt`` is called with every new state
    before it becomes ``current``; if it raises, the state counts as invalid. All of this runs in a
    thread of its own, so that reading and checking never delay a request.
    """

    def __init__(
        self,
        file: str | None,
        compile_: Callable[[], T],
        adopt: Callable[[T], None] = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """Compiles for the first time; raises what ``compile_`` raises. None is never read again.

        ``on_change`` is called after every change of the file, valid or not; ``on_look`` after
        every reading of the thread, every WATCH_S seconds.
        """
        self._file = None if file is None else Path(file)
        self._compile = compile_
        self._adopt = adopt
        self._on_change = on_change
        self.on_look = on_look
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._last = self._digest()
        self.current = compile_()
        self.error: str | None = None
        """Why the present file is not used; None if it is."""
        self._kept: OrderedDict[str, T] = OrderedDict({self.current.version: self.current})

    def start(self) -> None:
        """Starts a thread that watches until ``close``, or until this object or the process ends."""
        arguments = weakref.ref(self), self._closing
        threading.Thread(target=_run, args=arguments, name="reload", daemon=True).start()

    def close(self) -> None:
        """Ends the thread before its next reading."""
        self._closing.set()

    def of(self, version: str) -> T | None:
        """The state of a version; None unless it is one of the last KEPT."""
        return self._kept.get(version)

    def look(self) -> bool:
        """Reads the file now; True if a new state is current. Never raises."""
        with self._lock:
            digest = self._settled()
            if digest == self._last:
                return False
            self._last = digest
            try:
                new = self._compile()
                self._adopt(new)
            except ConfigError as error:
                self._refuse(str(error))
                return False
            except Exception as error:  # noqa: BLE001 - the old state stays in any case
                _log.exception("cannot apply the changed configuration")
                self._refuse(f"{type(error).__name__} while the configuration was applied")
                return False
            self._keep(new)
            return True

    def _keep(self, new: T) -> None:
        kept = OrderedDict(self._kept)  # other threads read the old one
        kept.pop(new.version, None)
        kept[new.version] = new
        while len(kept) > KEPT:
            kept.popitem(last=False)
        self._kept, self.current, self.error = kept, new, None
        _log.warning("configuration %s is active", new.version)
        self._on_change()

    def _refuse(self, why: str) -> None:
        self.error = why
        _log.warning(
            "configuration change rejected, %s stays active: %s", self.current.version, why
        )
        self._on_change()

    def _settled(self) -> bytes | str | None:
        """The digest of the file once it is completely written: half a file may be valid by chance."""
        digest = self._digest()
        for _ in range(_MAX_READS):
            if digest == self._last:
                break
            time.sleep(SETTLED_S)
            before, digest = digest, self._digest()
            if before == digest:
                break
        return digest

    def _digest(self) -> bytes | str | None:
        """The digest of the file, or why it cannot be read, which is a state as well."""
        if self._file is None:
            return None
        try:
            return hashlib.sha256(self._file.read_bytes()).digest()
        except OSError as error:
            return f"{type(error).__name__}: {error.errno}"


def _run(watching: "weakref.ref[Watch[T]]", closing: threading.Event) -> None:
    while not closing.wait(WATCH_S):
        alive = watching()
        if alive is None:
            return
        alive.look()
        alive.on_look()
        del alive
