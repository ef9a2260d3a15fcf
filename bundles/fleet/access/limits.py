"""How often somebody may do something: a bucket that fills again with time; a line to wait in."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

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


class WaitingLine:
    """``at_once`` are served, ``most`` may wait; who comes then is sent away."""

    def __init__(self, at_once: int, most: int) -> None:
        self._served, self._room = asyncio.Semaphore(at_once), at_once + most

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[bool]:
        """Whether there was one; then it is this caller's turn, to the end of the block."""
        if not self._room:
            yield False
            return
        self._room -= 1
        try:
            async with self._served:
                yield True
        finally:
            self._room += 1


@dataclass(frozen=True)
class Tries:
    """Of passwords. A browser in which somebody signed in before has limits of its own.

    So those who try names at random keep each other out, and nobody else. argon2 takes 64 MiB for
    each that is served.
    """

    of_strangers: Buckets = field(default_factory=lambda: Buckets(60))
    of_a_name: Buckets = field(default_factory=lambda: Buckets(6))
    of_a_browser: Buckets = field(default_factory=lambda: Buckets(6))
    strangers: WaitingLine = field(default_factory=lambda: WaitingLine(2, 20))
    known: WaitingLine = field(default_factory=lambda: WaitingLine(1, 20))
