"""Keeps Python's garbage collector out of the way of requests, and returns memory to the system."""

import ctypes
import gc
from contextlib import suppress
from typing import Final

from ray import serve
from ray.serve.exceptions import RayServeException

YOUNG_OBJECTS: Final = 50_000
"""Containers that are made before the collector looks at them; Python's default is 700.

A request leaves few cycles behind. With the default the collector takes a tenth of the CPU that
a request costs here, and with this value the cycles between two looks are a few megabytes.
"""


def calm_collector() -> None:
    """Leaves what a replica has built at its start out of all later collections.

    A full collection would else visit some 400,000 objects of imports, during which no request
    proceeds. Does nothing outside of a replica: there the process is not the gateway's alone.
    """
    try:
        serve.get_replica_context()
    except RayServeException:
        return
    gc.collect()
    return_freed_memory()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def return_freed_memory() -> None:
    """Returns to the system what the C library keeps of freed memory.

    Loading a model leaves some 12 MB behind. Does nothing if the C library has no
    ``malloc_trim``, such as musl.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
