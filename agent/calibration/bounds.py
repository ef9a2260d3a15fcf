"""What no machine can do: predicted times outside of these bounds are not believed.

Generous on purpose, since they are to catch nonsense and not errors: no thread does more than
1e13 operations and accesses of single elements a second (64 lanes, three units and 5 GHz make a
tenth of that), and none needs more than a millisecond for one of them, or 0.1 s for nothing.
"""

from __future__ import annotations

import math

import numpy as np

from agent.arrays import Bools, Doubles

FASTEST = 1e13  # operations and accesses a second and thread
SLOWEST = 1e3
START_S = 0.1
MOST_THREADS = 4096  # where it is not told how many there are


def possible(log_seconds: Doubles, log_work: Doubles, threads: int) -> Bools:
    """[n] whether programs can take so long.

    Args:
        log_seconds: [n] predicted, of one execution.
        log_work: [n] operations and accesses of one execution (``features.vector.work``).
        threads: that may work at it; 0: not known.
    """
    fastest = log_work - math.log(FASTEST * (threads or MOST_THREADS))
    slowest = np.logaddexp(log_work - math.log(SLOWEST), math.log(START_S))
    found: Bools = (fastest <= log_seconds) & (log_seconds <= slowest)
    return found
