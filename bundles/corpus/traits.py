"""What a program is made of, in words: the same counts of programs people wrote and of drawn ones.

Each trait of a program is a distribution over a few values that sums to 1: over its accesses, say,
or all on one value, such as its depth. Means over programs are all that `tools.survey` keeps of
real code, and what the corpus is compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from agent.loopnest.arithmetic import iterator_ranges
from agent.loopnest.program import (
    Access,
    Affine,
    Binary,
    Call,
    Loop,
    Program,
    Select,
    Statement,
    accesses,
    all_reads,
    loops,
    names_in,
    statements,
    values,
    walk,
)

Shares = Mapping[str, float]  # of values
Traits = Mapping[str, Shares]
Placed = tuple[tuple[Loop, ...], Statement]

COUNTS = (1, 2, 3, 4, 6, 9)
TRIPS = (1, 4, 8, 16, 64, 256, 1024, 8192)
CHEAP = frozenset("fabs fabsf abs labs copysign copysignf fmin fmax fminf fmaxf".split())


def traits(program: Program) -> Traits:
    """Every trait of a program, by name."""
    return {name: _shares(found) for name, found in _seen(program).items()}


def mean_traits(found: Iterable[tuple[Traits, float]]) -> dict[str, dict[str, float]]:
    """Means of traits, weighted; a trait that a program has nothing of counts for the others."""
    sums: dict[str, dict[str, float]] = {}
    for one, weight in found:
        for name, shares in one.items():
            kept = sums.setdefault(name, {})
            for value, share in shares.items():
                kept[value] = kept.get(value, 0.0) + share * weight
    return {
        name: {v: round(x / sum(kept.values()), 4) for v, x in sorted(kept.items(), key=_place)}
        for name, kept in sums.items()
    }


def distance(one: Shares, other: Shares) -> float:
    """What part of a distribution would have to move to make the other: 0 to 1."""
    return sum(abs(one.get(v, 0.0) - other.get(v, 0.0)) for v in {*one, *other}) / 2


def _place(item: tuple[str, float]) -> tuple[float, str]:
    """Values that begin with a number in its order, words behind them."""
    digits = item[0].split()[0].rstrip("+")
    return (float(digits) if digits.lstrip("-").isdigit() else 1e9, item[0])


def _shares(values: Iterable[str]) -> Shares:
    counts = Counter(values)
    return {value: count / counts.total() for value, count in counts.items()}


def _seen(program: Program) -> Mapping[str, Iterable[str]]:
    placed = list(statements(program.body))
    every = [node for _, node in loops(program.body)]
    return (
        _of_the_whole(program, placed, every)
        | _of_loops(every, program)
        | _of_data(program, placed)
    )


def _of_the_whole(
    program: Program, placed: list[Placed], every: list[Loop]
) -> dict[str, Iterable[str]]:
    told = [s for _, s in placed]
    return {
        "loops around a statement": [str(max(len(around) for around, _ in placed))],
        "statements": [_class(len(placed), COUNTS)],
        "loops": [_class(len(every), COUNTS)],
        "nests side by side": [_class(sum(isinstance(n, Loop) for n in program.body), (1, 2, 3))],
        "nesting": ["perfect" if all(map(_has_one_child, every)) else "imperfect"],
        "bounds": ["of other loops" if any(map(_inclined, every)) else "numbers"],
        "time loop": [_yes(any(map(_only_repeats, every)))],
        "condition": [_yes(any(s.condition is not None for s in told))],
        "reduction": [_yes(any(s.op for s in told))],
        "sum in a variable": [_yes(any(s.op and not s.target.subscripts for s in told))],
        "subscripts from data": [_yes(any(s.derived for s in told))],
        "arrays": [_class(len(program.arrays), (0, *COUNTS))],
        "element types": [_class(len({a.dtype for a in program.arrays}), (1, 2, 3))],
        "scalars": [_class(len(program.scalars), (0, 1, 2, 3))],
        "variables": [_class(len(program.temporaries), (0, 1, 2, 4))],
    }


def _of_loops(every: list[Loop], program: Program) -> dict[str, Iterable[str]]:
    trips = {node.iterator: trip for node, trip in _trips(program)}
    inner = [node for node in every if not any(isinstance(n, Loop) for n in node.body)]
    return {
        "iterations of a loop": [_class(trips[n.iterator], TRIPS) for n in every],
        "iterations of an innermost loop": [_class(trips[n.iterator], TRIPS) for n in inner],
        "step of a loop": [str(n.step) if n.step < 3 else "3+" for n in every],
    }


def _of_data(program: Program, placed: list[Placed]) -> dict[str, Iterable[str]]:
    told = [s for _, s in placed]
    moved = [(around, s, a) for around, s in placed for a in accesses(s) if a.subscripts]
    return {
        "dimensions of an array": [str(len(a.shape)) for a in program.arrays],
        "type of an array": [a.dtype.value for a in program.arrays],
        "subscript": [_form(x, s) for _, s, a in moved for x in a.subscripts],
        "elements moved by the innermost loop": [
            _moved(program, a, around[-1]) for around, _, a in moved if around
        ],
        "elements read by a statement": [_class(_read(s), (0, 1, 2, 3, 4, 6, 9)) for s in told],
        "operations of a statement": [_class(_operations(s), (0, 1, 2, 4, 8, 16)) for s in told],
        "costly operation": [_costly(s) for s in told],
    }


def _class(count: float, starts: tuple[int, ...]) -> str:
    """The class a count falls into, such as ``4-5``; each begins with one of ``starts``."""
    for first, following in pairwise(starts):
        if count < following:
            return str(first) if following == first + 1 else f"{first}-{following - 1}"
    return f"{starts[-1]}+"


def _yes(held: bool) -> str:
    return "yes" if held else "no"


def _has_one_child(node: Loop) -> bool:
    """Whether a loop holds one loop alone, or statements alone."""
    return len(node.body) == 1 or not any(isinstance(n, Loop) for n in node.body)


def _inclined(node: Loop) -> bool:
    return not all(b.expr.is_constant for b in (*node.lower, *node.upper))


def _only_repeats(node: Loop) -> bool:
    """Whether nothing inside of a loop has its iterator in a subscript or value."""
    used = {name for _, s in node.inside for v in values(s) for name in names_in(v)}
    used |= {name for _, s in node.inside for x in s.target.subscripts for name in x.names}
    inside = [inner for _, inner in loops(node.body)]
    used |= {n for x in inside for b in (*x.lower, *x.upper) for n in b.expr.names}
    return node.iterator not in used


def _trips(program: Program) -> Iterator[tuple[Loop, float]]:
    """Every loop with its iterations: those of the box, half of them between inclined bounds."""
    for around, node in loops(program.body):
        low, high = iterator_ranges((*around, node))[node.iterator]
        share = 0.5 if _inclined(node) else 1.0
        yield node, max((high - low + 1) / node.step * share, 1.0)


def _form(subscript: Affine, statement: Statement) -> str:
    if subscript.names & {d.name for d in statement.derived}:
        return "from data or a quotient"
    if subscript.is_constant:
        return "number"
    if len(subscript.terms) > 1:
        return "of several loops"
    if subscript.terms[0][1] == 1:
        return "i + c" if subscript.const else "i"
    return "c * i" if subscript.terms[0][1] > 0 else "-c * i"


def _moved(program: Program, access: Access, inner: Loop) -> str:
    """How far a turn of the innermost loop moves an access in memory, in elements."""
    away, row = 0, 1
    extents = program.array(access.array).shape
    for subscript, extent in zip(reversed(access.subscripts), reversed(extents), strict=True):
        away += subscript.coefficient(inner.iterator) * inner.step * row
        row *= extent
    if away in (0, 1, -1, 2):
        return str(away)
    return "3-8" if 0 < away <= 8 else "9+" if away > 0 else "-2-"


def _read(statement: Statement) -> int:
    return len({a for a in all_reads(statement) if a.subscripts})


def _operations(statement: Statement) -> int:
    """Operations of the value, conditions and the update."""
    found = [x for v in values(statement) for x in walk(v)]
    return sum(isinstance(x, Binary | Call | Select) for x in found) + bool(statement.op)


def _costly(statement: Statement) -> str:
    found = [x for v in values(statement) for x in walk(v)]
    if any(isinstance(x, Call) and x.function not in CHEAP for x in found):
        return "call"
    return "division" if any(isinstance(x, Binary) and x.op in "/%" for x in found) else "none"
