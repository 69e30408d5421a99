"""Looks after a configuration file while it is in use: what is good replaces the whole at once.

The file is read every WATCH_S seconds and compared by its hash, not by its time: in Kubernetes a
ConfigMap's folder is swapped by a symbolic link, and editors write files in many ways.
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
"""A file that changes twice within this time is still being written."""

KEPT: Final = 8
"""Good versions that are remembered: a request ends on the one that it began with."""

_LOOKS: Final = 10
_log = logging.getLogger("fingerpost")


class Versioned(Protocol):
    """Something compiled from a file."""

    @property
    def version(self) -> str:
        """The version of the file that it was compiled from."""
        ...


T = TypeVar("T", bound=Versioned)


class Watch(Generic[T]):
    """The newest good state of a file, and the ones before it.

    A file that is bad, or gone, changes nothing but ``error``. ``adopt`` is called with every new
    state before it is ``current``; when it raises, the state counts as bad. All of it runs in a
    thread of its own, so that reading and checking never holds a request up.
    """

    def __init__(
        self,
        file: str | None,
        compile_: Callable[[], T],
        adopt: Callable[[T], None] = lambda _: None,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """Compiles for the first time; raises what ``compile_`` raises. None is never looked at.

        ``heard`` is called after every look that found a change, good or not.
        """
        self._file = None if file is None else Path(file)
        self._compile = compile_
        self._adopt = adopt
        self._heard = heard
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._seen = self._digest()
        self.current = compile_()
        self.error: str | None = None
        """Why the file as it is now is not in force; None where it is."""
        self._kept: OrderedDict[str, T] = OrderedDict({self.current.version: self.current})

    def start(self) -> None:
        """Begins to look, in a thread that ends with ``close``, with this object or the process."""
        if self._file is not None:
            aims = weakref.ref(self), self._closing
            threading.Thread(target=_run, args=aims, name="reload", daemon=True).start()

    def close(self) -> None:
        """Ends the thread at its next breath."""
        self._closing.set()

    def of(self, version: str) -> T | None:
        """The state of a version, if it is one of the last KEPT."""
        return self._kept.get(version)

    def look(self) -> bool:
        """Reads the file now; True where a new state is in force. Never raises."""
        with self._lock:
            digest = self._settled()
            if digest == self._seen:
                return False
            self._seen = digest
            try:
                new = self._compile()
                self._adopt(new)
            except ConfigError as error:
                self._refuse(str(error))
                return False
            except Exception as error:  # noqa: BLE001 - whatever it is, the old state stays
                _log.exception("a changed configuration could not be taken up")
                self._refuse(f"{type(error).__name__} while it was taken up")
                return False
            self._keep(new)
            return True

    def _keep(self, new: T) -> None:
        kept = OrderedDict(self._kept)  # others read the one that is there
        kept.pop(new.version, None)
        kept[new.version] = new
        while len(kept) > KEPT:
            kept.popitem(last=False)
        self._kept, self.current, self.error = kept, new, None
        _log.warning("configuration %s is in force", new.version)
        self._heard()

    def _refuse(self, why: str) -> None:
        self.error = why
        _log.warning(
            "the changed configuration is not in force, %s stays: %s", self.current.version, why
        )
        self._heard()

    def _settled(self) -> bytes | str | None:
        """What the file is, once nobody writes it: half of one may be good by chance."""
        digest = self._digest()
        for _ in range(_LOOKS):
            if digest == self._seen:
                break
            time.sleep(SETTLED_S)
            before, digest = digest, self._digest()
            if before == digest:
                break
        return digest

    def _digest(self) -> bytes | str | None:
        """What the file is now; why it can't be read is a state, too."""
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
        del alive
