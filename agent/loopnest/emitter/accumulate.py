"""Which reductions of a loop are carried in a local variable, loaded before and stored after.

A reduction's target can be held in a local across a loop where it is the same element throughout
and nothing else in the loop may touch that element. OpenMP needs such a local for its reduction
clauses; without them it spares the compiler the question whether a store may be delayed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd

from agent.loopnest.emitter import extent
from agent.loopnest.emitter.expanded import Aligned, Remainder
from agent.loopnest.emitter.lanes import is_lane
from agent.loopnest.emitter.lifetimes import own_loops
from agent.loopnest.emitter.packing import in_bounds
from agent.loopnest.program import (
    Access,
    Affine,
    Bound,
    DType,
    Loop,
    Node,
    Program,
    Statement,
    accesses,
    all_reads,
    loops,
    statements,
)

CLAUSES = {"+": "+", "-": "+", "*": "*", "min": "min", "max": "max"}  # -: partial sums are added


@dataclass(frozen=True)
class Accumulator:
    """A local that stands for ``target``; ``op`` is its reduction clause, "" where ops differ.

    ``lanes``: the loop over lanes, where every one of them has a local of its own.
    """

    target: Access
    op: str
    lanes: Loop | None = None


def operator(ops: Iterable[str]) -> str:
    """The one reduction clause that holds several updates, or "" where there is none."""
    clauses = {CLAUSES.get(op, "") for op in ops}
    return clauses.pop() if len(clauses) == 1 else ""


def adds_in_itself(dtype: DType) -> bool:
    """Whether a reduction clause would overflow where C, which adds in ``int``, does not.

    gcc adds what threads and lanes found in the type itself.
    """
    return not dtype.is_float and dtype.is_signed and dtype.bits < 32


def accumulators(
    program: Program, loop: Loop, around: tuple[Loop, ...], held: frozenset[Access]
) -> tuple[Accumulator, ...]:
    """The reductions to carry in locals across all iterations of ``loop``.

    Args:
        program: declares the arrays; temporaries and scalars need no local.
        loop: the loop about to be entered.
        around: the loops around it, outermost first.
        held: targets that locals stand for already.
    """
    arrays = {a.name for a in program.arrays}
    inside = list(statements((loop,)))
    lanes = {x.iterator: x for _, x in loops(loop.body) if is_lane(x.iterator)}
    targets = dict.fromkeys(s.target for _, s in inside if s.op and s.target.array in arrays)
    found = [t for t in targets if t not in held and _can_hold(program, t, loop, around)]
    return tuple(
        Accumulator(t, operator(s.op for _, s in inside if s.target == t), _lanes_of(t, lanes))
        for t in found
    )


def _lanes_of(target: Access, lanes: Mapping[str, Loop]) -> Loop | None:
    names = frozenset[str]().union(*(s.names for s in target.subscripts))
    return next((lanes[n] for n in names if n in lanes), None)


def surely_shared(
    program: Program, loop: Loop, around: tuple[Loop, ...], targets: Collection[Access]
) -> bool:
    """Whether ``loop`` can share out its reductions into ``targets`` by reduction clauses.

    False where only the C itself would tell: jams are not written out here, and where updates have
    conditions much has to be right for a local.
    """
    if any(s.condition is not None for _, s in statements((loop,))):
        return False
    inner = [x for _, x in loops(loop.body)]
    within = {loop.iterator, *(x.iterator for x in inner)}
    changed = {s.target for _, s in statements((loop,))}
    among = {t.array for t in changed}
    temporaries = [t for t in program.temporaries if t.name in among]
    private = {t.name for t in temporaries if within & own_loops(program, t)}
    shared = {t.name for t in temporaries} - private
    if any(t.array in shared and t not in targets for t in changed):  # in code that never runs
        return False
    others = [t for t in targets if t.array not in private]
    if any(adds_in_itself(program.dtype_of(t.array)) for t in others):
        return False
    if not all(_only_updated(loop, target) for target in others):
        return False
    if not inner or not others:  # nothing but updates of them, in however many copies
        return True
    arrays = {a.name for a in program.arrays}
    return all(x.jam == 1 for x in (*around, loop, *inner)) and all(
        _can_hold(program, t, loop, around) for t in others if t.array in arrays
    )


def _only_updated(loop: Loop, target: Access) -> bool:
    """Whether ``loop`` uses the array of ``target`` for one kind of update of ``target`` only."""
    inside = [s for _, s in statements((loop,))]
    uses = [s for s in inside if s.target.array == target.array]
    is_read = any(target.array in s.reads for s in inside)
    same = all(s.target == target for s in uses)
    return same and not is_read and bool(operator(s.op for s in uses))


def _can_hold(program: Program, target: Access, loop: Loop, around: tuple[Loop, ...]) -> bool:
    known = {a.iterator for a in around}
    known |= {x.iterator for _, x in loops(loop.body) if is_lane(x.iterator)}
    if any(not s.names <= known for s in target.subscripts):
        return False
    if any(_in_the_way(target, inner, s, around) for inner, s in statements((loop,))):
        return False
    return _reached(target, loop, around) or (
        (loop.parallel or loop.vector)
        and _owned(target, (*around, loop))
        and in_bounds(program, target, around)
    )


def _in_the_way(
    target: Access, inner: tuple[Loop, ...], statement: Statement, around: tuple[Loop, ...]
) -> bool:
    others = list(all_reads(statement))
    if not (statement.op and statement.target == target):
        others.append(statement.target)
    nest = extent.with_numbers((*around, *inner), statement)
    other = {x.iterator: Affine.var(f"{x.iterator}'") for x in inner if is_lane(x.iterator)}
    nest += tuple(replace(x, iterator=f"{x.iterator}'") for x in inner if x.iterator in other)
    return any(
        o.array == target.array and not distinct(_at(o, other), target, nest) for o in others
    )


def _at(access: Access, values: Mapping[str, Affine]) -> Access:
    """``access`` in another lane than that of the target."""
    if not values:
        return access
    return replace(access, subscripts=tuple(s.substitute(values) for s in access.subscripts))


def distinct(first: Access, second: Access, around: Sequence[Loop]) -> bool:
    """Whether two accesses to one array provably never name the same element in ``around``."""
    for one, two in zip(first.subscripts, second.subscripts, strict=True):
        gap = one - two
        parity = gcd(*(c for _, c in gap.terms))
        if parity and gap.const % parity:
            return True
        if extent.least(gap, around) > 0 or extent.greatest(gap, around) < 0:
            return True
    return False


def _reached(target: Access, loop: Loop, around: tuple[Loop, ...]) -> bool:
    """Whether every run of ``loop`` that has an iteration updates ``target``."""
    for inner, statement in statements((loop,)):
        if statement.op and statement.target == target and statement.condition is None:
            nest = (*around, *inner)
            first = len(around) + 1
            if all(extent.runs(nest[d], nest[:d]) for d in range(first, len(nest))):
                return True
    return False


def _owned(target: Access, nest: tuple[Loop, ...]) -> bool:
    """Whether no other thread can touch ``target`` while the last loop of ``nest`` runs.

    In an outer parallel loop that is so where all accesses to the array have one subscript in
    common whose iterator is the loop's, or runs inside its tiles.
    """
    shared = next((n for n, a in enumerate(nest[:-1]) if a.parallel), None)
    if shared is None:
        return True
    outer = nest[shared]
    own = {outer.iterator}
    for loop in nest[shared + 1 :]:
        for tiles in (t for t in nest[shared:] if t.iterator in own):
            start = Affine.var(tiles.iterator)
            if Bound(start) in loop.lower and Bound(start + (tiles.step - 1)) in loop.upper:
                own.add(loop.iterator)
    uses = [a for _, s in statements((outer,)) for a in accesses(s) if a.array == target.array]
    return any(
        len(s.terms) == 1 and s.names <= own and all(a.subscripts[d] == s for a in uses)
        for d, s in enumerate(target.subscripts)
    )


def invariant_updates(
    loop: Loop, remainders: Mapping[str, Remainder | Aligned], *, loosely: bool = False
) -> Iterator[Statement]:
    """Reductions that every iteration of ``loop`` does to the same elements.

    Their target depends neither on the iterator nor on an inner loop whose bounds do.

    Args:
        loop: the loop.
        remainders: what first values of inner loops may be.
        loosely: those too of which it takes the tightest bounds to tell (``extent.tightest``).
    """
    for inner, statement in statements(loop.body):
        varying = {loop.iterator, *(d.name for d in statement.derived)}
        for nested in inner:
            rest = remainders.get(str(nested.lower[0].expr))
            sides = [x for one in (nested, rest and rest.of) if one for x in (one.lower, one.upper)]
            some = all if loosely else any
            if any(some(b.expr.names & varying for b in bounds) for bounds in sides):
                varying.add(nested.iterator)
        if statement.op and all(not s.names & varying for s in statement.target.subscripts):
            yield statement


def written(nodes: Sequence[Node]) -> frozenset[str]:
    """The arrays, scalars and temporaries that are written."""
    return frozenset(s.target.array for _, s in statements(tuple(nodes)))
