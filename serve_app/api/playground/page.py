"""What the page is made of, and what one ingress replica knows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from serve_app.access.client import Client
from serve_app.requests.trial import Trials
from serve_app.snapshot import Snapshot
from serve_app.telemetry.recent import RecentDecision, RecentDecisions

ROOT: Final = "/ui"
API: Final = "/ui/api/"

_ID_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Page:
    """The page of one ingress replica; others know other decisions."""

    recent: RecentDecisions
    trials: Trials
    replica: str = field(default_factory=lambda: uuid4().hex[:_ID_DIGITS])
    """Names this replica, so that a reader notices that another one answers."""
    started_at: float = field(default_factory=time.time)
    """Seconds since the epoch."""


def is_below_page(path: str) -> bool:
    """True for all paths of the page."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def is_open_file(path: str, snapshot: Snapshot) -> bool:
    """True for a file of the page that a browser may load without a client key.

    A browser cannot send a key with an address, and the files are the same for everyone. Without
    client keys they are for this machine only, as everything else.
    """
    return (
        snapshot.config.client_keys is not None and is_below_page(path) and not path.startswith(API)
    )


def sees_all(snapshot: Snapshot) -> bool:
    """True if a client sees the decisions of other clients, too."""
    config = snapshot.config
    return config.client_keys is None or config.ui.show_all_clients


def shown_to(client: Client, snapshot: Snapshot) -> Callable[[RecentDecision], bool]:
    """Tells whether a client may see a decision."""
    everything = sees_all(snapshot)
    return lambda kept: everything or kept.record.client == client.name


def decisions_for(
    page: Page, client: Client, snapshot: Snapshot, after: int = 0
) -> Sequence[RecentDecision]:
    """The decisions that a client may see, oldest first."""
    may_see = shown_to(client, snapshot)
    return [kept for kept in page.recent.after(after) if may_see(kept)]
