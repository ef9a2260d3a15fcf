"""Why a schedule is predicted to be faster or slower, and what stands against further steps."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.advise.advise import predict, program_map
from agent.advise.causes import Share, shares, with_marks
from agent.advise.figures import Figure, figures, nests
from agent.advise.obstacles import obstacles
from agent.loopnest.schedules.legality import Dependences
from agent.measure.machine import read_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.advise.advise import Request
    from agent.loopnest.program import Program
    from agent.measure.runner import OpenRunner
    from agent.settings.config import Config


def explain(
    config: Config,
    request: Request,
    schedule: str,
    open_runner: OpenRunner | None = None,
    *,
    with_map: bool = False,
) -> dict[str, object]:
    """What ``predict`` says, and why: causes with figures, loops with caches, obstacles.

    ``with_map``: also where the program is among the kernels of the fixed set.

    Raises:
        SourceError, ScheduleError, CompilerError, BundleError, StateError: a part is unusable.
    """
    found = predict(config, request, schedule, open_runner)
    base, variant, machine = found.reading.program, found.variant, read_machine()
    why = shares(found.predictor, base, variant, math.log(found.prediction.speedup))
    loops = nests(base, variant, machine)
    return {
        **found.answer,
        "causes": _causes(why, figures(base, variant, machine)),
        "loops": {
            when: [asdict(x) for x in around]
            for when, around in zip(("before", "after"), loops, strict=True)
        },
        "obstacles": _obstacles(base, variant),
        **(program_map(found.predictor, base) if with_map else {}),
    }


def _causes(why: Sequence[Share], seen: Sequence[Figure]) -> list[dict[str, object]]:
    """The causes, the largest first, each with its figures; last those with figures alone."""
    told = {s.cause for s in why}
    alone = dict.fromkeys(f.cause for f in seen if f.cause not in told)
    return [
        {**share.to_json(), "figures": [f.to_json() for f in seen if f.cause == share.cause]}
        for share in (*why, *(Share(cause, 0.0) for cause in alone))
    ]


def _obstacles(base: Program, variant: Program) -> list[dict[str, object]]:
    dependences = Dependences.of(base)
    start = dependences.program if variant.body == base.body else variant
    return [asdict(x) for x in obstacles(with_marks(start, frozenset()), dependences)]
