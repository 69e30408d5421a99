"""Ends a vLLM process when the replica that started it is gone.

vLLM's processes survive when their parent is killed, and keep their memory, also on a GPU.
vLLM imports this module in each of them, by the name of the class.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


class Leash:
    """An extension of vLLM's worker class; empty, because importing the module is enough."""


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)  # nothing in this process needs a clean end


_parent = multiprocessing.parent_process()
if _parent is not None:
    threading.Thread(target=_end_with, args=(_parent,), name="leash", daemon=True).start()
