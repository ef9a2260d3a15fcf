"""Which statements of a function are a region, and what its names stand for where it begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    BlockS,
    CallE,
    CastE,
    CFunction,
    CStatement,
    CType,
    DeclareS,
    DoS,
    EmptyS,
    Expression,
    ExpressionS,
    ForS,
    IfS,
    LabelS,
    MemberE,
    Name,
    Number,
    PointerType,
    RecordType,
    ScalarType,
    Tree,
    UnaryE,
    Unit,
    Variable,
    walk,
)
from agent.loopnest.lowering.forms import form, integer_type, whole
from agent.loopnest.lowering.members import changed_members, is_member
from agent.loopnest.lowering.places import first_of, pointer
from agent.loopnest.lowering.state import (
    STEPS,
    Argument,
    Entity,
    Environment,
    Known,
    NotAffineError,
    Object,
    Pointer,
    RestartError,
    Scope,
    Unknown,
)
from agent.loopnest.lowering.statements import array_object
from agent.loopnest.program import FUNCTIONS, Affine

PRAGMAS = "Put #pragma scop before and #pragma endscop after the loops, in one block."


SIZES = "Give the sizes in its declaration with --size, or declare it with numbers."


_IN_RUN = ForS | DoS | DeclareS | ExpressionS | EmptyS


@dataclass(frozen=True)
class LoopNest:
    """A run of statements in one block of a function.

    Attributes:
        items: the statements.
        before: those that run before them, outermost block first, in order.
        around: statements that hold the block and may run it again, or not at all.
    """

    items: tuple[CStatement, ...]
    before: tuple[CStatement, ...] = ()
    around: tuple[CStatement, ...] = ()

    @property
    def first_line(self) -> int:
        """The line where it begins."""
        return self.items[0].place.line

    @property
    def last_line(self) -> int:
        """The line where it ends."""
        return self.items[-1].place.last_line


def marked(function: CFunction, marks: Sequence[tuple[int, bool]]) -> list[LoopNest]:
    """The regions between pragmas, in order.

    Raises:
        SourceError: a pragma is missing, or both stand in no one block.
    """
    place = function.place
    mine = [m for m in marks if place.line <= m[0] <= place.last_line]
    found = []
    for index in range(0, len(mine), 2):
        line, opens = mine[index]
        if not opens:
            raise SourceError(
                f"{place.file}:{line}:1: #pragma endscop without #pragma scop", PRAGMAS
            )
        if index + 1 == len(mine) or mine[index + 1][1]:
            raise SourceError(f"{place.file}:{line}:1: #pragma endscop is missing", PRAGMAS)
        part = _between(function.body.items, line, mine[index + 1][0], (), ())
        if part is None:
            raise SourceError(
                f"{place.file}:{line}:1: the region has no statements",
                PRAGMAS,
            )
        found.append(part)
    return found


def _between(
    items: Sequence[CStatement],
    first: int,
    last: int,
    before: tuple[CStatement, ...],
    around: tuple[CStatement, ...],
) -> LoopNest | None:
    """The statements between two lines, in the innermost block that holds them."""
    inside = [n for n, x in enumerate(items) if first < x.place.line and x.place.last_line < last]
    if inside:
        chosen = tuple(items[inside[0] : inside[-1] + 1])
        return LoopNest(chosen, (*before, *items[: inside[0]]), around)
    for index, item in enumerate(items):
        if item.place.line <= first and last <= item.place.last_line:
            for inner in _blocks(item):
                outer = (*before, *items[:index])
                found = _between(inner, first, last, outer, (*around, item))
                if found is not None:
                    return found
    return None


def _blocks(item: CStatement) -> Iterator[Sequence[CStatement]]:
    """The blocks that a statement holds."""
    match item:
        case BlockS(items=items):
            yield items
        case ForS(body=body) | DoS(body=body):
            yield body.items if isinstance(body, BlockS) else (body,)
        case IfS(yes=yes, no=no):
            for branch in (yes, no):
                if branch is not None:
                    yield branch.items if isinstance(branch, BlockS) else (branch,)
        case LabelS(statement=inner):
            yield (inner,)


def nests(function: CFunction) -> list[LoopNest]:
    """Runs of loops, with simple statements between them, in order."""
    return list(_runs(function.body.items, (), ()))


def inner_nests(part: LoopNest) -> list[LoopNest]:
    """The runs within the loops of ``part``."""
    found: list[LoopNest] = []
    for index, item in enumerate(part.items):
        if isinstance(item, ForS | DoS | IfS):
            before = (*part.before, *part.items[:index])
            for block in _blocks(item):
                found += _runs(block, before, (*part.around, item))
    return found


def _runs(
    items: Sequence[CStatement], before: tuple[CStatement, ...], around: tuple[CStatement, ...]
) -> Iterator[LoopNest]:
    start, end = None, 0
    for index, item in enumerate(items):
        if counts(item):
            start, end = index if start is None else start, index + 1
            continue
        if start is not None and not _is_simple(item, items[index + 1 :]):
            yield LoopNest(tuple(items[start:end]), (*before, *items[:start]), around)
            start = None
        for block in _blocks(item):
            yield from _runs(block, (*before, *items[:index]), (*around, item))
    if start is not None:
        yield LoopNest(tuple(items[start:end]), (*before, *items[:start]), around)


def counts(item: CStatement) -> bool:
    """Whether a statement is a loop that seems to count.

    That is a ``for`` with a first or a last part; without them, as in ``while (i < n)``, something
    in the condition goes up or down, and nothing in it is computed otherwise or read from memory.
    """
    if not isinstance(item, ForS | DoS):
        return False
    if isinstance(item, ForS) and (item.init is not None or item.step is not None):
        return True
    if item.condition is None:
        return isinstance(item, ForS)  # told why it is not read
    named = used([item.condition])
    moved = [x for x in walk(item) if (name := _changed(x)) is not None and name.ident in named]
    return all(map(_is_number, walk(item.condition))) and bool(moved) and all(map(_is_step, moved))


def _is_number(node: Tree) -> bool:
    """Whether a part of a condition is made of variables and numbers alone."""
    if isinstance(node, UnaryE):
        return node.op not in ("*", "&")
    return isinstance(node, Name | Number | BinaryE | CastE | MemberE)


def _changed(node: Tree) -> Name | None:
    """The variable that an assignment or a step changes."""
    match node:
        case AssignE(target=Name() as name):
            return name
        case UnaryE(op=op, operand=Name() as name) if op in STEPS:
            return name
    return None


def _is_step(node: Tree) -> bool:
    """Whether something goes up or down: ``i++``, ``i += 2``, ``i = i + 2``."""
    match node:
        case AssignE(op="", target=Name(ident=ident), value=value):
            while isinstance(value, CastE) and value.implicit:
                value = value.operand
            return isinstance(value, BinaryE) and value.op in "+-" and ident in used([value])
        case AssignE(op=op):
            return op in ("+", "-")
    return isinstance(node, UnaryE)


def _is_simple(item: CStatement, later: Sequence[CStatement]) -> bool:
    """Whether a statement may stand between two loops of a region.

    What it declares must not be used behind the last loop: it would be gone there.
    """
    if not isinstance(item, _IN_RUN):
        return False
    if isinstance(item, DeclareS):
        run = itertools.takewhile(lambda x: isinstance(x, _IN_RUN), later)
        last = max((n for n, x in enumerate(run, 1) if counts(x)), default=0)
        if used(later[last:]).keys() & {v.ident for v in item.variables}:
            return False
    calls = [x.callee for x in walk(item) if isinstance(x, CallE)]
    return all(isinstance(c, Name) and c.name in FUNCTIONS for c in calls)


# --- what names stand for ---------------------------------------------------------------------


def entry_scope(
    env: Environment, unit: Unit, function: CFunction, part: LoopNest, sizes: Mapping[str, int]
) -> None:
    """Fills ``env.scope`` with what every name stands for where ``part`` begins."""
    scope = env.scope
    bodies = [function.body, *called(unit, [function.body])]
    moving = unit.changed | {name.ident for body in bodies for name in assigned(body)}
    env.region.moving = moving
    env.region.changed_members = changed_members(bodies)
    env.region.members = {name: value for name, value in sizes.items() if is_member(name)}
    for ident, variable in unit.variables.items():
        scope[ident] = _global(env, unit, variable, sizes)
    for parameter in function.parameters:
        if isinstance(parameter.type, ScalarType):
            scope[parameter.ident] = _scalar(parameter, parameter.type, sizes)
    for parameter in function.parameters:
        if not isinstance(parameter.type, ScalarType):
            found = _memory(env, parameter)
            if isinstance(found, Object) and parameter.ident in moving:
                found = first_of(found)
            scope[parameter.ident] = found
    for item in part.before:
        _advance(env, item)
    for item in part.around:
        _forget(scope, item)


def _scalar(variable: Variable, kind: ScalarType, sizes: Mapping[str, int]) -> Entity:
    dtype = integer_type(kind)
    if dtype is not None and variable.name in sizes:
        return Known(Affine.constant(sizes[variable.name]), dtype)
    return Argument(variable.name, kind)


def _memory(env: Environment, variable: Variable) -> Entity:
    """What a parameter that is an array or a pointer stands for."""
    kind = variable.type
    first: int | None = None
    if isinstance(kind, ArrayType):
        if kind.length is not None:
            extent = _extent(env, kind.length)
            if isinstance(extent, str):
                return Unknown(f"how long it is is not known: {extent}", hint=SIZES)
            first = extent
        kind = kind.element
    elif isinstance(kind, PointerType):
        kind = kind.to
    elif isinstance(kind, RecordType):
        return structure(variable, kind)
    else:
        return Unknown("its type is not read")
    rows: list[int] = []
    while isinstance(kind, ArrayType):
        extent = "" if kind.length is None else _extent(env, kind.length)
        if isinstance(extent, str):
            return Unknown(f"how long its rows are is not known: {extent}", hint=SIZES)
        rows.append(extent)
        kind = kind.element
    return _object(env, variable, kind, first, tuple(rows))


def structure(variable: Variable, kind: RecordType) -> Object:
    """A variable that is a structure itself."""
    return Object(variable.ident, variable.name, kind, (1,), kind.const, text=f"&{variable.name}")


def _object(
    env: Environment, variable: Variable, kind: CType, first: int | None, rows: tuple[int, ...]
) -> Entity:
    if isinstance(kind, PointerType):
        return Unknown(
            "it points to pointers, whose rows may lie anywhere",
            hint="Use one array, a[i * columns + j] or a[rows][columns]; or put the inner loops "
            "into a function that gets the rows.",
        )
    if not isinstance(kind, ScalarType | RecordType):
        return Unknown(
            "what it points to is no number or structure of numbers",
            hint="Declare it as a pointer to the type that is used.",
        )
    shape: tuple[int | None, ...] = (first, *rows)
    if variable.ident in env.region.decisions.flat:
        total = first
        for extent in rows:
            total = None if total is None else total * extent
        shape = (total,)
    return Object(variable.ident, variable.name, kind, shape, kind.const, rows)


def _extent(env: Environment, length: int | Expression) -> int | str:
    if isinstance(length, int):
        return length
    try:
        found = form(env, length)
    except NotAffineError as failure:
        return failure.message.partition(": ")[2]
    if not found.is_constant or not 1 <= found.const < 1 << 31:
        return f"{found} elements"
    return found.const


def _global(env: Environment, unit: Unit, variable: Variable, sizes: Mapping[str, int]) -> Entity:
    kind = variable.type
    match kind:
        case ScalarType():
            if variable.name in sizes and integer_type(kind) is not None:
                return _scalar(variable, kind, sizes)
            fixed = kind.const or (
                variable.storage == "static" and variable.ident not in unit.changed
            )
            return (_constant(variable) if fixed else None) or Argument(variable.name, kind)
        case ArrayType(length=None) if variable.init is None:  # extern: as long as it is used
            return _memory(env, variable)
        case ArrayType():
            try:
                return array_object(env, variable)
            except SourceError as failure:
                return Unknown(failure.message.partition(": ")[2])
        case PointerType():
            return _memory(env, variable)
        case RecordType():
            return structure(variable, kind)
        case _:
            return Unknown("its type is not read")


def _constant(variable: Variable) -> Known | None:
    """The value of a constant integer."""
    dtype = integer_type(variable.type)
    if dtype is None or not isinstance(variable.init, Number):
        return None
    return Known(Affine.constant(whole(variable.init.text)), dtype)


def _advance(env: Environment, item: CStatement) -> None:
    """What a statement before the region does to the names."""
    match item:
        case DeclareS(variables=variables):
            for variable in variables:
                _declare(env, variable)
        case BlockS(items=items):
            for inner in items:
                _advance(env, inner)
        case IfS(yes=yes, no=no) if (known := _decided(env, item)) is not None:
            chosen = yes if known else no
            if chosen is not None:
                _advance(env, chosen)
        case ExpressionS(expression=AssignE(op="", target=Name() as name, value=value)):
            env.scope[name.ident] = _valued(env, name, value)
        case ExpressionS(
            expression=AssignE(target=Name() as name) | UnaryE(operand=Name() as name) as node
        ) if isinstance(env.scope.get(name.ident), Known | Pointer):
            _change(env, item, node)
        case _:
            _forget(env.scope, item)


def _decided(env: Environment, item: IfS) -> bool | None:
    """Which branch runs, where sizes alone tell it."""
    try:
        found = form(env, item.condition)
    except (SourceError, RestartError):
        return None
    return found.const != 0 if found.is_constant else None


def _change(env: Environment, item: CStatement, node: AssignE | UnaryE) -> None:
    """``n /= 2`` and its like, where all is known."""
    try:
        env.region.rules.effect(env, node)
    except (SourceError, RestartError):
        _forget(env.scope, item)


def _declare(env: Environment, variable: Variable) -> None:
    kind = variable.type
    match kind:
        case ScalarType() if variable.init is not None:
            name = Name(variable.place, kind, variable.name, variable.ident)
            env.scope[variable.ident] = _valued(env, name, variable.init)
        case ScalarType():
            env.scope[variable.ident] = Unknown("it has no value yet", symbolic=True)
        case PointerType() if variable.init is not None:
            name = Name(variable.place, kind, variable.name, variable.ident)
            env.scope[variable.ident] = _valued(env, name, variable.init)
        case ArrayType():
            try:
                env.scope[variable.ident] = array_object(env, variable)
            except SourceError as failure:
                env.scope[variable.ident] = Unknown(failure.message.partition(": ")[2])
        case RecordType():
            env.scope[variable.ident] = structure(variable, kind)
        case _:
            env.scope[variable.ident] = Unknown("it points nowhere that is known")


def _valued(env: Environment, name: Name, value: Expression) -> Entity:
    """What a variable is once it has been given a value before the region."""
    kind = name.type
    try:
        if isinstance(kind, PointerType | ArrayType):
            found = pointer(apart := replace(env, derived=[]), value)
            if not apart.derived:
                return found
        dtype = integer_type(kind)
        if dtype is not None:
            return Known(form(env, value), dtype)
    except (SourceError, RestartError):
        pass
    if isinstance(kind, ScalarType):
        return Argument(name.name, kind)
    return Unknown("where it points is not known")


def _forget(scope: Scope, item: Tree) -> None:
    """What ``item`` changes has a value that is not known any more."""
    for name in assigned(item):
        if isinstance(name.type, ScalarType):
            scope[name.ident] = Argument(name.name, name.type)
        else:
            scope[name.ident] = Unknown("a statement before the loops changes where it points")


def assigned(item: Tree) -> list[Name]:
    """Variables that ``item`` assigns, steps, or takes the address of."""
    found = []
    for x in walk(item):
        match x:
            case AssignE(target=Name() as name):
                found.append(name)
            case UnaryE(op=op, operand=Name() as name) if op in STEPS or op == "&":
                found.append(name)
    return found


def called(unit: Unit, items: Sequence[CStatement]) -> list[CStatement]:
    """The bodies of the functions of the file that ``items`` call, and those call."""
    found: dict[int, CStatement] = {}
    pending = list(items)
    while pending:
        for x in walk(pending.pop()):
            own = callee(unit, x)
            if own is not None and own.ident not in found:
                found[own.ident] = own.body
                pending.append(own.body)
    return list(found.values())


def callee(unit: Unit, node: Tree) -> CFunction | None:
    """The function of the file that a call names."""
    if isinstance(node, CallE) and isinstance(node.callee, Name):
        return unit.functions.get(node.callee.ident)
    return None


def used(items: Sequence[Tree]) -> dict[int, Name]:
    """Variables that occur in ``items``, by ident."""
    return {x.ident: x for item in items for x in walk(item) if isinstance(x, Name)}
