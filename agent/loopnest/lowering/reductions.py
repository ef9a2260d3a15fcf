"""Updates that may change places: ``x = x + e`` and its like."""

from __future__ import annotations

from agent.errors import SourceError
from agent.loopnest.arithmetic import type_of
from agent.loopnest.frontend.ctree import Place
from agent.loopnest.lowering.state import Environment, refusal
from agent.loopnest.program import (
    Access,
    Affine,
    Binary,
    Call,
    DType,
    Expr,
    Read,
    Select,
    is_float,
    reads,
)

_PICKS_SMALLER = {"<": True, "<=": True, ">": False, ">=": False}
_EXTREMES = {"fmin": "min", "fminf": "min", "fmax": "max", "fmaxf": "max"}


def reduction(
    env: Environment, at: Place, target: Access, op: str, given: Expr
) -> tuple[str, Expr]:
    """Operator and operand where the update is a reduction, else "" and the whole value."""
    whole = Binary(op, Read(target), given) if op else given
    found, operand = _update(target, whole)
    if found and _associative(env, at, target, whole, operand):
        return found, operand
    return "", whole


def _update(target: Access, given: Expr) -> tuple[str, Expr]:
    """``given`` as ``target op operand``; the operator is "" where it is not of that form."""
    me = Read(target)
    match given:
        case Binary("+" | "-" | "*" as op, left, right) if left == me:
            return op, right
        case Binary("+" | "*" as op, left, right) if right == me:
            return op, left
        case Call(("fmin" | "fminf" | "fmax" | "fmaxf") as f, (left, right)) if me in (left, right):
            return _EXTREMES[f], right if left == me else left
        case Select(Binary(op, one, two), yes, no) if op in _PICKS_SMALLER and me in (yes, no):
            if (one, two) not in ((yes, no), (no, yes)):
                return "", given
            smaller = _PICKS_SMALLER[op] == (one == yes)
            return "min" if smaller else "max", no if yes == me else yes
        case _:
            return "", given


def _associative(env: Environment, at: Place, target: Access, whole: Expr, operand: Expr) -> bool:
    """Whether repeating the update in another order means the same (but for rounding).

    An integer target is cut after every step of a floating update, fmaxf rounds a double, and an
    operand or condition that may read the target's own element makes it a recurrence.
    """
    dtype = env.region.dtype_of(target.array)
    if isinstance(whole, Select):  # of floats it is no fmin where one is not a number
        exact = not dtype.is_float and type_of(operand, env.region.dtype_of) is dtype
    elif isinstance(whole, Call):
        exact = dtype is DType.F32 or (dtype is DType.F64 and whole.function in ("fmin", "fmax"))
    else:
        exact = dtype.is_float or not is_float(operand, env.region.dtype_of)
    computed = [operand, *env.conditions, *(d.value for d in env.derived)]
    others = [read for x in computed for read in reads(x) if read.array == target.array]
    return exact and not any(_meets(env, at, target, read) for read in others)


def _meets(env: Environment, at: Place, one: Access, two: Access) -> bool:
    """Whether two accesses to one array can be the same element in one instance."""
    apart = tuple(a - b for a, b in zip(one.subscripts, two.subscripts, strict=True))
    if all(d == Affine() for d in apart):
        return True
    ranges = env.ranges()
    if ranges is None:
        return False
    for d in apart:
        low, high = d.interval(ranges)
        if not low <= 0 <= high:
            return False
    from agent.loopnest.lowering.domain import may_vanish

    try:
        return may_vanish(env, apart)
    except SourceError as failure:
        raise refusal(at, failure.message, failure.hint) from failure
