"""What is known of this machine's cores: the reading of one that nobody else uses.

The reading (``harness.c``, "shared cores") belongs to a kind of core and to how the worker was
compiled, so it is kept beside the worker, for the next process: one that starts while the cores
are shared could not tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import StateError
from agent.measure.cache import SEAL_BYTES, Cache
from agent.measure.machine import Machine
from agent.measure.shots import UNDISTURBED

LOWER = 0.98  # a reading that is lower than that, times the one kept, is kept instead
MAX_BYTES = 100


@dataclass
class Cores:
    """What one job needs to know of the cores.

    Attributes:
        lowest: the reading of an undisturbed one, as far as seen; infinite: none was seen yet.
        parallel: the programs that use all cores.
    """

    lowest: float
    parallel: frozenset[int]

    def see(self, reading: float) -> None:
        """Take the lowest."""
        self.lowest = min(self.lowest, reading)


def quietest(cpus: Sequence[int], readings: Sequence[float]) -> int:
    """The CPU for serial programs: the first, unless others use that one and leave another alone.

    Args:
        cpus: of one kind, in the order of preference.
        readings: the lowest of each.
    """
    lowest = min(readings)
    if readings[0] <= UNDISTURBED * lowest:
        return cpus[0]
    return cpus[readings.index(lowest)]


@dataclass
class KeptReading:
    """The lowest reading seen by workers of one kind on one kind of CPU; in ``cache``."""

    cache: Cache
    worker: Path
    machine: Machine

    @property
    def _key(self) -> str:
        known = f"reading\0{self.worker.name}\0{self.machine.model}\0{self.machine.microcode}"
        return hashlib.sha256(known.encode()).hexdigest()

    def read(self) -> float:
        """In units of the chain's time; infinite where there is none, or none that makes sense."""
        path = self.cache.get(self._key)
        with contextlib.suppress(OSError, ValueError):
            if path is not None and path.stat().st_size < SEAL_BYTES + MAX_BYTES:
                reading = float(path.read_bytes()[:-SEAL_BYTES])
                return reading if 0 < reading < math.inf else math.inf
        return math.inf

    def keep(self, reading: float) -> None:
        """Remember ``reading`` if it is lower; a cache that cannot be written loses it."""
        if not reading < LOWER * self.read():
            return
        with contextlib.suppress(StateError, OSError), self.cache.workplace() as place:
            file = place / "reading"
            file.write_text(f"{reading:.6g}")
            self.cache.put(self._key, file)
