"""Where a long job is, and how long its phases took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Where a calibration is: ``done`` of ``total`` in ``phase``; ``what`` is being done now.

    ``left_s``: about how many seconds are left; None where it is not known.
    """

    phase: str
    done: int
    total: int
    what: str = ""
    left_s: float | None = None


Tell = Callable[[Progress], None]


@dataclass
class Stopwatch:
    """Seconds spent in each phase, and since the start."""

    started: float = field(default_factory=time.monotonic)
    spent: dict[str, float] = field(default_factory=lambda: {"compiling": 0.0, "measuring": 0.0})

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside as ``name``."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.spent[name] += time.monotonic() - start

    def summary(self) -> dict[str, float]:
        """Seconds by phase; ``rest`` is neither compiling nor measuring."""
        return {**self.spent, "rest": self.elapsed_s - sum(self.spent.values())}
