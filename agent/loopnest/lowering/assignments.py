"""Assignments: to memory, or of a new value to a variable that takes none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    CastE,
    Expression,
    Name,
    Number,
    Place,
    PointerType,
    ScalarType,
    UnaryE,
)
from agent.loopnest.lowering.forms import form, integer_of, integer_type
from agent.loopnest.lowering.places import place
from agent.loopnest.lowering.pointers import pointer
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.reductions import reduction
from agent.loopnest.lowering.scalars import VALUE
from agent.loopnest.lowering.state import (
    MAX_STATEMENTS,
    Argument,
    Data,
    Environment,
    Known,
    NotAffineError,
    Pointer,
    Region,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.lowering.values import (
    conjunction,
    dtype_of,
    is_bool,
    number,
    truth,
    value,
)
from agent.loopnest.program import (
    Access,
    Affine,
    Binary,
    Derived,
    DType,
    Expr,
    Literal,
    Read,
    Statement,
    Temporary,
    substitute_statement,
)
from agent.loopnest.program import (
    walk as walk_expr,
)


def assign(env: Environment, node: AssignE | UnaryE) -> Expr:
    """Lowers an assignment; its value as an expression."""
    if not env.sure:
        raise refusal(
            node.place,
            f"`{c_text(node)}` assigns within an expression, under a condition",
            "Assign in a statement of its own, under an if.",
        )
    if isinstance(node, UnaryE):
        return _step(env, node)
    if isinstance(node.target, Name):
        return _assign_name(env, node, node.target)
    target, writable = place(env, node.target)
    _store(env, node, target, writable)
    return Read(target)


def _store(env: Environment, node: AssignE, target: Access, writable: bool) -> None:
    given = value(env, node.value)
    if node.op and is_bool(node.target.type):
        whole = truth(Binary(node.op, Read(target), given))
        write(env, node.place, target, writable, "", whole)
    else:
        write(env, node.place, target, writable, node.op, given)


def _step(env: Environment, node: UnaryE) -> Expr:
    """``++`` and ``--``, before or after."""
    one = Number(node.place, ScalarType(DType.I32, "int"), "1")
    added = AssignE(node.place, node.type, node.op[-1], node.operand, one, node.type)
    if isinstance(node.operand, Name) and isinstance(
        env.scope.get(node.operand.ident), Known | Pointer
    ):
        before = env.scope[node.operand.ident]
        after = _assign_name(env, added, node.operand)
        if isinstance(before, Known) and node.op[0] == "p":
            return number(before, before.dtype)
        return after
    if node.op[0] != "p":
        return assign(env, added)
    target, writable = place(env, node.operand)  # some types do not give back what it was
    before_it = temporary(env, "old", dtype_of(node.operand))
    write(env, node.place, before_it, True, "", Read(target))
    if isinstance(node.operand, Name):
        assign(env, added)
    else:
        _store(env, added, target, writable)
    return Read(before_it)


def _assign_name(env: Environment, node: AssignE, name: Name) -> Expr:
    region = env.region
    before = env.scope.get(name.ident)
    if isinstance(name.type, PointerType | ArrayType) or isinstance(before, Pointer):
        _move(env, node, name)
        return Literal("0")
    if isinstance(before, Argument):
        raise refusal(
            node.place,
            f"{name.name!r} is assigned, but it is a size",
            "Copy it into a variable of its own and change that.",
        )
    if integer_type(name.type) is not None and name.ident not in region.decisions.data:
        return _follow(env, node, name)
    target, writable = _storage(env, name)
    if node.op and isinstance(before, Data):
        place(env, name)
    _store(env, node, target, writable)
    env.given.add(name.ident)
    region.touched.add(name.ident)
    return Read(target)


def _storage(env: Environment, name: Name) -> tuple[Access, bool]:
    found = env.scope.get(name.ident)
    if isinstance(found, Data):
        return found.access, not found.const
    if isinstance(found, Unknown):
        raise refusal(name.place, f"{name.name!r} cannot be used here: {found.why}", VALUE)
    raise refusal(
        name.place,
        f"{name.name!r} cannot be assigned here",
        "Copy it into a variable of its own and change that.",
    )


def _follow(env: Environment, node: AssignE, name: Name) -> Expr:
    """An integer variable gets an affine value, and no memory."""
    dtype = integer_of(name)
    try:
        if node.op:
            target = CastE(name.place, node.computed, name, implicit=True)
            same = node.computed == name.type
            whole = BinaryE(
                node.place, node.computed, node.op, name if same else target, node.value
            )
            found = form(env, whole if same else CastE(node.place, name.type, whole, True))
        else:
            found = form(env, node.value)
    except NotAffineError as failure:
        raise RestartError(data=name.ident) from failure
    known = Known(found, dtype)
    env.scope[name.ident] = known
    return number(known, dtype)


def _move(env: Environment, node: AssignE, name: Name) -> None:
    """A pointer variable points somewhere else."""
    whole = BinaryE(node.place, name.type, node.op, name, node.value) if node.op else node.value
    env.scope[name.ident] = straight(env, whole, name.name)


def straight(env: Environment, node: Expression, name: str) -> Pointer:
    """What a pointer variable points to from now on."""
    found = pointer(env, node)
    if len(env.derived) > len(env.kept):
        raise refusal(
            node.place,
            f"where {name!r} points is read from memory",
            "Leave the pointer out: write the subscript at every access.",
        )
    return found


def write(
    env: Environment,
    at: Place,
    target: Access,
    writable: bool,
    op: str,
    given: Expr,
) -> None:
    """Appends the statement ``target op= given``.

    Raises:
        SourceError: the target may not be assigned, or there are too many statements.
    """
    if not writable:
        raise refusal(
            at,
            f"{target.array!r} is assigned, but it is const, a size or a scalar parameter",
            "Results go into arrays that are not const, or into variables.",
        )
    region = env.region
    for use in region.arrays.values():
        if use.name == target.array:
            use.written = True
    if region.statements == MAX_STATEMENTS:
        raise refusal(
            at,
            f"the loops have more than {MAX_STATEMENTS} statements",
            "Put #pragma scop and endscop around fewer of them.",
        )
    op, operand = reduction(env, at, target, op, given)
    tests = conjunction(env.conditions)
    derived = _used(env.derived, (target, *(a for e in (operand, tests) if e for a in _reads(e))))
    instance = tuple(Affine.var(around.iterator) for around in env.around)
    name = f"S{region.statements}"
    found = Statement(name, target, op, operand, instance, tests, derived)
    env.out.append(_with_own_numbers(region, found))
    region.statements += 1
    env.facts[:] = [f for f in env.facts if all(r.array != target.array for r in _reads(f))]


def _used(derived: Sequence[Derived], accesses: Iterable[Access]) -> tuple[Derived, ...]:
    """Those of ``derived`` that subscripts use, or that such a number is computed from."""
    used = {name for access in accesses for s in access.subscripts for name in s.names}
    for found in reversed(derived):
        if found.name in used:
            inner = _reads(found.value)
            used |= {name for access in inner for s in access.subscripts for name in s.names}
    return tuple(d for d in derived if d.name in used)


def _with_own_numbers(region: Region, statement: Statement) -> Statement:
    """``statement``, whose derived numbers have names that no other statement's have.

    An expression may assign, or call what does: then several statements share what it derived.
    """
    again = {
        d.name: region.names.fresh(d.name) for d in statement.derived if d.name in region.derived
    }
    derived = tuple(replace(d, name=again.get(d.name, d.name)) for d in statement.derived)
    region.derived.update(d.name for d in derived)
    values = {old: Affine.var(new) for old, new in again.items()}
    return substitute_statement(replace(statement, derived=derived), values)


def _reads(expr: Expr) -> list[Access]:
    return [x.access for x in walk_expr(expr) if isinstance(x, Read)]


def temporary(env: Environment, name: str, dtype: DType) -> Access:
    """A new scalar of the Program, one for each iteration of the loops around."""
    fresh = env.region.names.fresh(name)
    env.region.temporaries.append(Temporary(fresh, dtype, len(env.around)))
    return Access(fresh)
