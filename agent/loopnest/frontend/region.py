"""Statements and loops of the region as nodes of the IR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pycparser import c_ast

from agent.errors import SourceError
from agent.loopnest.frontend.affine import affine_form, c_excerpt, constant, undeclared
from agent.loopnest.frontend.expressions import (
    array_access,
    check_assigned,
    declare_temporary,
    expression,
    scalar_access,
)
from agent.loopnest.frontend.source import (
    MAX_BOUNDS,
    MAX_LOOPS,
    MAX_SIZE,
    MAX_STATEMENTS,
    CType,
    Entity,
    Environment,
    Iterator,
    Local,
    Refused,
)
from agent.loopnest.program import (
    Access,
    Affine,
    Binary,
    Bound,
    Call,
    DType,
    Expr,
    Loop,
    Node,
    Read,
    Statement,
    is_float,
    reads,
)

_REFUSED: dict[type, str] = {
    c_ast.While: "while loops are not supported: their trip count is not known beforehand",
    c_ast.DoWhile: "do loops are not supported: their trip count is not known beforehand",
    c_ast.If: "if is not supported: write the choice as `condition ? a : b`",
    c_ast.Switch: "switch is not supported",
    c_ast.Goto: "goto is not supported",
    c_ast.Label: "labels are not supported",
    c_ast.Break: "break is not supported: the trip count would depend on data",
    c_ast.Continue: "continue is not supported",
    c_ast.Return: "return is not supported inside the region",
    c_ast.FuncCall: "a call whose value is not used is not supported",
    c_ast.ExprList: "the comma operator is not supported",
    c_ast.DeclList: "this declaration is not supported",
}
_SUMS = {"fmin": "min", "fminf": "min", "fmax": "max", "fmaxf": "max"}


def block(env: Environment, items: Sequence[c_ast.Node]) -> list[Node]:
    """The nodes of a block; what it declares is in sight until its end."""
    inner = replace(env, scope=dict(env.scope))
    return [node for item in items for node in _item(inner, item)]


def _item(env: Environment, item: c_ast.Node) -> list[Node]:
    match item:
        case c_ast.Decl():
            return declaration(env, item)
        case c_ast.Compound():
            return block(env, item.block_items or [])
        case c_ast.For():
            return [_loop(env, item)]
        case c_ast.Assignment():
            return [_assignment(env, item, item.lvalue, item.op[:-1], item.rvalue)]
        case c_ast.UnaryOp(op="++" | "--" | "p++" | "p--"):
            one = c_ast.Constant("int", "1", item.coord)
            return [_assignment(env, item, item.expr, item.op[-1], one)]
        case c_ast.EmptyStatement():
            return []
        case c_ast.Pragma():
            raise env.error(item, "#pragma scop and endscop may not be nested")
        case _:
            why = _REFUSED.get(type(item), "only assignments and for loops are supported here")
            raise env.error(item, why)


# --- statements -------------------------------------------------------------------------------


def declaration(env: Environment, node: c_ast.Decl) -> list[Node]:
    """A declaration in the region; the assignment its initialiser is."""
    entity = declared_entity(env, node)
    if isinstance(entity, Refused):
        raise env.error(node, f"{node.name!r}: {entity.why}")
    env.scope[node.name] = entity
    return initialised(env, node, entity) if isinstance(entity, Local) else []


def initialised(env: Environment, node: c_ast.Decl, local: Local) -> list[Node]:
    """The statement that gives a declared variable its first value, if there is one."""
    if local.init is None:
        return []
    value = expression(env, local.init)
    local.temporary = declare_temporary(env, node, local)
    local.assigned = True
    return [_statement(env, node, Access(local.temporary), "", value)]


def declared_entity(env: Environment, node: c_ast.Decl) -> Entity:
    """What a local declaration stands for; ``const int`` made of iterators is one itself."""
    storage = set(node.storage or ()) - {"register", "auto"}
    if isinstance(node.type, c_ast.ArrayDecl):
        return Refused("it is a local array; pass it as a parameter of the function")
    kind = env.region.source.scalar_type(node.type, tuple(node.quals or ()))
    if kind is None or storage or "$" in node.name:
        return Refused(f"a local `{' '.join(sorted(storage)) or c_excerpt(node.type)}` is not data")
    if isinstance(node.init, c_ast.InitList):
        return Refused("its initialiser is a list")
    if kind.const and kind.integer and node.init is not None:
        try:
            return Iterator(affine_form(env, node.init, "the value"), kind)
        except SourceError:
            pass  # not affine: then it is data like any other
    return Local(node.name, kind, len(env.around), node.init)


def _assignment(
    env: Environment, node: c_ast.Node, left: c_ast.Node, op: str, right: c_ast.Node
) -> Statement:
    target = _target(env, left)
    if op:
        check_assigned(env, left)
    value = expression(env, right)
    _note_assigned(env, left)
    if op in ("%", "<<", ">>", "&", "|", "^") and (
        env.region.dtype_of(target.array).is_float or is_float(value, env.region.dtype_of)
    ):
        raise env.error(node, f"the operator {op + '='!r} needs whole numbers")
    return _statement(env, node, target, op, value)


def _note_assigned(env: Environment, left: c_ast.Node) -> None:
    if isinstance(left, c_ast.ID) and isinstance(local := env.scope.get(left.name), Local):
        local.assigned = True


def _target(env: Environment, node: c_ast.Node) -> Access:
    if isinstance(node, c_ast.ArrayRef):
        access, writable = array_access(env, node)
    elif isinstance(node, c_ast.ID):
        if isinstance(env.scope.get(node.name), Iterator):
            raise env.error(node, f"the iterator {node.name!r} is modified inside its loop")
        access, writable = scalar_access(env, node)
    elif isinstance(node, c_ast.UnaryOp) and node.op == "*":
        raise env.error(
            node, "pointers are not supported in the region", hint="Write A[i] instead of *A."
        )
    elif isinstance(node, c_ast.StructRef):
        raise env.error(node, "structures are not supported")
    else:
        raise env.error(node, f"`{c_excerpt(node)}` cannot be assigned")
    if not writable:
        raise env.error(
            node,
            f"{access.array!r} is assigned, but it is const, a size or a scalar parameter",
            hint="Results go into arrays that are not const, or variables declared in the region.",
        )
    return access


def _statement(
    env: Environment, node: c_ast.Node, target: Access, op: str, value: Expr
) -> Statement:
    region = env.region
    number = region.statements
    if number == MAX_STATEMENTS:
        raise env.error(node, f"the region has more than {MAX_STATEMENTS} statements")
    region.statements += 1
    op, value = _reduction(env, node, target, op, value)
    instance = tuple(Affine.var(loop.iterator) for loop in env.around)
    return Statement(f"S{number}", target, op, value, instance)


def _reduction(
    env: Environment, node: c_ast.Node, target: Access, op: str, value: Expr
) -> tuple[str, Expr]:
    """Operator and operand where the update is a reduction, else "" and the whole value."""
    whole = Binary(op, Read(target), value) if op else value
    found, operand = _update(target, whole)
    if found and _associative(env, node, target, whole, operand):
        return found, operand
    return "", whole


def _update(target: Access, value: Expr) -> tuple[str, Expr]:
    """``value`` as ``target op operand``; the operator is "" where it is not of that form."""
    me = Read(target)
    match value:
        case Binary("+" | "-" | "*" as op, left, right) if left == me:
            return op, right
        case Binary("+" | "*" as op, left, right) if right == me:
            return op, left
        case Call(("fmin" | "fminf" | "fmax" | "fmaxf") as f, (left, right)) if me in (left, right):
            return _SUMS[f], right if left == me else left
        case _:
            return "", value


def _associative(
    env: Environment, node: c_ast.Node, target: Access, whole: Expr, operand: Expr
) -> bool:
    """Whether repeating the update in another order means the same (but for rounding).

    An integer target is cut after every step of a floating update, fmaxf rounds a double, and an
    operand that may read the target's own element makes it a recurrence.
    """
    dtype = env.region.dtype_of(target.array)
    if isinstance(whole, Call):
        exact = dtype is DType.F32 or (dtype is DType.F64 and whole.function in ("fmin", "fmax"))
    else:
        exact = dtype.is_float or not is_float(operand, env.region.dtype_of)
    return exact and not any(
        read.array == target.array and _meets(env, node, target, read) for read in reads(operand)
    )


def _meets(env: Environment, node: c_ast.Node, target: Access, read: Access) -> bool:
    try:
        return env.region.prover.may_meet(env.around, target, read)
    except SourceError as failure:
        raise env.error(node, failure.message, failure.hint) from failure


# --- loops ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """A for loop's header: the iterator counts from ``start`` by ``step`` (never 0)."""

    name: str
    type: CType
    start: c_ast.Node
    step: int


def _loop(env: Environment, node: c_ast.For) -> Loop:
    if len(env.around) == MAX_LOOPS:
        raise env.error(node, f"loops are nested more than {MAX_LOOPS} deep")
    header = _header(env, node)
    starts = _extremes(env, header.start, "max" if header.step > 0 else "min")
    if len(starts) > 1 and header.step < 0:
        raise env.error(header.start, "a loop that counts down needs one first value")
    start = starts[0]
    name = env.region.names.fresh(header.name)
    counter = Affine.var(name)
    value = counter if header.step > 0 else start - counter
    inner = replace(env, scope={**env.scope, header.name: Iterator(counter, header.type)})
    upper = tuple(_upper(inner, node.cond, name, header.step, start))
    loop = Loop(
        name,
        tuple(map(Bound, starts)) if header.step > 0 else (Bound(Affine()),),
        upper,
        abs(header.step),
        (),
    )
    scope = {**env.scope, header.name: Iterator(value, header.type)}
    body = replace(env, scope=scope, around=(*env.around, loop))
    return replace(loop, body=tuple(block(body, [node.stmt])))


def _header(env: Environment, node: c_ast.For) -> _Header:
    name, kind, start = _first(env, node)
    if node.cond is None or node.next is None:
        raise env.error(node, "a for loop needs a condition and a step")
    step = _step(env, node.next, name)
    if step < 0 and kind.unsigned:
        raise env.error(node, f"{name!r} counts down but is unsigned: it never gets below 0")
    return _Header(name, kind, start, step)


def _first(env: Environment, node: c_ast.For) -> tuple[str, CType, c_ast.Node]:
    """The iterator's name and type, and its first value."""
    match node.init:
        case c_ast.DeclList(decls=[c_ast.Decl() as decl]) if decl.init is not None:
            kind = env.region.source.scalar_type(decl.type)
            if kind is None or not kind.integer or kind.narrow or "$" in decl.name:
                raise env.error(decl, f"the iterator {decl.name!r} must be an int")
            return decl.name, kind, decl.init
        case c_ast.Assignment(op="=", lvalue=c_ast.ID() as name):
            return name.name, _older_iterator(env, name), node.init.rvalue
        case _:
            raise env.error(
                node, "a for loop must give its iterator a first value: for (int i = 0; ...)"
            )


def _older_iterator(env: Environment, name: c_ast.ID) -> CType:
    """The type of an iterator that was declared before its loop."""
    match env.scope.get(name.name):
        case Local() as local if local.type.integer and not (local.type.const or local.type.narrow):
            if local.temporary:
                raise env.error(
                    name,
                    f"{name.name!r} is used as an iterator here and as data elsewhere",
                    hint="Declare the iterator in its loop: for (int i = ...).",
                )
            local.is_iterator = True
            return local.type
        case None | Refused():
            raise undeclared(env, name)
        case Iterator():
            raise env.error(name, f"{name.name!r} is already the iterator of an outer loop")
        case _:
            raise env.error(name, f"{name.name!r} cannot be an iterator")


def _step(env: Environment, node: c_ast.Node, name: str) -> int:
    """What ``node`` adds to the iterator ``name``."""
    step = 0
    match node:
        case c_ast.UnaryOp(op=("++" | "p++" | "--" | "p--") as op, expr=c_ast.ID(name=n)):
            step = (1 if "+" in op else -1) if n == name else 0
        case c_ast.Assignment(op=("+=" | "-=") as op, lvalue=c_ast.ID(name=n)) if n == name:
            step = constant(env, node.rvalue, "the step") * (1 if op == "+=" else -1)
        case c_ast.Assignment(
            op="=",
            lvalue=c_ast.ID(name=n),
            rvalue=c_ast.BinaryOp(op=("+" | "-") as op, left=c_ast.ID(name=m)),
        ) if n == name and m == name:
            step = constant(env, node.rvalue.right, "the step") * (1 if op == "+" else -1)
    if step == 0 or abs(step) > MAX_SIZE:
        raise env.error(
            node,
            f"the step of {name!r} must be a constant other than 0",
            hint=f"Write {name}++, {name} += 2 or {name}--.",
        )
    return step


def _upper(env: Environment, cond: c_ast.Node, name: str, step: int, start: Affine) -> list[Bound]:
    """The bounds above that a condition puts on the counter ``name`` of a loop."""
    pending, found = [cond], list[Bound]()
    while pending:
        part = pending.pop()
        if len(pending) + len(found) >= MAX_BOUNDS:
            raise env.error(cond, f"a loop has more than {MAX_BOUNDS} bounds")
        if not isinstance(part, c_ast.BinaryOp) or part.op not in ("&&", "<", "<=", ">", ">="):
            raise env.error(
                part,
                f"the condition `{c_excerpt(part)}` is not supported",
                hint="Compare the iterator with an affine bound by <, <=, > or >=; && may join "
                "them.",
            )
        if part.op == "&&":
            pending += [part.right, part.left]
        elif (halves := _choice(part.right, "min" if step > 0 else "max")) is not None:
            pending += [c_ast.BinaryOp(part.op, part.left, h, part.coord) for h in halves[::-1]]
        else:
            found.append(_comparison(env, part, name, step, start))
    return found


def _comparison(
    env: Environment, cond: c_ast.BinaryOp, name: str, step: int, start: Affine
) -> Bound:
    """The bound above that one comparison puts on the counter ``name``."""
    left = affine_form(env, cond.left, "the loop's bound")
    right = affine_form(env, cond.right, "the loop's bound")
    slack = (left - right) if cond.op[0] == ">" else (right - left)  # must stay >= 0
    if "=" not in cond.op:
        slack = slack - 1
    c = slack.coefficient(name)
    if c == 0 or (c > 0) == (step > 0):
        raise env.error(
            cond, f"the condition `{c_excerpt(cond)}` does not end a loop whose step is {step}"
        )
    rest = slack - Affine.var(name) * c
    return Bound(rest, -c) if step > 0 else Bound(start * c + rest, c)


def _extremes(env: Environment, node: c_ast.Node, which: str) -> list[Affine]:
    """A first value as affine functions whose ``which`` ("min" or "max") it is."""
    halves = _choice(node, which)
    if halves is None:
        return [affine_form(env, node, "the loop's first value")]
    return [value for half in halves for value in _extremes(env, half, which)]


def _choice(node: c_ast.Node, which: str) -> tuple[c_ast.Node, c_ast.Node] | None:
    """The two operands where ``node`` is ``a < b ? a : b`` (min) or ``a > b ? a : b`` (max)."""
    if not isinstance(node, c_ast.TernaryOp) or not isinstance(node.cond, c_ast.BinaryOp):
        return None
    cond = node.cond
    smaller = {"<": True, "<=": True, ">": False, ">=": False}.get(cond.op)
    order = [c_excerpt(cond.left), c_excerpt(cond.right)]
    picked = [c_excerpt(node.iftrue), c_excerpt(node.iffalse)]
    if smaller is None or order not in (picked, picked[::-1]) or "..." in "".join(order):
        return None
    found = "min" if smaller == (order == picked) else "max"
    return (node.iftrue, node.iffalse) if found == which else None
