"""What a peer of `benchmarks/peers.py` is: asked for a kernel, it offers versions of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.advise.splice import SourceRegion
from agent.system.child import ChildLimits, ChildRun, run_child

ROOT = Path(__file__).parent.parent
THREADS = len(os.sched_getaffinity(0))
ENVIRONMENT = {f"{who}_NUM_THREADS": str(THREADS) for who in ("OMP", "HL", "TVM")}
SPACE = 1 << 38  # bytes of address space that a peer may take
BASELINE = "gcc -O3"  # the peer that speeds are told over


@dataclass(frozen=True)
class Kernel:
    """A function of a C file, and the sizes it is called with."""

    name: str
    path: Path
    function: str
    sizes: Mapping[str, int]
    cflags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """What a peer makes of a function.

    Attributes:
        what: how, in the peer's words.
        file: C that defines the function; it is included by the harness's program.
        command: the compiler with its flags.
        more: object files and libraries.
        course: (seconds since the peer began, times as fast as written) of the best so far, by the
            peer's own timings, where it makes some.
    """

    what: str
    file: Path
    command: tuple[str, ...]
    more: tuple[str, ...] = ()
    course: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Task:
    """What a peer is asked for.

    Attributes:
        kernel: with the ``source`` that was read of it.
        folder: its own, where it may write.
        budget_s: how long it may take, where it can be told.
        state_dir: of the agent's.
    """

    kernel: Kernel
    source: SourceRegion
    folder: Path
    budget_s: float
    state_dir: Path


class Peer(Protocol):
    """Something that makes functions faster."""

    name: str
    install: str

    def version(self) -> str | None:
        """What is installed; None: nothing is."""

    def versions(self, task: Task) -> Iterator[Version]:
        """Versions, as they are made; none where it cannot do this kernel.

        Raises:
            PeerError: it fails.
        """


class PeerError(Exception):
    """A peer cannot do what it was asked for; says why."""


def apart(
    words: Sequence[object],
    most_s: float,
    place: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> ChildRun:
    """Run a peer's program, for ``most_s`` at most; whatever it started ends with it.

    It works in ``place``, with ``more`` in its environment.
    """
    cpu = int(most_s + 1) * THREADS
    limits = ChildLimits(most_s, SPACE, file=1 << 30, output=1 << 26, words=1 << 20, cpu=cpu)
    around = {**os.environ, **ENVIRONMENT, **(more or {})}
    return run_child([str(word) for word in words], limits, place=place, environment=around)
