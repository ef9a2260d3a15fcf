"""Loops whose trip count is known beforehand, and the variables that count along with them.

Everything that an iteration adds a constant to is affine in the number of the iteration: the
iterator of the header is only the one that the condition bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    BlockS,
    CastE,
    CStatement,
    DeclareS,
    DoS,
    Expression,
    ExpressionS,
    ForS,
    IfS,
    Name,
    Number,
    ScalarType,
    Tree,
    UnaryE,
    Variable,
    parts,
    walk,
)
from agent.loopnest.lowering.exits import at_continue, without_exits
from agent.loopnest.lowering.forms import extreme, form, integer_type
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.quotients import side, slack
from agent.loopnest.lowering.state import (
    MAX_BOUNDS,
    MAX_LOOPS,
    MAX_SIZE,
    STEPS,
    Environment,
    Known,
    NotAffineError,
    Pointer,
    RestartError,
    Unknown,
    box,
    refusal,
)
from agent.loopnest.lowering.values import constant
from agent.loopnest.program import Affine, Bound, DType, Loop, reads, statements

INT = ScalarType(DType.I32, "int")
_COMPARED = ("<", "<=", ">", ">=", "!=")
Counter = Known | Pointer


@dataclass(frozen=True)
class _Header:
    """A loop's header, taken apart.

    Attributes:
        name, ident, dtype: of the variable that the condition bounds.
        starts: its first value, or several whose largest it is.
        step: what an iteration adds to it, never 0.
        tests: the comparisons that all have to hold.
        first: what the condition does before the body (``i-- > 0``).
        last: what the header does after the body.
    """

    name: str
    ident: int
    dtype: DType
    starts: tuple[Affine, ...]
    step: int
    tests: tuple[BinaryE, ...]
    first: tuple[UnaryE, ...]
    last: tuple[Expression, ...]


def loop(env: Environment, node: ForS) -> None:
    """Lowers a for loop into ``env.out``.

    Raises:
        SourceError: how often it runs is not known beforehand, or something in it is not read.
        RestartError: a variable has to be data.
    """
    if len(env.around) == MAX_LOOPS:
        raise refusal(
            node.place,
            f"loops are nested more than {MAX_LOOPS} deep",
            "Put #pragma scop around the inner loops, or the inner loops into a function.",
        )
    node = _without_continues(node)
    outside = dict(env.scope)
    here = replace(env, scope=dict(env.scope))
    head = _header(here, node)
    body = _body(head, node)
    changes = _changes(here, body, head)
    name = env.region.names.fresh(head.name)
    counted = _Counted(name, head, changes, normalised=_is_normalised(head, changes))
    inner = replace(here, scope={**here.scope, **counted.entry(here.scope)})
    before = _outer_loop(counted)
    upper = tuple(_upper(inner, counted, test) for test in head.tests)
    bounds = tuple(b for found in upper for b in found)
    around = replace(before, upper=bounds)
    _verify(inner, counted, around)
    given = set(env.given)
    inside = replace(
        inner, around=(*env.around, around), out=[], facts=[], given=given, scope=dict(inner.scope)
    )
    env.region.rules.items(inside, body)
    if inside.out:
        env.out.append(replace(around, body=tuple(inside.out)))
    changed = {s.target.array for _, s in statements(tuple(inside.out))}
    env.facts[:] = [f for f in env.facts if not changed & {r.array for r in reads(f)}]
    if _surely(inside):
        env.given.update(given)
    for ident in outside:
        env.scope[ident] = here.scope[ident]
    _leave(env, outside, inside, counted, around)


def _without_continues(node: ForS) -> ForS:
    body = without_exits(_direct(node.body), at_continue)
    return replace(node, body=BlockS(node.body.place, body))


def do_loop(env: Environment, node: DoS) -> None:
    """Lowers ``do ... while``: a loop whose condition holds when it is first reached.

    Raises:
        SourceError: it is not known to hold then, or as ``loop``.
    """
    test, steps = _without_steps(node.condition, after=True)
    if any(step.op[0] == "p" for step in steps) or constant(env, test) in (0, None):
        raise refusal(
            node.place,
            f"a do loop runs once at least, and it is not known whether `{c_text(test)}` at first",
            "Write it as a for loop, or give the sizes of its condition with --size.",
        )
    loop(env, ForS(node.place, None, test, steps[0] if steps else None, node.body))


# --- the header -------------------------------------------------------------------------------


def _header(env: Environment, node: ForS) -> _Header:
    """The header of ``node``, whose first values are in ``env.scope`` afterwards."""
    if node.condition is None:
        raise refusal(
            node.place,
            "a loop without a condition is not read",
            "Write its condition into the header: for (int i = 0; i < n; i++).",
        )
    try:
        several = _first_values(env, node)
    except RestartError as restart:
        counting = [x.ident for x in walk(node.condition) if isinstance(x, Name)]
        if restart.more.get("data") in counting and isinstance(restart.__cause__, NotAffineError):
            raise restart.__cause__ from restart
        raise
    tests, first = _tests(node.condition)
    last = tuple(_commas(node.step)) if node.step is not None else ()
    names = [x for test in tests for x in walk(test) if isinstance(x, Name)]
    body = _as_statements((*first, *last, *_direct(node.body)))
    for name in names:
        known = env.scope.get(name.ident)
        if not isinstance(known, Known | Unknown):
            continue
        step = _change(env, body, name.ident)
        if not isinstance(step, Affine) or not step.is_constant or step.const == 0:
            continue
        if not isinstance(known, Known):
            if name.ident in env.region.decisions.data:
                raise refusal(
                    node.place,
                    f"{name.name!r} counts this loop and is computed otherwise elsewhere",
                    "Declare the iterator in its loop: for (int i = ...).",
                )
            continue
        starts = several.get(name.ident, (known.form,))
        if abs(step.const) > MAX_SIZE:
            raise refusal(
                node.place,
                f"the step of {name.name!r} is larger than {MAX_SIZE}",
                "Count in smaller steps.",
            )
        return _Header(name.name, name.ident, known.dtype, starts, step.const, tests, first, last)
    raise refusal(
        node.place,
        f"how often the loop runs is not known beforehand: no variable in "
        f"`{c_text(node.condition)}` goes up or down by the same whole number each time",
        "Write for (int i = first; i < last; i++), and change i nowhere else.",
    )


def _first_values(env: Environment, node: ForS) -> dict[int, tuple[Affine, ...]]:
    """Runs the first part of a header; what begins at the largest of several values."""
    several: dict[int, tuple[Affine, ...]] = {}
    match node.init:
        case DeclareS(variables=variables):
            for variable in variables:
                given = _several(env, variable.init)
                if given is None:
                    env.region.rules.declare(env, variable)
                else:
                    several[variable.ident] = given
                    env.scope[variable.ident] = Known(given[0], _counting(variable))
        case ExpressionS(expression=expression):
            for part in _commas(expression):
                target = part.target if isinstance(part, AssignE) and not part.op else None
                given = _several(env, part.value) if isinstance(part, AssignE) else None
                if isinstance(target, Name) and given is not None:
                    several[target.ident] = given
                    env.scope[target.ident] = Known(given[0], _counting(target))
                else:
                    env.region.rules.effect(env, part)
    return several


def _several(env: Environment, node: Expression | None) -> tuple[Affine, ...] | None:
    """The values whose largest ``node`` is, where it is such a choice."""
    if node is None:
        return None
    halves = extreme(node, "max")
    if halves is None or len(halves) < 2:
        return None
    return tuple(form(env, half) for half in halves)


def _counting(variable: Variable | Name) -> DType:
    dtype = integer_type(variable.type)
    if dtype is None:
        raise refusal(
            variable.place,
            f"the iterator {variable.name!r} is no whole number",
            "Count with an int.",
        )
    return dtype


def _commas(node: Expression) -> list[Expression]:
    if isinstance(node, BinaryE) and node.op == ",":
        return [*_commas(node.left), *_commas(node.right)]
    return [node]


def _tests(node: Expression) -> tuple[tuple[BinaryE, ...], tuple[UnaryE, ...]]:
    """The comparisons of a condition, and what it changes before the body runs.

    ``i-- > 0`` compares ``i`` and counts down; ``i--`` alone compares with 0.
    """
    pending, tests, first = [node], list[BinaryE](), list[UnaryE]()
    while pending:
        part = pending.pop()
        if isinstance(part, BinaryE) and part.op == "&&":
            pending += [part.right, part.left]
            continue
        part, effects = _without_steps(part)
        first += effects
        if isinstance(part, BinaryE) and part.op in _COMPARED:
            tests.append(part)
        else:
            zero = Number(part.place, INT, "0")
            if integer_type(part.type) is None or (
                isinstance(part, BinaryE) and part.op not in ("+", "-")
            ):
                raise refusal(
                    part.place,
                    f"the condition `{c_text(part)}` is not read",
                    "Compare the iterator with a bound by <, <=, >, >= or !=; && may join them.",
                )
            tests.append(BinaryE(part.place, INT, "!=", part, zero))
    if first and len(tests) > 1:
        raise refusal(
            node.place,
            f"the condition `{c_text(node)}` counts and tests something else",
            "Count in the last part of the header.",
        )
    return tuple(tests), tuple(first)


def _without_steps(node: Expression, *, after: bool = False) -> tuple[Expression, list[UnaryE]]:
    """A comparison without the step in it, of variables before the step, or ``after`` it."""
    match node:
        case BinaryE(left=CastE(implicit=True, operand=UnaryE() as step) as cast):
            inner, steps = _without_step(step, after)
            return replace(node, left=replace(cast, operand=inner)), steps
        case BinaryE(left=UnaryE() as step):
            inner, steps = _without_step(step, after)
            return replace(node, left=inner), steps
        case UnaryE():
            return _without_step(node, after)
        case _:
            return node, []


def _without_step(node: UnaryE, after: bool) -> tuple[Expression, list[UnaryE]]:
    """``i--`` compares ``i``, ``--i`` what that is then: ``i - 1``."""
    match node.op:
        case "p++" | "p--":
            return node.operand, [node]
        case "++" | "--" if after:
            return node.operand, [node]
        case "++" | "--":
            kind = integer_type(node.type)
            wide = node.type if kind is None or kind.bits >= 32 else INT
            one = Number(node.place, INT, "1")
            return BinaryE(node.place, wide, node.op[0], node.operand, one), [node]
        case _:
            return node, []


def _body(head: _Header, node: ForS) -> list[CStatement]:
    """What an iteration does: a ``continue`` in it goes on with the header's last part."""
    return [
        *_as_statements(head.first),
        node.body,
        *_as_statements(head.last),
    ]


def _as_statements(items: Sequence[Expression | CStatement]) -> list[CStatement]:
    return [x if isinstance(x, CStatement) else ExpressionS(x.place, x) for x in items]


def _direct(body: CStatement) -> Sequence[CStatement]:
    return body.items if isinstance(body, BlockS) else (body,)


# --- what an iteration changes ----------------------------------------------------------------

RESET = "given a value of its own in every iteration"
IRREGULAR = "not changed by the same amount in every iteration"
Change = Affine | str


def _changes(env: Environment, body: Sequence[CStatement], head: _Header) -> dict[int, Change]:
    found = _changes_of(env, body, head.ident)
    found[head.ident] = Affine.constant(head.step)
    return found


def _changes_of(env: Environment, body: Sequence[CStatement], *more: int) -> dict[int, Change]:
    """What an iteration of ``body`` adds to each variable from outside that it changes.

    ``more``: variables that change between iterations too.
    """
    steady = _steady(env, body, *more)
    return {
        ident: _change(steady, body, ident)
        for ident in _moved(env, body)
        if isinstance(env.scope.get(ident), Known | Pointer | Unknown)
    }


def _steady(env: Environment, body: Sequence[CStatement], *more: int) -> Environment:
    """Where only what no iteration changes has a value: a step may use nothing else."""
    moved = Unknown("the loop changes it", symbolic=True)
    return replace(env, scope={**env.scope, **dict.fromkeys((*_moved(env, body), *more), moved)})


def _moved(env: Environment, nodes: Sequence[Tree]) -> dict[int, None]:
    """Variables that something in ``nodes`` assigns, in order."""
    known, found = env.region.moved, dict[int, None]()
    for node in nodes:
        if id(node) not in known:
            known[id(node)] = node, tuple(dict.fromkeys(_assigned_in(node)))
        found.update(dict.fromkeys(known[id(node)][1]))
    return found


def _assigned_in(node: Tree) -> Iterator[int]:
    for x in walk(node):
        if isinstance(x, AssignE) and isinstance(x.target, Name):
            yield x.target.ident
        if isinstance(x, UnaryE) and x.op in STEPS and isinstance(x.operand, Name):
            yield x.operand.ident


def _change(env: Environment, body: Sequence[CStatement], ident: int) -> Change:
    total: Change = Affine()
    for item in body:
        if ident not in _moved(env, [item]):
            continue
        added = _change_by(env, item, ident)
        if added == RESET or (isinstance(added, Affine) and isinstance(total, Affine)):
            total = added if isinstance(added, str) else total + added  # type: ignore[operator]
        elif isinstance(added, str):
            return IRREGULAR
        elif added != Affine():
            total = RESET if total == RESET else IRREGULAR
    return total


def _change_by(env: Environment, item: Tree, ident: int) -> Change:
    """What one statement or expression adds to the variable ``ident``."""
    match item:
        case AssignE(target=Name(ident=mine)) if mine == ident:
            return _assigned(env, item, ident)
        case UnaryE(op=op, operand=Name(ident=mine)) if mine == ident and op in STEPS:
            return Affine.constant(1 if "+" in op else -1)
        case ForS():
            return _change_in_loop(env, item, ident)
        case IfS():
            touched = ident in _moved(env, [item])
            return IRREGULAR if touched else Affine()
        case BlockS(items=items):
            return _change(env, items, ident)
        case _:
            total: Change = Affine()
            for part in parts(item):
                added = _change_by(env, part, ident)
                if isinstance(added, Affine) and isinstance(total, Affine):
                    total = total + added
                elif added != Affine():
                    total = added if total == Affine() else IRREGULAR
            return total


def _assigned(env: Environment, node: AssignE, ident: int) -> Change:
    if node.op in ("+", "-"):
        return _signed(_invariant(env, node.value), node.op)
    if node.op:
        return IRREGULAR
    match _plain(node.value):
        case BinaryE(op="+" | "-" as op, left=left, right=right) if _is(left, ident):
            return _signed(_invariant(env, right), op)
        case BinaryE(op="+", left=left, right=right) if _is(right, ident):
            return _invariant(env, left) or IRREGULAR
    inside = any(isinstance(x, Name) and x.ident == ident for x in walk(node.value))
    return IRREGULAR if inside else RESET


def _plain(node: Expression) -> Expression:
    return node.operand if isinstance(node, CastE) and node.implicit else node


def _is(node: Expression, ident: int) -> bool:
    inner = _plain(node)
    return isinstance(inner, Name) and inner.ident == ident


def _signed(value: Affine | None, op: str) -> Change:
    if value is None:
        return IRREGULAR
    return -value if op == "-" else value


def _invariant(env: Environment, node: Expression) -> Affine | None:
    """``node`` as a form of what is around the loop; None where it may change inside."""
    try:
        return form(env, node)
    except (SourceError, RestartError):
        return None


def _change_in_loop(env: Environment, node: ForS, ident: int) -> Change:
    """What a whole inner loop adds: a constant, as often as it surely runs."""
    if ident in _moved(env, [node.init] if node.init is not None else []):
        return RESET
    if ident not in _moved(env, [node]):
        return Affine()
    try:
        node = _without_continues(node)
        trial = replace(env, scope=dict(env.scope))
        head = _header(trial, node)
        body = _body(head, node)
        inner = _change(_steady(trial, body, head.ident), body, ident)
        trips = _trips(trial, head)
    except (SourceError, RestartError):
        return IRREGULAR
    if not isinstance(inner, Affine) or trips is None:
        return RESET if inner == RESET else IRREGULAR
    return inner * trips


def _trips(env: Environment, head: _Header) -> int | None:
    """How often a loop runs, where that is a number."""
    counted = _Counted("$", head, {head.ident: Affine.constant(head.step)}, normalised=True)
    inner = replace(env, scope={**env.scope, **counted.entry(env.scope)})
    bounds = [b for test in head.tests for b in _upper(inner, counted, test)]
    if not all(b.expr.is_constant for b in bounds):
        return None
    return max(0, min(b.expr.const // b.divisor for b in bounds) + 1)


# --- counting ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counted:
    """A loop's counter in the IR and what every variable is in its terms.

    ``normalised``: the counter is the number of the iteration; otherwise it is the header's
    variable itself (or what that has come down by).
    """

    name: str
    head: _Header
    changes: Mapping[int, Change]
    normalised: bool

    @property
    def step(self) -> int:
        """What the counter of the IR goes up by."""
        return 1 if self.normalised else abs(self.head.step)

    @property
    def origin(self) -> Affine:
        """The first value of the counter of the IR, where there is one."""
        return self.head.starts[0] if self.step_is_its_own else Affine()

    @property
    def step_is_its_own(self) -> bool:
        """Whether the counter is the header's variable."""
        return not self.normalised and self.head.step > 0

    def entry(self, scope: Mapping[int, object]) -> dict[int, Counter | Unknown]:
        """What each changed variable is at the beginning of an iteration."""
        return {i: self._entry(i, scope.get(i), change) for i, change in self.changes.items()}

    def _entry(self, ident: int, before: object, change: Change) -> Counter | Unknown:
        counter = Affine.var(self.name)
        if ident == self.head.ident:
            if self.step_is_its_own:
                return Known(counter, self.head.dtype)
            factor = self.head.step if self.normalised else -1
            return Known(self.head.starts[0] + counter * factor, self.head.dtype)
        if isinstance(change, str) or not isinstance(before, Known | Pointer):
            known = isinstance(before, Known) or getattr(before, "symbolic", False)
            return Unknown(f"it is {change}", symbolic=known)
        moved = _times(counter - self.origin, change, self.step)
        if moved is None or (len(self.head.starts) > 1 and self.step_is_its_own):
            return Unknown("it does not count along", symbolic=isinstance(before, Known))
        return _plus(before, moved)


def _plus(before: Counter, moved: Affine) -> Counter:
    if isinstance(before, Known):
        return replace(before, form=before.form + moved)
    *outer, last = before.subscripts
    return replace(before, subscripts=(*outer, last + moved))


def _times(distance: Affine, change: Affine, step: int) -> Affine | None:
    """``distance / step * change`` where that is affine."""
    if change.is_constant and change.const % step == 0:
        return distance * (change.const // step)
    if change == Affine():
        return Affine()
    if distance.is_constant and distance.const % step == 0:
        return change * (distance.const // step)
    return None


def _is_normalised(head: _Header, changes: Mapping[int, Change]) -> bool:
    """Whether some variable counts along in steps that are no multiple of the loop's own."""
    others = [c for i, c in changes.items() if i != head.ident and isinstance(c, Affine)]
    return any(c.is_constant and c.const % abs(head.step) != 0 for c in others)


def _outer_loop(counted: _Counted) -> Loop:
    head = counted.head
    if len(head.starts) > 1 and not counted.step_is_its_own:
        raise SourceError(
            f"{head.tests[0].place}: a loop that counts down needs one first value",
            hint="Let it count up: for (int i = first; i < last; i++).",
        )
    lower = head.starts if counted.step_is_its_own else (Affine(),)
    return Loop(counted.name, tuple(map(Bound, lower)), (), counted.step, ())


def _upper(env: Environment, counted: _Counted, test: BinaryE) -> list[Bound]:
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
            return [b for pair in pairs for b in _upper(env, counted, pair)]
    return [_comparison(env, counted, test)]


def _comparison(env: Environment, counted: _Counted, test: BinaryE) -> Bound:
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


def _direction(env: Environment, counted: _Counted, test: BinaryE, apart: Affine) -> str:
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


def _verify(env: Environment, counted: _Counted, around: Loop) -> None:
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


def _stays(env: Environment, head: _Header) -> None:
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


def _surely(env: Environment) -> bool:
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


def _leave(
    env: Environment,
    before: Mapping[int, object],
    inside: Environment,
    counted: _Counted,
    around: Loop,
) -> None:
    """What variables are after the loop."""
    trips = _trip_form(inside, around)
    entry = counted.entry(env.scope)
    for ident, change in counted.changes.items():
        start = env.scope.get(ident) if ident != counted.head.ident else None
        if ident == counted.head.ident:
            start = Known(counted.head.starts[0], counted.head.dtype)
        if ident not in before:
            continue
        symbolic = isinstance(entry[ident], Known) or getattr(entry[ident], "symbolic", False)
        after: Counter | Unknown = Unknown("its value after the loop is not known", symbolic)
        single = len(counted.head.starts) == 1
        if trips is not None and isinstance(change, Affine) and isinstance(start, Known | Pointer):
            moved = _times(trips, change, 1) if change.is_constant or trips.is_constant else None
            if moved is not None and (single or ident != counted.head.ident):
                after = _plus(start, moved)
        env.scope[ident] = after
    if counted.head.first:
        env.scope[counted.head.ident] = Unknown("the condition counts", symbolic=True)


def _trip_form(inside: Environment, around: Loop) -> Affine | None:
    """How often the loop runs, as a form of what is around it."""
    if len(around.upper) != 1 or len(around.lower) != 1:
        numbers = [b.expr for b in (*around.lower, *around.upper)]
        if not all(n.is_constant for n in numbers):
            return None
        low = max(b.expr.const for b in around.lower)
        high = min(b.expr.const // b.divisor for b in around.upper)
        return Affine.constant(max(0, (high - low) // around.step + 1))
    low_expr, bound = around.lower[0].expr, around.upper[0]
    span = bound.expr - low_expr * bound.divisor
    if span.is_constant:
        return Affine.constant(max(0, span.const // bound.divisor // around.step + 1))
    if bound.divisor == around.step == 1 and _surely(inside):
        return span + 1
    return None
