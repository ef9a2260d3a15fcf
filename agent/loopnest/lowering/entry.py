"""What every name stands for where a region begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BlockS,
    CFunction,
    CStatement,
    CType,
    DeclareS,
    Expression,
    ExpressionS,
    IfS,
    Name,
    Number,
    PointerType,
    RecordType,
    ScalarType,
    Tree,
    UnaryE,
    Unit,
    Variable,
)
from agent.loopnest.lowering.forms import form, integer_type, whole
from agent.loopnest.lowering.members import changed_members, is_member
from agent.loopnest.lowering.pointers import first_of, pointer
from agent.loopnest.lowering.regions import LoopNest
from agent.loopnest.lowering.state import (
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
from agent.loopnest.lowering.tables import array_object
from agent.loopnest.lowering.uses import assigned, called
from agent.loopnest.program import Affine

SIZES = "Give the sizes in its declaration with --size, or declare it with numbers."


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
