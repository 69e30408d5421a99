"""Counts in bounded memory: quantiles of a histogram, and the number of different texts."""

from collections import defaultdict
from hashlib import blake2b
from heapq import nsmallest
from math import exp, log
from typing import Final

_STEP: Final = log(1.02)
"""Buckets grow by two percent, so a quantile is within one percent."""

_LEAST: Final = 1e-3
_KEPT: Final = 1 << 14
_HASHES: Final = 1 << 64


def bucket_of(value: float) -> int:
    """The bucket of a value; tiny ones share the lowest."""
    return round(log(max(_LEAST, value)) / _STEP)


class Quantiles:
    """A histogram with buckets of equal relative width."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets: defaultdict[int, int] = defaultdict(int)
        """How many values there are in each ``bucket_of``."""

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.buckets.values())

    def at(self, share: float) -> float | None:
        """The value that this share of all values does not exceed; None without values."""
        if not self.buckets:
            return None
        rank, seen, bucket = share * self.count, 0, 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                break
        return exp(bucket * _STEP)

    def as_json(self) -> dict[str, float | int | None]:
        """The usual quantiles and the number of values."""
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        return {"count": self.count, **{name: self.at(share) for name, share in shares.items()}}


class DistinctTexts:
    """The number of different texts: exact up to 32768, then within about one percent."""

    __slots__ = ("_below", "_hashes")

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._below = _HASHES

    def add(self, text: str) -> None:
        """One more text, which may be an earlier one."""
        digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        value = int.from_bytes(digest)
        if value >= self._below:
            return
        self._hashes.add(value)
        if len(self._hashes) > 2 * _KEPT:  # keeps the least hashes, which tell how dense all are
            least = nsmallest(_KEPT + 1, self._hashes)
            self._below = least.pop()
            self._hashes = set(least)

    @property
    def count(self) -> int:
        """How many different ones there were."""
        return round(len(self._hashes) * _HASHES / self._below)
