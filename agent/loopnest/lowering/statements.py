"""C statements as nodes of the IR: assignments, conditions, declarations, blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    BlockS,
    CallE,
    CastE,
    ConditionalE,
    CStatement,
    DeclareS,
    DoS,
    EmptyS,
    Expression,
    ExpressionS,
    ForS,
    IfS,
    IndexE,
    LabelS,
    ListE,
    MemberE,
    Name,
    Number,
    OtherS,
    Place,
    PointerType,
    RecordType,
    ReturnS,
    ScalarType,
    UnaryE,
    Variable,
    walk,
)
from agent.loopnest.lowering.forms import form, integer_of, integer_type
from agent.loopnest.lowering.loops import do_loop, loop
from agent.loopnest.lowering.places import VALUE, access_of, place, pointer, wrong_type
from agent.loopnest.lowering.printing import c_text, full_text
from agent.loopnest.lowering.reductions import reduction
from agent.loopnest.lowering.state import (
    MAX_STATEMENTS,
    MAX_TABLE,
    STEPS,
    Argument,
    Data,
    Environment,
    InPlace,
    Known,
    NotAffineError,
    Object,
    Pointer,
    Region,
    RestartError,
    Scope,
    Unknown,
    refusal,
)
from agent.loopnest.lowering.values import (
    condition,
    conjunction,
    constant,
    converted,
    dtype_of,
    is_bool,
    negated,
    number,
    truth,
    value,
)
from agent.loopnest.program import (
    FUNCTIONS,
    Access,
    Affine,
    Binary,
    Derived,
    DType,
    Expr,
    Literal,
    Node,
    Read,
    Statement,
    Temporary,
    substitute_statement,
)
from agent.loopnest.program import (
    walk as walk_expr,
)

_WHY = {"break": "break is not read: how often the loop runs would depend on data"}


_INSTEAD = {
    "break": "Put `i < last` into the header where the last one is known; where data decides, "
    "nothing helps.",
    "continue": "Put what it leaves out into the else of its if.",
    "goto": "Use if and else for what is jumped over.",
    "switch": "Use if and else.",
}


def block(env: Environment, statements: Sequence[CStatement]) -> list[Node]:
    """The nodes of statements that run one after the other in ``env``."""
    inner = replace(env, out=[])
    items(inner, statements)
    return inner.out


def items(env: Environment, statements: Sequence[CStatement]) -> None:
    """Lowers statements in order into ``env.out``."""
    for item in statements:
        statement(env, item)


def statement(env: Environment, item: CStatement) -> None:
    """Lowers one statement into ``env.out``."""
    env = replace(env, derived=list(env.kept))
    match item:
        case DeclareS(variables=variables):
            for variable in variables:
                declare(env, variable)
        case ExpressionS(expression=expression):
            effect(env, expression)
        case BlockS(items=inner):
            items(env, inner)
        case IfS():
            _if(env, item)
        case ForS():
            loop(env, item)
        case LabelS(statement=inner, used=False):
            statement(env, inner)
        case EmptyS():
            return
        case DoS():
            do_loop(env, item)
        case ReturnS():
            raise refusal(
                item.place,
                "return is not read inside a loop nest",
                "Keep the result in a variable and return it behind the loops; where data decides "
                "when the loops end, nothing helps.",
            )
        case LabelS():
            raise refusal(item.place, "a label that is jumped to is not read", _INSTEAD["goto"])
        case OtherS(what=what):
            hint = _INSTEAD.get(what, "Leave it out of the loops.")
            raise refusal(item.place, _WHY.get(what, f"{what} is not read"), hint)


# --- expressions with effects -----------------------------------------------------------------


def effect(env: Environment, node: Expression) -> None:
    """Lowers an expression for what it does; its value is not used."""
    match node:
        case AssignE():
            assign(env, node)
        case UnaryE(op="++" | "--" | "p++" | "p--"):
            assign(env, replace(node, op=node.op[-2:]))
        case BinaryE(op=",", left=left, right=right):
            effect(env, left)
            effect(env, right)
        case CastE(operand=operand):
            effect(env, operand)
        case CallE(callee=Name() as callee):
            own = env.region.unit.functions.get(callee.ident)
            name = callee.name.removeprefix("__builtin_")
            if own is not None:
                env.region.rules.inline(env, node, own)
            elif name in ("memset", "memcpy", "memmove"):
                from agent.loopnest.lowering.memory import copied

                copied(env, node, name)
            else:
                raise refusal(
                    node.place,
                    f"a call of {name!r} is not read: it may do anything",
                    "Call it before or behind the loops, or define it in this file or a header.",
                )
        case _ if any(isinstance(x, AssignE | CallE | UnaryE) for x in walk(node)):
            raise refusal(
                node.place,
                f"`{c_text(node)}` is not read as a statement",
                "Write assignments as statements of their own.",
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
    env.scope[name.ident] = _straight(env, whole, name.name)


def _straight(env: Environment, node: Expression, name: str) -> Pointer:
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


# --- conditions -------------------------------------------------------------------------------


def _if(env: Environment, node: IfS) -> None:
    known = constant(env, node.condition)
    if known is not None:
        chosen = node.yes if known else node.no
        if chosen is not None:
            statement(replace(env, scope=env.scope), chosen)
        return
    if (update := _extreme_update(env, node)) is not None:
        assign(env, update)
        return
    told = test = condition(env, node.condition)
    derives = len(env.derived) > len(env.kept)
    if _is_data(test) and (derives or _effects(env, node.yes) + _effects(env, node.no) > 1):
        test = _kept(env, node, test)
    branches = [_branch(env, node.yes, test, told)]
    if node.no is not None:
        branches.append(_branch(env, node.no, negated(test), negated(told)))
        env.given.update(branches[0].given & branches[1].given)
    env.facts[:] = [f for f in env.facts if all(f in branch.facts for branch in branches)]
    _merge(env, [branch.scope for branch in branches])


def _extreme_update(env: Environment, node: IfS) -> AssignE | None:
    """``if (x > m) m = x;`` of whole numbers as ``m = x > m ? x : m``: the greatest in any order.

    ``m`` is a variable of its own: where it is not assigned, assigning it again changes nothing.
    """
    inner = node.yes
    if isinstance(inner, BlockS) and len(inner.items) == 1:
        (inner,) = inner.items
    match inner, node.condition:
        case (
            ExpressionS(expression=AssignE(op="", target=Name() as name, value=value) as update),
            BinaryE(op="<" | "<=" | ">" | ">=", left=left, right=right),
        ) if node.no is None and name.ident in env.region.decisions.data:
            kinds = {integer_type(_bare(x).type) for x in (name, value, left, right)}
            texts = {full_text(name), full_text(value)}
            pure = not any(isinstance(x, AssignE | CallE | UnaryE) for x in walk(value))
            if pure and len(kinds) == 1 and {full_text(left), full_text(right)} == texts:
                choice = ConditionalE(node.place, name.type, node.condition, value, name)
                return replace(update, value=choice)
    return None


def _bare(node: Expression) -> Expression:
    return _bare(node.operand) if isinstance(node, CastE) and node.implicit else node


def _branch(env: Environment, body: CStatement, test: Expr, told: Expr) -> Environment:
    """Lowers one branch of a condition; what is known at its end."""
    inner = replace(
        env,
        scope=dict(env.scope),
        given=set(env.given),
        conditions=(*env.conditions, test),
        facts=[*env.facts, told],
    )
    statement(inner, body)
    return inner


def _merge(env: Environment, scopes: Sequence[Scope]) -> None:
    """A symbolic variable that a branch changed has no one form afterwards."""
    for ident, before in list(env.scope.items()):
        after = [scope.get(ident) for scope in scopes]
        if all(x == before for x in after):
            continue
        number = isinstance(before, Known) or (isinstance(before, Unknown) and before.symbolic)
        env.scope[ident] = Unknown("a condition decides what it is", symbolic=number)


def _is_data(test: Expr) -> bool:
    return any(isinstance(x, Read) for x in walk_expr(test))


def _effects(env: Environment, body: CStatement | None) -> int:
    """How often a branch changes something, at least; 2 where it is not a single statement."""
    if body is None or isinstance(body, EmptyS):
        return 0
    if isinstance(body, BlockS):
        return sum(_effects(env, item) for item in body.items)
    if not isinstance(body, ExpressionS):
        return 2
    changes = sum(
        isinstance(x, AssignE) or (isinstance(x, UnaryE) and x.op in STEPS) for x in walk(body)
    )
    return changes + 2 * sum(_is_more(env, x) for x in walk(body) if isinstance(x, CallE))


def _is_more(env: Environment, node: CallE) -> bool:
    """Whether a call may change something, often: of a function of the file, or of memset."""
    if not isinstance(node.callee, Name) or node.callee.ident in env.region.unit.functions:
        return True
    return node.callee.name.removeprefix("__builtin_") not in FUNCTIONS


def _kept(env: Environment, node: IfS, test: Expr) -> Expr:
    """A condition on data is evaluated once: what runs under it may change the data."""
    flag = temporary(env, "is", DType.I32)
    write(env, node.place, flag, True, "", truth(test))
    return Read(flag)


def temporary(env: Environment, name: str, dtype: DType) -> Access:
    """A new scalar of the Program, one for each iteration of the loops around."""
    fresh = env.region.names.fresh(name)
    env.region.temporaries.append(Temporary(fresh, dtype, len(env.around)))
    return Access(fresh)


# --- declarations -----------------------------------------------------------------------------


def declare(env: Environment, variable: Variable) -> None:
    """A variable that is declared in the region."""
    kind = variable.type
    match kind:
        case ScalarType(volatile=True):
            raise refusal(
                variable.place,
                f"{variable.name!r} is volatile: every access must stay as it is",
                "Leave volatile out where nothing else changes it.",
            )
        case ScalarType():
            _declare_scalar(env, variable, kind)
        case PointerType():
            env.scope[variable.ident] = (
                _straight(env, variable.init, variable.name)
                if variable.init is not None
                else Unknown("it points nowhere yet")
            )
        case ArrayType():
            _declare_array(env, variable)
        case RecordType():
            env.scope[variable.ident] = Object(
                variable.ident, variable.name, kind, (1,), const=False, text=f"&{variable.name}"
            )
            if variable.init is not None:
                raise refusal(
                    variable.place,
                    f"{variable.name!r} is a structure with an initialiser, which is not read",
                    "Assign its fields one by one.",
                )
        case _:
            raise refusal(variable.place, *wrong_type(repr(variable.name), kind))


def _declare_scalar(env: Environment, variable: Variable, kind: ScalarType) -> None:
    region = env.region
    if kind.dtype is None:
        raise refusal(variable.place, *wrong_type(repr(variable.name), kind))
    if variable.storage == "static":
        raise refusal(
            variable.place,
            f"{variable.name!r} is static: it keeps its value until the next call",
            "Declare it outside of the function, or pass a pointer to it.",
        )
    if integer_type(kind) is not None and variable.ident not in region.decisions.data:
        env.scope[variable.ident] = Unknown("it has no value yet", symbolic=True)
        if variable.init is not None:
            try:
                env.scope[variable.ident] = Known(form(env, variable.init), kind.dtype)
            except NotAffineError as failure:
                given = _of_iterators(env, variable)
                if given is None:
                    raise RestartError(data=variable.ident) from failure
                env.scope[variable.ident] = given
        return
    init = None if variable.init is None else value(env, variable.init)
    target = temporary(env, variable.name, kind.dtype)
    region.keep(target.array, variable.ident)
    env.scope[variable.ident] = Data(target, kind.dtype, kind.const)
    if init is not None:
        region.touched.add(variable.ident)
        write(env, variable.place, target, True, "", init)


def _of_iterators(env: Environment, variable: Variable) -> InPlace | None:
    """``int row = k / w``, which nothing changes: its uses become the value, no memory is taken."""
    init = variable.init
    others = AssignE | CallE | IndexE | MemberE
    if init is None or variable.ident in env.region.moving:
        return None
    if any(isinstance(x, others) or (isinstance(x, UnaryE) and x.op in "*&") for x in walk(init)):
        return None
    given = converted(env, init)
    return None if _is_data(given) else InPlace(given)


def _declare_array(env: Environment, variable: Variable) -> None:
    found = array_object(env, variable)
    env.scope[variable.ident] = found
    if variable.init is None or found.values:
        return
    flat = _flattened(variable.init, found.shape)
    if flat is None or len(flat) > MAX_STATEMENTS:
        raise refusal(
            variable.place,
            f"the initialiser of {variable.name!r} is not read",
            "Initialise it in a loop, or declare it static const.",
        )
    for index, item in enumerate(flat):
        subscripts, rest = [], index
        for extent in reversed(found.shape):
            rest, here = divmod(rest, extent or 1)
            subscripts.append(Affine.constant(here))
        access = access_of(env, variable.place, found, tuple(reversed(subscripts)))
        given = Literal("0") if item is None else converted(env, item)
        write(env, variable.place, access, True, "", given)


def array_object(env: Environment, variable: Variable) -> Object:
    """An array that is declared with its extents; a constant one with its values.

    Raises:
        SourceError: an extent is no number here, or the table is too long.
    """
    shape: list[int] = []
    kind = variable.type
    while isinstance(kind, ArrayType):
        shape.append(_extent(env, variable, kind.length))
        kind = kind.element
    extents: tuple[int | None, ...] = tuple(shape)
    rows = tuple(shape[1:])
    if variable.ident in env.region.decisions.flat:
        total = 1
        for extent in shape:
            total *= extent
        extents = (total,)
    const = isinstance(kind, ScalarType | RecordType) and kind.const
    found = Object(variable.ident, variable.name, kind, extents, const, rows)
    if const and isinstance(kind, ScalarType) and variable.init is not None:
        values = _flattened(variable.init, tuple(shape))
        texts = [_table_text(x) for x in values] if values is not None else [None]
        if kind.is_bool:
            texts = [str(int(int(t) != 0)) if t and t.isdecimal() else None for t in texts]
        if None not in texts:
            return replace(found, values=tuple(t for t in texts if t is not None))
    return found


def _extent(env: Environment, variable: Variable, length: int | Expression | None) -> int:
    if length is None and isinstance(variable.init, ListE):
        return len(variable.init.items)
    extent = length if length is None or isinstance(length, int) else constant(env, length)
    if extent is None or not 1 <= extent < 1 << 31:
        raise refusal(
            variable.place,
            f"how many elements {variable.name!r} has is not known here",
            "Give its length as a number, or the sizes of which it is made with --size.",
        )
    return extent


def _flattened(init: Expression, shape: tuple[int | None, ...]) -> list[Expression | None] | None:
    """The elements of an initialiser in row-major order; None: those that C makes 0."""
    if not shape:
        return [init]
    if not isinstance(init, ListE):
        return None
    total = 1
    for extent in shape:
        total *= extent or 1
    if total > MAX_TABLE:
        return None
    if any(isinstance(x, ListE) for x in init.items):
        rows: list[Expression | None] = []
        for item in init.items:
            row = _flattened(item, shape[1:])
            if row is None:
                return None
            rows += row
        return rows + [None] * (total - len(rows))
    return [*init.items, *[None] * (total - len(init.items))]


def _table_text(item: Expression | None) -> str | None:
    """One element of a constant table as C spells it."""
    if item is None:
        return "0"
    inner = item
    while isinstance(inner, CastE) and inner.implicit:
        inner = inner.operand
    if isinstance(inner, UnaryE) and inner.op == "-" and isinstance(inner.operand, Number):
        return f"-{inner.operand.text}"
    return inner.text if isinstance(inner, Number) else None
