"""One target made ready: which programs are tested, and which labels a budget may buy.

A budget counts timed versions (speed-up labels). The time of each program as written comes with
them, as in a calibration: it is what they were timed against.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agent.arrays import Doubles, Indices, Ints
from agent.errors import AgentError
from agent.kernels.fixed_set import fixed_variants, kernels
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.model.observations import SECONDS, SPEEDUP, Observations, design_rows
from bundles.labels.labels import Labels
from bundles.labels.target import RIGHT

AT_ONCE = 2  # schedules of a program that are drawn before another program is
MOST_VERSIONS = 40  # of a test program that are judged: pairs of versions grow with the square
FEWEST_TEST, FEWEST_TRAINING = 5, 4  # programs; below, figures would be those of a few programs
DIGEST = re.compile(r"[0-9a-f]{8,64}\Z")


class TooFewError(AgentError):
    """A target has too few labels to be evaluated."""


@dataclass(frozen=True, eq=False)
class Case:
    """A target's labels, split by program.

    Attributes:
        labels: all of the target.
        base: [n] row of the program as written.
        group: [n] rows of one group may not be judged together (kernels of one C file are one).
        test: speed-up rows of the programs kept for testing, at most ``MOST_VERSIONS`` of each;
            ``test_base``: their programs as
            written.
        pool: speed-up rows of the other programs.
        kernels: speed-up rows of the fixed set's kernels.
    """

    labels: Labels
    base: Indices
    group: Ints
    test: Indices
    test_base: Indices
    pool: Indices
    kernels: Indices

    @property
    def name(self) -> str:
        """Of the target."""
        return self.labels.target.name

    @cached_property
    def seconds(self) -> Doubles:
        """[n] log seconds less log work, what seconds rows are labelled with."""
        return np.asarray(np.log(self.labels.seconds) - self.labels.work)

    def random_draw(self, seed: int) -> Indices:
        """The pool in the order in which it is drawn: every prefix is a draw of that many labels.

        Programs in random order, ``AT_ONCE`` random schedules of each; when every program had its
        turn, ``AT_ONCE`` more of each.
        """
        rng = np.random.default_rng([seed, 1])
        rows = rng.permutation(self.pool)
        programs = self.base[rows]
        turn = rng.permutation(len(self.labels))[programs]  # a random place for each program
        nth = _occurrence(programs) // AT_ONCE
        return rows[np.lexsort((turn, nth))]

    def candidate_draw(self, seed: int) -> Indices:
        """The fixed set's candidates (all timed schedules of its kernels) in random order."""
        return np.random.default_rng([seed, 2]).permutation(self.kernels)

    @cached_property
    def fixed_order(self) -> tuple[int, ...]:
        """Row of each variant of the fixed set, in its order; -1 where it gave no usable time."""
        names, schedules = self.labels.family[self.kernels], self.labels.schedule[self.kernels]
        at = dict(zip(zip(names, schedules, strict=True), self.kernels.tolist(), strict=True))
        return tuple(at.get((v.kernel.name, str(v.schedule)), -1) for v in fixed_variants())

    def fixed_draw(self, count: int) -> Indices:
        """The usable ones of the first ``count`` variants of the fixed set."""
        rows = np.array(self.fixed_order[:count], np.intp)
        return rows[rows >= 0]

    def observations(self, embedding: Doubles, rows: Indices) -> Observations:
        """The labels of speed-up rows and of their programs as written, on embeddings [n, E]."""
        bases = np.unique(self.base[rows])
        kind = np.concatenate([np.full(len(rows), SPEEDUP), np.full(len(bases), SECONDS)])
        both = np.concatenate([rows, bases])
        return Observations(
            design=design_rows(self.gains(embedding, rows), embedding[bases]),
            target=np.concatenate([self.labels.log_speedup[rows], self.seconds[bases]]),
            sd=self.labels.sd[both],
            kind=kind,
            group=self.group[both],
            program=self.base[both].astype(np.int64),
        )

    def gains(self, embedding: Doubles, rows: Indices) -> Doubles:
        """[k, E] by how much versions differ from their programs as written."""
        return embedding[self.base[rows]] - embedding[rows]


def make_case(labels: Labels) -> Case:
    """Split a target's labels by program.

    Raises:
        TooFewError: it has too few programs to test on or to draw labels from.
    """
    name = labels.target.name
    base = labels.base
    timed = labels.schedule != ORIGINAL
    test = labels.test
    case = Case(
        labels=labels,
        base=base,
        group=_groups(labels),
        test=_judged(base, np.flatnonzero(test & timed)),
        test_base=np.unique(base[test & timed]),
        pool=np.flatnonzero(~test & ~labels.fixed & timed),
        kernels=np.flatnonzero(labels.fixed & timed),
    )
    trained = len(np.unique(base[case.pool]))
    if len(case.test_base) < FEWEST_TEST or trained < FEWEST_TRAINING:
        raise TooFewError(
            f"{name} has timed versions of {len(case.test_base)} test programs and of {trained} "
            f"others; at least {FEWEST_TEST} and {FEWEST_TRAINING} are needed",
            "Measure more programs (`bundles measure --programs`); about 3 in 10 are for testing.",
        )
    return case


def _judged(base: Indices, rows: Indices) -> Indices:
    """At most ``MOST_VERSIONS`` of each program, always the same ones."""
    mixed = np.random.default_rng(0).permutation(rows)
    return np.sort(mixed[_occurrence(base[mixed]) < MOST_VERSIONS])


def refuse_names(labels: Labels) -> None:
    """Refuse names of programs that cannot say on which side of the split they belong."""
    if bad := [p for p in np.unique(labels.program[~labels.fixed]) if not DIGEST.match(p)]:
        name = labels.target.name
        raise AgentError(f"{name}: program {str(bad[0])[:40]!r} is not a digest", RIGHT)


def refuse_leaks(files: Sequence[Labels]) -> None:
    """Refuse a test program that stands under another name among programs that are learned from.

    Raises:
        AgentError: the program as written has the features and the work of one of the other part.
    """
    learned: dict[bytes, str] = {}
    tested: dict[bytes, str] = {}
    for labels in files:
        kept = labels.test
        for row in np.flatnonzero(labels.schedule == ORIGINAL):
            looks = labels.features[row].tobytes() + labels.work[row].tobytes()
            (tested if kept[row] else learned)[looks] = f"{labels.program[row]}"
    if twins := [(tested[looks], learned[looks]) for looks in tested.keys() & learned.keys()]:
        one, other = min(twins)
        raise AgentError(
            f"test program {one} is program {other} of the other part again: equal features and "
            f"work ({len(twins)} such)",
            "Keep one of the two: a program on both sides of the split makes figures too good.",
        )


def _groups(labels: Labels) -> Ints:
    """[n] number of the program, of the C file for kernels of the fixed set."""
    files = {k.name: str(k.path) for k in kernels()}
    names = [
        files.get(family, family) if fixed else program
        for program, family, fixed in zip(labels.program, labels.family, labels.fixed, strict=True)
    ]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _occurrence(values: Indices) -> Ints:
    """[n] how often the value stood before."""
    count: dict[int, int] = defaultdict(int)
    out = np.zeros(len(values), np.int64)
    for i, value in enumerate(values.tolist()):
        out[i] = count[value]
        count[value] += 1
    return out
