"""How often the cause that is known is the first that `agent explain` names.

    python -m benchmarks.causes

Over the fixed set, every legal single step whose cause is known and whose prediction differs from
1 by at least 5 %: a mark for threads, lanes or to unroll, and an interchange by which the longest
of the strides that it changes in the innermost loop comes below a cache line, or above. Predicted
by the bundle that comes with the agent, alone. A single mark is a cause by itself (see
``agent/advise/causes.py``), so what is in question is the interchange.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from agent.advise.causes import shares
from agent.advise.figures import figures
from agent.bundle.bundle import default_bundle, load_bundle
from agent.calibration.predictor import Predictor, load_predictor
from agent.errors import ScheduleError
from agent.kernels.fixed_set import Kernel, kernels, load_kernel
from agent.loopnest.features.groups import Cause
from agent.loopnest.features.locality import LINE
from agent.loopnest.program import Program, loops
from agent.loopnest.schedules.candidates import Draft
from agent.loopnest.schedules.legality import Dependences, check_step
from agent.loopnest.schedules.schedule import Interchange, Parallelize, Step, Unroll, Vectorize
from agent.measure.machine import read_machine

LEAST = 0.05  # log units: less is not worth a cause
KNOWN = {
    Interchange: (Cause.MEMORY,),
    Vectorize: (Cause.VECTORIZATION,),
    Parallelize: (Cause.PARALLEL,),
    Unroll: (Cause.LOOPS, Cause.REGISTERS),
}


@dataclass(frozen=True)
class Named:
    """A single step, the log of its prediction, the causes by size, and whether the first is it."""

    kernel: str
    step: Step
    log_speedup: float
    causes: tuple[Cause, ...]

    @property
    def right(self) -> bool:
        """Whether the known cause is first."""
        return self.causes[0] in KNOWN[type(self.step)]


def named(kernel: Kernel, predictor: Predictor) -> Iterator[Named]:
    """Every single step on ``kernel`` with a known cause that is predicted to matter."""
    program = load_kernel(kernel)
    found = [(s, v) for s, v in _single_steps(program) if _known(s, program, v)]
    told = predictor.predict(program, [variant for _, variant in found])
    for (step, variant), prediction in zip(found, told, strict=True):
        gain = math.log(prediction.speedup)
        if abs(gain) >= LEAST:
            split = shares(predictor, program, variant)
            yield Named(kernel.name, step, gain, tuple(s.cause for s in split))


def _single_steps(program: Program) -> Iterator[tuple[Step, Program]]:
    dependences = Dependences.of(program)
    everything = [x.iterator for _, x in loops(program.body)]
    inner = [x.iterator for x in Draft(program).innermost()]
    steps: list[Step] = [Interchange(*pair) for pair in itertools.combinations(everything, 2)]
    steps += [Parallelize(x) for x in everything]
    steps += [Vectorize(x) for x in inner]
    steps += [Unroll(x, factor) for x in inner for factor in (2, 4, 8)]
    for step in steps:
        draft = Draft(dependences.program)
        if draft.attempt(step):
            try:
                check_step(draft.program, step, dependences)
            except ScheduleError:
                continue
            yield step, draft.program


def _known(step: Step, program: Program, variant: Program) -> bool:
    if not isinstance(step, Interchange):
        return True
    machine = read_machine()
    strides = [f for f in figures(program, variant, machine) if f.what == "stride"]
    before, after = (
        max((float(getattr(f, when)) for f in strides), default=0.0) for when in ("before", "after")
    )
    return min(before, after) < LINE <= max(before, after)


def main() -> None:
    """Print the share of each kind of step, and what was named instead."""
    predictor = load_predictor(None, load_bundle(default_bundle()), read_machine())
    found = [n for kernel in kernels() for n in named(kernel, predictor)]
    for kind in KNOWN:
        mine = [n for n in found if isinstance(n.step, kind)]
        wrong = Counter(str(n.causes[0]) for n in mine if not n.right)
        right = sum(n.right for n in mine)
        print(f"{kind.__name__.lower()}: {right} of {len(mine)}", dict(wrong) or "")
    print(f"all: {sum(n.right for n in found)} of {len(found)}")


if __name__ == "__main__":
    main()
