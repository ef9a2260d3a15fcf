"""Which marks of loops the labels of reference machines teach, beside what simulation says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from agent.loopnest.schedules.schedule import (
    Collapse,
    Cyclic,
    Pack,
    Parallelize,
    Step,
    Stream,
    Vectorize,
    parse_schedule,
)
from bundles.labels.labels import Labels

FEWEST = 200  # labels of versions with the mark


def taught_by(labels: Iterable[Labels]) -> tuple[str, ...]:
    """Marks (``features.vector.MARKS``) that enough labelled versions have, test programs aside."""
    count = Counter[str]()
    for some in labels:
        learned = some.schedule[~some.test]
        count.update(mark for text in learned for mark in set(_marks(parse_schedule(text).steps)))
    return tuple(sorted(mark for mark, rows in count.items() if rows >= FEWEST))


def _marks(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case Vectorize(lanes=lanes) if lanes > 1:
                yield "lanes"
            case Pack():
                yield "packs"
            case Parallelize(arrays=arrays) if arrays:
                yield "private"
            case Cyclic():
                yield "cyclic"
            case Collapse():
                yield "collapse"
            case Stream():
                yield "stream"
