"""Variables that are declared in a region."""

from __future__ import annotations

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    CallE,
    IndexE,
    MemberE,
    PointerType,
    RecordType,
    ScalarType,
    UnaryE,
    Variable,
    walk,
)
from agent.loopnest.lowering.assignments import straight, temporary, write
from agent.loopnest.lowering.conditions import is_data
from agent.loopnest.lowering.forms import form, integer_type
from agent.loopnest.lowering.places import access_of
from agent.loopnest.lowering.scalars import wrong_type
from agent.loopnest.lowering.state import (
    MAX_STATEMENTS,
    Data,
    Environment,
    InPlace,
    Known,
    NotAffineError,
    Object,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.lowering.tables import array_object, flattened
from agent.loopnest.lowering.values import (
    converted,
    value,
)
from agent.loopnest.program import (
    Affine,
    Literal,
)


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
                straight(env, variable.init, variable.name)
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
    return None if is_data(given) else InPlace(given)


def _declare_array(env: Environment, variable: Variable) -> None:
    found = array_object(env, variable)
    env.scope[variable.ident] = found
    if variable.init is None or found.values:
        return
    flat = flattened(variable.init, found.shape)
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
