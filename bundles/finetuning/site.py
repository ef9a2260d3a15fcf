"""Label files of one site on one table: programs with their versions, a column for every target.

Row by row in the order of programs, the program as written first among its versions. A version that
a target has no usable time of is nan in its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from agent.arrays import Bools, Doubles, Indices, Singles, Texts
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.model.score import log_error, spearman, top_share
from bundles.labels.labels import Labels, is_test
from bundles.labels.target import Target


@dataclass(frozen=True, eq=False)
class Site:
    """Labelled programs of a site: p programs, n versions, t targets.

    Attributes:
        targets: [t] machines and toolchains.
        program: [p] digests.
        fixed: [p] whether it is a kernel of the fixed set.
        count: [p] versions of each program, at least 1.
        features: [n, F].
        seconds: [n, t] log seconds less the program's log work.
        speedup: [n, t] log speed-up over the program as written; nan for that one itself.
        sd: [n, t] of a measurement, log units.
    """

    targets: tuple[Target, ...]
    program: Texts
    fixed: Bools
    count: Indices
    features: Singles
    seconds: Doubles
    speedup: Doubles
    sd: Doubles

    def __len__(self) -> int:
        return len(self.program)

    @property
    def first(self) -> Indices:
        """[p] row of each program as written."""
        return np.cumsum(self.count) - self.count

    @property
    def base(self) -> Indices:
        """[n] row of the program as written of each row."""
        return np.repeat(self.first, self.count)

    @property
    def owner(self) -> Indices:
        """[n] number of each row's program."""
        return np.repeat(np.arange(len(self)), self.count)

    @property
    def labels(self) -> int:
        """How many speed-ups there are, over all targets."""
        return int(np.isfinite(self.speedup).sum())

    @property
    def timed(self) -> Bools:
        """[p, t] whether a program has a speed-up on a target."""
        timed = np.zeros((len(self), len(self.targets)), np.bool_)
        np.logical_or.at(timed, self.owner, np.isfinite(self.speedup))
        return timed

    @property
    def test(self) -> Bools:
        """[p] whether a program is kept for testing (``labels.is_test``)."""
        return is_test(self.program) & ~self.fixed

    def rows(self, programs: Indices) -> Indices:
        """Rows of the given programs, program by program."""
        first, count = self.first[programs], self.count[programs]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        found: Indices = np.repeat(first, count) + within
        return found

    def take(self, programs: Indices) -> Site:
        """The given programs."""
        rows = self.rows(programs)
        return Site(
            targets=self.targets,
            program=self.program[programs],
            fixed=self.fixed[programs],
            count=self.count[programs],
            features=self.features[rows],
            seconds=self.seconds[rows],
            speedup=self.speedup[rows],
            sd=self.sd[rows],
        )


def join_labels(labels: Sequence[Labels]) -> Site:
    """The site that these label files, one a target, speak for."""
    place: dict[tuple[str, bool, str], int] = {}
    versions = [
        [(p, s != ORIGINAL, s) for p, s in zip(part.program, part.schedule, strict=True)]
        for part in labels
    ]
    for key in sorted({key for part in versions for key in part}):
        place[key] = len(place)
    names, count = np.unique([key[0] for key in place], return_counts=True)
    width = labels[0].features.shape[1]
    features = np.zeros((len(place), width), np.float32)
    seconds, speedup, sd = (np.full((len(place), len(labels)), np.nan) for _ in range(3))
    fixed = np.zeros(len(names), np.bool_)
    for column, (part, keys) in enumerate(zip(labels, versions, strict=True)):
        rows = np.array([place[key] for key in keys], np.intp)
        features[rows] = part.features
        seconds[rows, column] = np.log(part.seconds) - part.work
        speedup[rows, column] = np.where(part.schedule == ORIGINAL, np.nan, part.log_speedup)
        sd[rows, column] = part.sd
        fixed[np.searchsorted(names, part.program)] = part.fixed
    targets = tuple(part.target for part in labels)
    return Site(targets, names, fixed, count.astype(np.intp), features, seconds, speedup, sd)


@dataclass(frozen=True)
class SiteFigures:
    """How good predictions of a site are, as in ``agent.model.score``; means over the targets."""

    log_error: float
    spearman: float
    top_share: float
    seconds_log_error: float

    @classmethod
    def mean(cls, rows: Sequence[SiteFigures]) -> SiteFigures:
        """Mean of each figure, rounded."""
        columns = zip(*map(astuple, rows), strict=True)
        return cls(*(round(float(np.mean(column)), 4) for column in columns))


def site_figures(site: Site, times: Doubles) -> SiteFigures:
    """Errors of predicted log seconds less log work [n, t].

    Seconds are judged by the programs as written, everything else by speed-ups over them.
    """
    gains = times[site.base] - times
    missed = np.abs((times - site.seconds)[site.first])
    found = []
    for truth, predicted, late in zip(site.speedup.T, gains.T, missed.T, strict=True):
        rows = np.isfinite(truth)
        judged = (truth[rows], predicted[rows])
        found.append(
            SiteFigures(
                log_error(*judged),
                spearman(*judged, site.owner[rows]) or 0.0,
                top_share(*judged, site.owner[rows]) or 0.0,
                float(np.nanmean(late)),
            )
        )
    return SiteFigures.mean(found)


def program_errors(site: Site, times: Doubles) -> Doubles:
    """[p] mean absolute log error of a program's speed-ups; nan where it has none."""
    errors = np.abs((times[site.base] - times) - site.speedup)
    timed = np.isfinite(errors)
    total = np.add.reduceat(np.where(timed, errors, 0.0).sum(1), site.first)
    count = np.add.reduceat(timed.sum(1), site.first)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
