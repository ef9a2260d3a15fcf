"""What a label is worth: the standard deviation with which it comes out the same another time.

Files that name the state of the cores (column ``sharing``) were timed by a protocol whose intervals
are made for a repeat. Earlier ones speak of one session only. What sessions differ by besides was
learned from the same programs timed four times on the Zen 3 machine, hours and minutes apart (3,348
pairs of labels a target; findings 12), with which 63 % of the 80 % intervals hold the other value
in place of 47 to 49 %. Nobody timed the Zen 5 machine again: it is taken to be like that one.
"""

from __future__ import annotations

import numpy as np

from agent.arrays import Doubles, Texts
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.shots import SESSION_SD

LEAST_SD, MOST_SD = 0.005, 1.0
ONE_CORE = 0.035  # log units, of a speed-up
ALL_CORES = 0.075  # of a version with ``parallelize``, run by several threads
AS_WRITTEN = 0.10  # of the seconds of the program as written


def label_sd(within: Doubles, schedule: Texts, threads: int) -> Doubles:
    """Of labels by an earlier protocol.

    Args:
        within: [n] of each label within its session, from its interval.
        schedule: [n] texts.
        threads: that ran parallel loops.

    Returns:
        [n] log units: of a speed-up, and of the seconds of a program as written.
    """
    parallel = (np.char.find(schedule, "parallelize") >= 0) & (threads > 1)
    besides = np.where(parallel, ALL_CORES, ONE_CORE)
    besides[schedule == ORIGINAL] = AS_WRITTEN
    return np.clip(np.hypot(within, besides), LEAST_SD, MOST_SD)


def label_sd_for_a_repeat(within: Doubles, schedule: Texts, sharing: Texts) -> Doubles:
    """The same where intervals are for a repeat; those of seconds are not in the file.

    Args:
        within: [n] from the intervals of speed-ups; 0 for programs as written.
        schedule: [n] texts.
        sharing: [n] state of the cores.
    """
    besides = np.array([SESSION_SD.get(state, 0.0) for state in sharing])
    found = np.where(schedule == ORIGINAL, besides, within)
    return np.clip(found, LEAST_SD, MOST_SD)
