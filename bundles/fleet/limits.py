"""How often somebody may do something: a bucket that fills again with time. Pure, by the clock."""

from __future__ import annotations

from collections import OrderedDict

MOST_NAMES = 10_000


class Buckets:
    """``per_minute`` for each name, as many at once after a minute of rest."""

    def __init__(self, per_minute: float) -> None:
        self._most = per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, now: float) -> float:
        """Take one; 0 where it was there, else seconds until the next."""
        left, before = self._left.pop(name, (self._most, now))
        left = min(self._most, left + max(0.0, now - before) * self._most / 60)
        taken = left >= 1
        self._left[name] = (left - 1 if taken else left, now)
        while len(self._left) > MOST_NAMES:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) * 60 / self._most
