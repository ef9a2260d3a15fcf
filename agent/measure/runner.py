"""What times programs, as those see it who have programs timed: tests put a simulated one there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from agent.measure.toolchain import OnBuilt, Toolchain

if TYPE_CHECKING:
    from agent.loopnest.program import Program
    from agent.measure.machine import Machine
    from agent.measure.timing import MeasureEvent, Measurement
    from agent.settings.config import Config


class Runner(Protocol):
    """Times programs with one toolchain (on this machine: ``worker_runner.WorkerRunner``)."""

    @property
    def toolchain(self) -> Toolchain:
        """What gives it machine code."""

    def prepare(self, programs: Sequence[Program], *, progress: OnBuilt | None = None) -> None:
        """Do for ``programs`` whatever can be done before any of them is timed.

        A program that cannot be written as C, or that the compiler refuses, is reported when it
        is measured.

        Raises:
            CompilerError: the compiler is gone. StateError: the cache cannot be written.
        """

    def measure(
        self,
        base: Program,
        variants: Sequence[Program],
        *,
        on_event: Callable[[MeasureEvent], None] | None = None,
        budget_s: float | None = None,
    ) -> Measurement:
        """Time ``base`` and ``variants`` against each other.

        Args:
            base: the program as written.
            variants: other schedules of it.
            on_event: told of progress.
            budget_s: wall time to aim for; a least number of rounds is run all the same.

        Returns:
            The measurement; failures of single programs are in the timings' outcomes.

        Raises:
            CompilerError, StateError: as for ``prepare``.
            ScheduleError: ``base`` itself cannot be written as C.
            MeasureError: nothing can be timed here.
        """


OpenRunner = Callable[["Config"], Runner]  # for programs of a person's own
OpenSetRunner = Callable[["Config", Toolchain, "Machine"], Runner]  # for the fixed set
