"""Statements and loops of the region as nodes of the IR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pycparser import c_ast

from agent.errors import SourceError
from agent.loopnest.frontend.affine import affine, constant, shown, undeclared
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
    Iterator,
    Local,
    Place,
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


def block(place: Place, items: Sequence[c_ast.Node]) -> list[Node]:
    """The nodes of a block; what it declares is in sight until its end."""
    inner = replace(place, scope=dict(place.scope))
    return [node for item in items for node in _item(inner, item)]


def _item(place: Place, item: c_ast.Node) -> list[Node]:
    match item:
        case c_ast.Decl():
            return declaration(place, item)
        case c_ast.Compound():
            return block(place, item.block_items or [])
        case c_ast.For():
            return [_loop(place, item)]
        case c_ast.Assignment():
            return [_assignment(place, item, item.lvalue, item.op[:-1], item.rvalue)]
        case c_ast.UnaryOp(op="++" | "--" | "p++" | "p--"):
            one = c_ast.Constant("int", "1", item.coord)
            return [_assignment(place, item, item.expr, item.op[-1], one)]
        case c_ast.EmptyStatement():
            return []
        case c_ast.Pragma():
            raise place.error(item, "#pragma scop and endscop may not be nested")
        case _:
            why = _REFUSED.get(type(item), "only assignments and for loops are supported here")
            raise place.error(item, why)


# --- statements -------------------------------------------------------------------------------


def declaration(place: Place, node: c_ast.Decl) -> list[Node]:
    """A declaration in the region; the assignment its initialiser is."""
    entity = declared(place, node)
    if isinstance(entity, Refused):
        raise place.error(node, f"{node.name!r}: {entity.why}")
    place.scope[node.name] = entity
    return initialised(place, node, entity) if isinstance(entity, Local) else []


def initialised(place: Place, node: c_ast.Decl, local: Local) -> list[Node]:
    """The statement that gives a declared variable its first value, if there is one."""
    if local.init is None:
        return []
    value = expression(place, local.init)
    local.temporary = declare_temporary(place, node, local)
    local.assigned = True
    return [_statement(place, node, Access(local.temporary), "", value)]


def declared(place: Place, node: c_ast.Decl) -> Entity:
    """What a local declaration stands for; ``const int`` made of iterators is one itself."""
    storage = set(node.storage or ()) - {"register", "auto"}
    if isinstance(node.type, c_ast.ArrayDecl):
        return Refused("it is a local array; pass it as a parameter of the function")
    kind = place.region.source.scalar_type(node.type, tuple(node.quals or ()))
    if kind is None or storage or "$" in node.name:
        return Refused(f"a local `{' '.join(sorted(storage)) or shown(node.type)}` is not data")
    if isinstance(node.init, c_ast.InitList):
        return Refused("its initialiser is a list")
    if kind.const and kind.integer and node.init is not None:
        try:
            return Iterator(affine(place, node.init, "the value"), kind)
        except SourceError:
            pass  # not affine: then it is data like any other
    return Local(node.name, kind, len(place.around), node.init)


def _assignment(
    place: Place, node: c_ast.Node, left: c_ast.Node, op: str, right: c_ast.Node
) -> Statement:
    target = _target(place, left)
    if op:
        check_assigned(place, left)
    value = expression(place, right)
    _note_assigned(place, left)
    if op in ("%", "<<", ">>", "&", "|", "^") and (
        place.region.dtype_of(target.array).is_float or is_float(value, place.region.dtype_of)
    ):
        raise place.error(node, f"the operator {op + '='!r} needs whole numbers")
    return _statement(place, node, target, op, value)


def _note_assigned(place: Place, left: c_ast.Node) -> None:
    if isinstance(left, c_ast.ID) and isinstance(local := place.scope.get(left.name), Local):
        local.assigned = True


def _target(place: Place, node: c_ast.Node) -> Access:
    if isinstance(node, c_ast.ArrayRef):
        access, writable = array_access(place, node)
    elif isinstance(node, c_ast.ID):
        if isinstance(place.scope.get(node.name), Iterator):
            raise place.error(node, f"the iterator {node.name!r} is modified inside its loop")
        access, writable = scalar_access(place, node)
    elif isinstance(node, c_ast.UnaryOp) and node.op == "*":
        raise place.error(
            node, "pointers are not supported in the region", hint="Write A[i] instead of *A."
        )
    elif isinstance(node, c_ast.StructRef):
        raise place.error(node, "structures are not supported")
    else:
        raise place.error(node, f"`{shown(node)}` cannot be assigned")
    if not writable:
        raise place.error(
            node,
            f"{access.array!r} is assigned, but it is const, a size or a scalar parameter",
            hint="Results go into arrays that are not const, or variables declared in the region.",
        )
    return access


def _statement(place: Place, node: c_ast.Node, target: Access, op: str, value: Expr) -> Statement:
    region = place.region
    number = region.statements
    if number == MAX_STATEMENTS:
        raise place.error(node, f"the region has more than {MAX_STATEMENTS} statements")
    region.statements += 1
    op, value = _reduction(place, node, target, op, value)
    instance = tuple(Affine.var(loop.iterator) for loop in place.around)
    return Statement(f"S{number}", target, op, value, instance)


def _reduction(
    place: Place, node: c_ast.Node, target: Access, op: str, value: Expr
) -> tuple[str, Expr]:
    """Operator and operand where the update is a reduction, else "" and the whole value."""
    whole = Binary(op, Read(target), value) if op else value
    found, operand = _update(target, whole)
    if found and _associative(place, node, target, whole, operand):
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
    place: Place, node: c_ast.Node, target: Access, whole: Expr, operand: Expr
) -> bool:
    """Whether repeating the update in another order means the same (but for rounding).

    An integer target is cut after every step of a floating update, fmaxf rounds a double, and an
    operand that may read the target's own element makes it a recurrence.
    """
    dtype = place.region.dtype_of(target.array)
    if isinstance(whole, Call):
        exact = dtype is DType.F32 or (dtype is DType.F64 and whole.function in ("fmin", "fmax"))
    else:
        exact = dtype.is_float or not is_float(operand, place.region.dtype_of)
    return exact and not any(
        read.array == target.array and _meets(place, node, target, read) for read in reads(operand)
    )


def _meets(place: Place, node: c_ast.Node, target: Access, read: Access) -> bool:
    try:
        return place.region.prover.may_meet(place.around, target, read)
    except SourceError as failure:
        raise place.error(node, failure.message, failure.hint) from failure


# --- loops ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """A for loop's header: the iterator counts from ``start`` by ``step`` (never 0)."""

    name: str
    type: CType
    start: c_ast.Node
    step: int


def _loop(place: Place, node: c_ast.For) -> Loop:
    if len(place.around) == MAX_LOOPS:
        raise place.error(node, f"loops are nested more than {MAX_LOOPS} deep")
    header = _header(place, node)
    starts = _extremes(place, header.start, "max" if header.step > 0 else "min")
    if len(starts) > 1 and header.step < 0:
        raise place.error(header.start, "a loop that counts down needs one first value")
    start = starts[0]
    name = place.region.names.fresh(header.name)
    counter = Affine.var(name)
    value = counter if header.step > 0 else start - counter
    inner = replace(place, scope={**place.scope, header.name: Iterator(counter, header.type)})
    upper = tuple(_upper(inner, node.cond, name, header.step, start))
    loop = Loop(
        name,
        tuple(map(Bound, starts)) if header.step > 0 else (Bound(Affine()),),
        upper,
        abs(header.step),
        (),
    )
    scope = {**place.scope, header.name: Iterator(value, header.type)}
    body = replace(place, scope=scope, around=(*place.around, loop))
    return replace(loop, body=tuple(block(body, [node.stmt])))


def _header(place: Place, node: c_ast.For) -> _Header:
    name, kind, start = _first(place, node)
    if node.cond is None or node.next is None:
        raise place.error(node, "a for loop needs a condition and a step")
    step = _step(place, node.next, name)
    if step < 0 and kind.unsigned:
        raise place.error(node, f"{name!r} counts down but is unsigned: it never gets below 0")
    return _Header(name, kind, start, step)


def _first(place: Place, node: c_ast.For) -> tuple[str, CType, c_ast.Node]:
    """The iterator's name and type, and its first value."""
    match node.init:
        case c_ast.DeclList(decls=[c_ast.Decl() as decl]) if decl.init is not None:
            kind = place.region.source.scalar_type(decl.type)
            if kind is None or not kind.integer or kind.narrow or "$" in decl.name:
                raise place.error(decl, f"the iterator {decl.name!r} must be an int")
            return decl.name, kind, decl.init
        case c_ast.Assignment(op="=", lvalue=c_ast.ID() as name):
            return name.name, _older_iterator(place, name), node.init.rvalue
        case _:
            raise place.error(
                node, "a for loop must give its iterator a first value: for (int i = 0; ...)"
            )


def _older_iterator(place: Place, name: c_ast.ID) -> CType:
    """The type of an iterator that was declared before its loop."""
    match place.scope.get(name.name):
        case Local() as local if local.type.integer and not (local.type.const or local.type.narrow):
            if local.temporary:
                raise place.error(
                    name,
                    f"{name.name!r} is used as an iterator here and as data elsewhere",
                    hint="Declare the iterator in its loop: for (int i = ...).",
                )
            local.is_iterator = True
            return local.type
        case None | Refused():
            raise undeclared(place, name)
        case Iterator():
            raise place.error(name, f"{name.name!r} is already the iterator of an outer loop")
        case _:
            raise place.error(name, f"{name.name!r} cannot be an iterator")


def _step(place: Place, node: c_ast.Node, name: str) -> int:
    """What ``node`` adds to the iterator ``name``."""
    step = 0
    match node:
        case c_ast.UnaryOp(op=("++" | "p++" | "--" | "p--") as op, expr=c_ast.ID(name=n)):
            step = (1 if "+" in op else -1) if n == name else 0
        case c_ast.Assignment(op=("+=" | "-=") as op, lvalue=c_ast.ID(name=n)) if n == name:
            step = constant(place, node.rvalue, "the step") * (1 if op == "+=" else -1)
        case c_ast.Assignment(
            op="=",
            lvalue=c_ast.ID(name=n),
            rvalue=c_ast.BinaryOp(op=("+" | "-") as op, left=c_ast.ID(name=m)),
        ) if n == name and m == name:
            step = constant(place, node.rvalue.right, "the step") * (1 if op == "+" else -1)
    if step == 0 or abs(step) > MAX_SIZE:
        raise place.error(
            node,
            f"the step of {name!r} must be a constant other than 0",
            hint=f"Write {name}++, {name} += 2 or {name}--.",
        )
    return step


def _upper(place: Place, cond: c_ast.Node, name: str, step: int, start: Affine) -> list[Bound]:
    """The bounds above that a condition puts on the counter ``name`` of a loop."""
    pending, found = [cond], list[Bound]()
    while pending:
        part = pending.pop()
        if len(pending) + len(found) >= MAX_BOUNDS:
            raise place.error(cond, f"a loop has more than {MAX_BOUNDS} bounds")
        if not isinstance(part, c_ast.BinaryOp) or part.op not in ("&&", "<", "<=", ">", ">="):
            raise place.error(
                part,
                f"the condition `{shown(part)}` is not supported",
                hint="Compare the iterator with an affine bound by <, <=, > or >=; && may join "
                "them.",
            )
        if part.op == "&&":
            pending += [part.right, part.left]
        elif (halves := _choice(part.right, "min" if step > 0 else "max")) is not None:
            pending += [c_ast.BinaryOp(part.op, part.left, h, part.coord) for h in halves[::-1]]
        else:
            found.append(_comparison(place, part, name, step, start))
    return found


def _comparison(place: Place, cond: c_ast.BinaryOp, name: str, step: int, start: Affine) -> Bound:
    """The bound above that one comparison puts on the counter ``name``."""
    left = affine(place, cond.left, "the loop's bound")
    right = affine(place, cond.right, "the loop's bound")
    slack = (left - right) if cond.op[0] == ">" else (right - left)  # must stay >= 0
    if "=" not in cond.op:
        slack = slack - 1
    c = slack.coefficient(name)
    if c == 0 or (c > 0) == (step > 0):
        raise place.error(
            cond, f"the condition `{shown(cond)}` does not end a loop whose step is {step}"
        )
    rest = slack - Affine.var(name) * c
    return Bound(rest, -c) if step > 0 else Bound(start * c + rest, c)


def _extremes(place: Place, node: c_ast.Node, which: str) -> list[Affine]:
    """A first value as affine functions whose ``which`` ("min" or "max") it is."""
    halves = _choice(node, which)
    if halves is None:
        return [affine(place, node, "the loop's first value")]
    return [value for half in halves for value in _extremes(place, half, which)]


def _choice(node: c_ast.Node, which: str) -> tuple[c_ast.Node, c_ast.Node] | None:
    """The two operands where ``node`` is ``a < b ? a : b`` (min) or ``a > b ? a : b`` (max)."""
    if not isinstance(node, c_ast.TernaryOp) or not isinstance(node.cond, c_ast.BinaryOp):
        return None
    cond = node.cond
    smaller = {"<": True, "<=": True, ">": False, ">=": False}.get(cond.op)
    order = [shown(cond.left), shown(cond.right)]
    picked = [shown(node.iftrue), shown(node.iffalse)]
    if smaller is None or order not in (picked, picked[::-1]) or "..." in "".join(order):
        return None
    found = "min" if smaller == (order == picked) else "max"
    return (node.iftrue, node.iffalse) if found == which else None
