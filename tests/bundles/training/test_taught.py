from dataclasses import dataclass

import numpy as np

from agent.arrays import Bools, Texts
from bundles.training.taught import FEWEST, taught_by


@dataclass(frozen=True)
class Timed:
    """As much of labels as is read."""

    schedule: Texts
    test: Bools


def timed(copies: int, *, test: bool = False) -> Timed:
    schedules = ["original", "vectorize j 8; jam i 4", "pack B j", "vectorize k", "parallelize i y"]
    every = np.repeat(np.array(schedules, np.str_), copies)
    return Timed(every, np.full(len(every), test))


def test_marks_count_as_taught_from_enough_labels_on() -> None:
    assert taught_by([timed(FEWEST)]) == ("lanes", "packs", "private")
    assert taught_by([timed(FEWEST // 2)]) == ()
    assert taught_by([timed(FEWEST // 2)] * 2) == ("lanes", "packs", "private")


def test_labels_of_test_programs_teach_no_marks() -> None:
    assert taught_by([timed(FEWEST, test=True)]) == ()
