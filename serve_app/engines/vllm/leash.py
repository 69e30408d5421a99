"""Ends a process of vLLM's when the replica that started it is gone, however it went.

vLLM's own processes live on when their parent is killed, and keep their memory, on a GPU too.
vLLM imports this module in each of them, by the name of the class.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


class Leash:
    """What vLLM adds to its worker's class: nothing."""


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)  # nothing in here is worth a slower end


_parent = multiprocessing.parent_process()
if _parent is not None:
    threading.Thread(target=_end_with, args=(_parent,), name="leash", daemon=True).start()
