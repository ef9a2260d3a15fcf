"""Timing real programs: of each some schedules that were ranked, in paired rounds.

    read -> rank -> time as written, alone -> time the first ones and some at random -> journal

The way is that of ``agent rank`` and ``agent measure``: the same reader, model and measuring.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.advise.advise import read_source
from agent.advise.anchoring import time_as_written
from agent.calibration.predictor import Predictor
from agent.errors import InputError, MeasureError, ScheduleError, SourceError
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import features, work
from agent.loopnest.program import Program
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.schedule import ORIGINAL, Schedule
from agent.measure.runner import Runner
from agent.measure.session import TimingSettings
from bundles.evaluation.options import RealCampaign
from bundles.evaluation.programs.listing import ListedProgram, ProgramList
from bundles.evaluation.programs.records import RealHead, RealJournal, RealProgram
from bundles.labels.measure import timed_version
from bundles.training.settings import Say

if TYPE_CHECKING:
    from agent.settings.config import Config

SETTINGS = TimingSettings(rounds=7, min_rounds=3, shared_rounds=6, limit_s=3.0)
Drawn = tuple[Schedule, Program]


def list_digest(programs: ProgramList) -> str:
    """Of what is asked for, without where the files lie."""
    asked = [
        (p.name, p.request.path.name, p.request.function, sorted(p.request.sizes.items()))
        for p in programs.programs
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RealTimer:
    """What programs are timed with.

    Attributes:
        config: how they are read.
        predictor: ranks them.
        runner: times them; ``alone``: the program as written beforehand, as predictions do.
        campaign: how many.
    """

    config: Config
    predictor: Predictor
    runner: Runner
    alone: Runner
    campaign: RealCampaign

    def program(self, listed: ListedProgram) -> RealProgram:
        """One program; where it cannot be read or timed, the record says why."""
        started = time.monotonic()
        try:
            program = read_source(self.config, listed.request).reading.program
            drawn = self._drawn(program, listed.name)
            return self._timed(listed.name, program, drawn, started)
        except (InputError, ScheduleError, SourceError) as error:
            return RealProgram(listed.name, error.message, elapsed_s=time.monotonic() - started)

    def _drawn(self, program: Program, name: str) -> list[Drawn]:
        """The schedules to time: those predicted best, then random ones."""
        wish = self.campaign
        found = candidate_schedules(program, wish.looked_at, seed=wish.seed)[1:]
        gains = self.predictor.log_speedups(program, [variant for _, variant in found])[1]
        order = sorted(range(len(found)), key=lambda n: (-gains[n], n))
        rest = order[wish.first :]
        random.Random(f"{wish.seed} {name}").shuffle(rest)
        return [found[n] for n in (order[: wish.first] + rest)[: wish.timed]]

    def _timed(
        self, name: str, program: Program, drawn: Sequence[Drawn], started: float
    ) -> RealProgram:
        versions = [variant for _, variant in drawn]
        self.runner.prepare([program, *versions])  # now, so that nothing is compiled between
        seconds = self._alone(program)
        found = self.runner.measure(program, versions, budget_s=self.campaign.budget_s)
        table = lower((program, *versions))
        texts = (ORIGINAL, *(str(schedule) for schedule, _ in drawn))
        return RealProgram(
            name=name,
            why="" if found.base.ok else f"{found.base.outcome}: {found.base.detail}",
            versions=tuple(map(timed_version, texts, (found.base, *found.timings))),
            features=tuple(tuple(map(_short, row)) for row in features(table)),
            work=float(work(table)[0]),
            seconds=seconds,
            elapsed_s=time.monotonic() - started,
        )

    def _alone(self, program: Program) -> tuple[float, float, float] | None:
        """Seconds as written with their interval, as predictions are anchored to."""
        try:
            found = time_as_written(self.alone, program)
        except MeasureError:
            return None
        return found.seconds, found.low, found.high


def _short(value: np.float32) -> float:
    """The shortest decimal that is this float32."""
    return float(str(value))


def time_programs(
    timer: RealTimer, programs: ProgramList, path: Path, head: RealHead, say: Say
) -> None:
    """Time what the journal at ``path`` has not; ``say`` is told of each.

    Raises:
        InputError: the journal is of something else, or cannot be written.
    """
    with RealJournal.open(path, head) as journal:
        left = [p for p in programs.programs if p.name not in journal.done]
        if journal.done:
            say(f"{len(journal.done)} of {len(programs.programs)} programs are timed already")
        started = time.monotonic()
        for number, listed in enumerate(left, 1):
            found = timer.program(listed)
            journal.add(found)
            spent = time.monotonic() - started
            ahead = spent / number * (len(left) - number)
            told = found.why or f"{len(found.timed)} versions"
            say(
                f"{number}/{len(left)} {found.name}: {told} ({found.elapsed_s:.1f} s; "
                f"about {ahead:.0f} s left)"
            )
