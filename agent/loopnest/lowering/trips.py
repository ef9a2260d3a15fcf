"""The bounds that a condition puts on a loop's counter, and that C's types agree with them."""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    BinaryE,
)
from agent.loopnest.lowering.forms import extreme
from agent.loopnest.lowering.headers import LoopHeader
from agent.loopnest.lowering.iteration import LoopCounter
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.quotients import side, slack
from agent.loopnest.lowering.state import (
    MAX_BOUNDS,
    MAX_SIZE,
    Environment,
    Known,
    NotAffineError,
    box,
    refusal,
)
from agent.loopnest.program import Affine, Bound, Loop


def upper_bounds(env: Environment, counted: LoopCounter, test: BinaryE) -> list[Bound]:
    """The bounds above that a comparison puts on the counter."""
    for whole, other in ((test.right, test.left), (test.left, test.right)):
        for which in ("min", "max"):
            halves = extreme(whole, which)
            if halves is None or len(halves) < 2:
                continue
            if len(halves) > MAX_BOUNDS:
                raise refusal(
                    test.place,
                    f"a loop has more than {MAX_BOUNDS} bounds",
                    "Use fewer minima in its condition.",
                )
            is_right = whole is test.right
            less = (test.op[0] == "<") == is_right
            if (which == "min") != less:
                continue
            pairs = [
                replace(test, right=h, left=other)
                if is_right
                else replace(test, left=h, right=other)
                for h in halves
            ]
            return [b for pair in pairs for b in upper_bounds(env, counted, pair)]
    return [_comparison(env, counted, test)]


def _comparison(env: Environment, counted: LoopCounter, test: BinaryE) -> Bound:
    """The bound above that one comparison puts on the counter."""
    unchecked = replace(env, unchecked=True)
    left, right = side(unchecked, test.left), side(unchecked, test.right)
    op = test.op
    if op == "!=" and not left.sign and not right.sign:
        op = _direction(env, counted, test, left.form - right.form)
    if op[0] == ">":
        left, right = right, left
    if "=" not in op:
        left = replace(left, form=left.form + 1)
    kept = slack(left, right)  # must stay >= 0
    if kept is None or op == "!=":
        raise refusal(
            test.place,
            f"the condition `{c_text(test)}` is not read",
            "Compare by < or >, with a division on one side only.",
        )
    c = kept.coefficient(counted.name)
    if c == 0 and kept.is_constant:
        never = counted.origin - 1  # below where it begins
        return Bound(never if kept.const < 0 else Affine.constant(MAX_SIZE * MAX_SIZE))
    if c >= 0:
        raise refusal(
            test.place,
            f"the condition `{c_text(test)}` does not end a loop whose step is {counted.head.step}",
            "Compare what the loop counts, and in the direction in which it counts.",
        )
    return Bound(kept - Affine.var(counted.name) * c, -c)


def _direction(env: Environment, counted: LoopCounter, test: BinaryE, apart: Affine) -> str:
    """``!=`` as the comparison that ends the loop at the same place.

    The difference of the two sides goes to 0 by steps of 1, from the side where it begins.
    """
    c = apart.coefficient(counted.name) * counted.step
    first = apart.substitute({counted.name: counted.origin})
    ranges = env.ranges()
    low, high = (0, 0) if ranges is None else first.interval(ranges)
    if len(counted.head.starts) == 1:
        if c == 1 and high <= 0:
            return "<"
        if c == -1 and low >= 0:
            return ">"
        if first.is_constant and abs(c) > 1 and first.const % c == 0 and first.const * c <= 0:
            return "<" if c > 0 else ">"
    raise refusal(
        test.place,
        f"it is not clear that `{c_text(test)}` ever ends the loop",
        "Write < or > instead of !=.",
    )


def verify(env: Environment, counted: LoopCounter, around: Loop) -> None:
    """The condition means in C what the bounds say: nothing wraps up to the last test."""
    step = counted.step
    beyond = replace(
        around,
        upper=tuple(Bound(b.expr + b.divisor * step, b.divisor) for b in around.upper),
    )
    checked = replace(env, around=(*env.around, beyond))
    head = counted.head
    try:
        for test in head.tests:
            for whole in (test.left, test.right):
                for half in extreme(whole, "min") or extreme(whole, "max") or [whole]:
                    side(checked, half)
    except NotAffineError as failure:
        raise refusal(
            head.tests[0].place,
            f"how often the loop runs is not known: {failure.message.partition(': ')[2]}",
            failure.hint,
        ) from failure
    if not head.dtype.is_signed or head.dtype.bits < 32:
        _stays(checked, head)


def _stays(env: Environment, head: LoopHeader) -> None:
    """The header's variable does not wrap around in its type up to the last test."""
    known = env.scope.get(head.ident)
    ranges = env.ranges()
    if ranges is None or not isinstance(known, Known):
        return
    low, high = known.form.interval(ranges)
    if head.first:  # the condition changes it: what it compares must not wrap, the rest may
        back = 1 if head.first[0].op[0] == "p" else -1
        low, high = (low + back, high) if head.step < 0 else (low, high - back)
    least, greatest = head.dtype.range
    if low < least or high > greatest:
        raise refusal(
            head.tests[0].place,
            f"{head.name!r} would wrap around: it is {head.dtype.value} and would run from "
            f"{low} to {high}",
            "Use a wider or a signed type for it.",
        )


def surely_runs(env: Environment) -> bool:
    """Whether the innermost loop runs at least once wherever it is reached."""
    *outer, mine = env.around
    ranges = box(outer)
    if ranges is None:
        return True
    return all(
        (high.expr - low.expr * high.divisor).interval(ranges)[0] >= 0
        for low in mine.lower
        for high in mine.upper
    )
