"""``serve run`` in less memory: without Ray's dashboard, which takes as much as two replicas.

    python -m deployments.serve_run FILE

``serve run`` starts Ray with its dashboard, unless Ray runs already.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

import ray
from ray.serve.scripts import cli

NAMESPACE: Final = "serve"
"""That of ``serve run``."""
_POOLS: Final = "MALLOC_ARENA_MAX"
"""Pools of memory of the C library in each process; by default up to eight a core, which takes some
10 MB more in all."""


def main(arguments: Sequence[str]) -> None:
    """Runs ``serve run`` with these arguments, by default in a new cluster without a dashboard."""
    if not os.environ.get("RAY_ADDRESS"):  # Ray refuses the option for a cluster that runs
        os.environ.setdefault(_POOLS, "2")
        ray.init(namespace=NAMESPACE, include_dashboard=False)
    cli(["run", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
