"""What single rounds of a measurement say, as they were: what a person looks at to judge one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agent.measure.session import BASE, TWIN

if TYPE_CHECKING:
    from agent.measure.timing import Measurement


def round_speedups(found: Measurement, program: int) -> dict[str, list[float]]:
    """How many times as fast a program was as the one as written, round by round.

    Args:
        found: all rounds, those with evidence of disturbance as well.
        program: its number in them; ``TWIN``: the program as written against itself.

    Returns:
        ``undisturbed`` and ``disturbed`` rounds, in the order run.
    """
    told: dict[str, list[float]] = {"undisturbed": [], "disturbed": []}
    for each in found.rounds:
        seconds = dict(each.seconds)
        if program in seconds and BASE in seconds:
            twin = seconds[BASE] if program == TWIN else seconds.get(TWIN, seconds[BASE])
            base = math.sqrt(seconds[BASE] * twin)
            told["disturbed" if each.reasons else "undisturbed"].append(base / seconds[program])
    return told
