"""The exact check beside running the program and comparing every pair of accesses.

A campaign sets LEGALITY_EXAMPLES (random programs with a schedule each) to more than a test run has
time for.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agent.errors import ScheduleError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.emitter.lifetimes import sink_temporaries
from agent.loopnest.program import Loop, Node, Program, statements
from agent.loopnest.schedules import legality
from agent.loopnest.schedules.candidates import Draft
from agent.loopnest.schedules.schedule import (
    Collapse,
    Cyclic,
    Diamond,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Pack,
    Parallelize,
    Reverse,
    Schedule,
    Shift,
    Skew,
    Step,
    Stream,
    Tile,
    Unroll,
    Vectorize,
    Wrap,
)
from tests.agent.loopnest.schedules.brute_force import conflicts, is_legal, trace
from tests.interpret import kind
from tests.strategies import programs

CLASSES = {"": "", "+": "+", "-": "+", "*": "*", "min": "min", "max": "max"}
MAX_EVENTS = 700
EXAMPLES = int(os.environ.get("LEGALITY_EXAMPLES", "150"))
EXAMPLE = re.compile(r"(\w+) -> (\w+) \(\w+\) on .*from \(([^)]*)\) to \(([^)]*)\)")


def commuting(program: Program) -> dict[str, str]:
    """The operator class of every statement whose updates may change places."""
    found = {}
    for _, s in statements(program.body):
        whole = not program.dtype_of(s.target.array).is_float
        broken = whole and (
            issubclass(kind(program, s.value), np.floating) or s.op in ("min", "max")
        )
        found[s.name] = "" if broken else CLASSES[s.op]
    return found


@st.composite
def steps(draw: st.DrawFn, draft: Draft) -> Step:
    """A step that has a good chance to fit the structure, and less to be legal."""
    band = [x.iterator for x in draw(st.sampled_from(draft.bands()))]
    name = draw(st.sampled_from([x.iterator for x in draft.loops()]))
    inner = draw(st.sampled_from([x.iterator for x in draft.innermost()]))
    start = draw(st.integers(0, len(band) - 1))
    end = draw(st.integers(start + 1, len(band)))
    size = draw(st.integers(2, 5))
    choices = [
        Tile(tuple((n, size) for n in band[start:end])),
        Reverse(name),
        Shift(name, draw(st.sampled_from((-1, 1)))),
        Wrap(name),
        Distribute(name),
        Jam(name, min(size, 3)),
        Parallelize(name),
        Parallelize(name, (draw(st.sampled_from([a.name for a in draft.program.arrays])),)),
        Cyclic(name, size),
        Vectorize(inner),
        Vectorize(name, 4),
        Pack(draw(st.sampled_from([a.name for a in draft.program.arrays])), name),
        Stream(draw(st.sampled_from([a.name for a in draft.program.arrays])), inner),
        Unroll(inner, size),
    ]
    if len(band) > 1:
        pair = band[start], band[start - 1]
        choices += [Collapse(*reversed(pair))]
        choices += [Interchange(*pair)] * 3 + [Skew(*pair, draw(st.sampled_from((-1, 1, 2))))]
    if times := [x for x in draft.loops() if all(isinstance(node, Loop) for node in x.body)]:
        time = draw(st.sampled_from(times))
        sweeps = [node.iterator for node in time.body if isinstance(node, Loop)]
        late = st.just(()) | st.tuples(st.tuples(st.just(sweeps[-1]), *[st.integers(-1, 2)] * 2))
        slope = draw(st.integers(1, 2))
        choices += [Diamond(time.iterator, slope, ((sweeps[0], size),), draw(late))] * 3
    if neighbours := draft.neighbours():
        choices += [Fuse(*draw(st.sampled_from(neighbours)))] * 2
    return draw(st.sampled_from(choices))


@st.composite
def scheduled(draw: st.DrawFn) -> tuple[Program, Draft]:
    """A small program and a schedule of up to four steps that fit its structure."""
    program = sink_temporaries(draw(programs()))
    draft = Draft(program)
    for _ in range(draw(st.integers(1, 5))):
        draft.attempt(draw(steps(draft)))
    return program, draft


def vector(text: str) -> tuple[int, ...]:
    return tuple(int(part.split("=")[1]) for part in text.split(", ") if part)


def refusal_of(work: Callable[[], object]) -> str:
    """What a refusal says; empty where nothing is refused."""
    try:
        work()
    except ScheduleError as error:
        return error.message
    return ""


def without_jams(program: Program) -> Program:
    """``program`` without its jams; which threads share iterations, the jammed one says."""

    def plain(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(map(plainly, nodes))

    def plainly(node: Node) -> Node:
        if not isinstance(node, Loop):
            return node
        parallel = node.parallel and node.jam == 1
        return replace(node, jam=1, parallel=parallel, body=plain(node.body))

    return program.with_body(plain(program.body))


@settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(scheduled())
def test_a_schedule_is_legal_exactly_where_no_dependent_pair_changes_places(
    case: tuple[Program, Draft],
) -> None:
    program, draft = case
    before = trace(program)
    assume(draft.steps and len(before) <= MAX_EVENTS)
    after = trace(draft.program)
    assert sorted(e.instance for e in before) == sorted(e.instance for e in after)

    written = conflicts(program, commuting(program))
    schedule = Schedule(tuple(draft.steps))
    orders = draft.program, without_jams(draft.program)  # left over iterations are not jammed
    if all(is_legal(written, order) for order in orders):
        if said := refusal_of(lambda: legality.transform(program, schedule)):
            assert said == refusal_of(lambda: emit(draft.program))  # it is legal, but not in C
        else:
            assert legality.transform(program, schedule) == draft.program
        return
    with pytest.raises(ScheduleError) as refusal:
        legality.transform(program, schedule)
    found = EXAMPLE.search(refusal.value.message)
    assert found, refusal.value.message
    source, target, start, end = found.groups()
    pairs = {(c.first, c.second) for c in written}
    assert ((source, vector(start)), (target, vector(end))) in pairs
