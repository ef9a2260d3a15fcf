"""A region of a function as a Program, and what its arrays and scalars are in the function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.errors import SourceError
from agent.loopnest.emitter.lifetimes import sink_temporaries
from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    CallE,
    CastE,
    CFunction,
    CStatement,
    CType,
    DeclareS,
    DoS,
    Expression,
    ExpressionS,
    ForS,
    IndexE,
    MemberE,
    Name,
    PointerType,
    ScalarType,
    Tree,
    Unit,
    walk,
)
from agent.loopnest.lowering.assignments import assign, temporary, write
from agent.loopnest.lowering.counters import counted
from agent.loopnest.lowering.declarations import declare
from agent.loopnest.lowering.entry import entry_scope
from agent.loopnest.lowering.forms import integer_type
from agent.loopnest.lowering.inline import call_form, inline
from agent.loopnest.lowering.members import changed_members, is_member
from agent.loopnest.lowering.places import STRAIGHT
from agent.loopnest.lowering.printing import full_text
from agent.loopnest.lowering.regions import LoopNest
from agent.loopnest.lowering.scalars import wrong_type
from agent.loopnest.lowering.sequence import check_sequence
from agent.loopnest.lowering.state import (
    MAX_RESTARTS,
    Argument,
    ArrayUse,
    Data,
    Decisions,
    Environment,
    FreshNames,
    Known,
    LoweringRules,
    Object,
    Region,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.lowering.statements import effect, items
from agent.loopnest.lowering.uses import assigned, called, callee, used
from agent.loopnest.lowering.values import number, value
from agent.loopnest.program import (
    FUNCTIONS,
    Access,
    Affine,
    AffineValue,
    DType,
    Expr,
    Literal,
    Loop,
    Node,
    Program,
    Read,
    Temporary,
    map_leaves,
    statements,
)

_RULES = LoweringRules(
    value=value,
    assign=assign,
    effect=effect,
    inline=inline,
    items=items,
    declare=declare,
    call_form=call_form,
)


@dataclass(frozen=True)
class Binding:
    """What an array of the Program is where the region begins.

    ``expression`` is C of a pointer to its first element; ``low`` the index, in C, of that element
    where the array is what a pointer leads to; ``variable``: of the function, which holds it or
    leads to it. ``is_local``: the region itself declares it; before the region there is none.
    """

    array: str
    expression: str
    low: int
    variable: str
    is_local: bool = False


@dataclass(frozen=True)
class Reading:
    """A region as it was read.

    Attributes:
        program: its Program; scalars have the names of variables of the function.
        function: the name of the function.
        part: its statements.
        bindings: for every array that is an argument of the Program.
        leaving: symbolic variables that are used after the region: name, and value after it.
        assumed: what is taken for granted, in words.
    """

    program: Program
    function: str
    part: LoopNest
    bindings: tuple[Binding, ...]
    leaving: tuple[tuple[str, Affine], ...]
    assumed: tuple[str, ...]


def lower(unit: Unit, function: CFunction, part: LoopNest, sizes: Mapping[str, int]) -> Reading:
    """The Program that ``part`` is, with these sizes.

    Raises:
        SourceError: something in it is not read; the message says where and why.
    """
    check_sequence(unit, (*part.before, *part.items))
    decisions = Decisions()
    outside: SourceError | None = None  # what left its row, where rows are not kept apart
    for _ in range(MAX_RESTARTS):
        try:
            return _lowered(unit, function, part, sizes, decisions)
        except SourceError as failure:
            raise (outside or failure) from failure
        except RestartError as restart:
            if isinstance(restart.__cause__, SourceError) and "flat" in restart.more:
                outside = restart.__cause__
            more = decisions.and_(restart.more)
            if more == decisions:
                break
            decisions = more
    raise refusal(
        part.items[0].place,
        f"more than {MAX_RESTARTS} variables and arrays are used in ways that are hard to follow",
        "Put #pragma scop and endscop around fewer loops.",
    )


def _lowered(
    unit: Unit,
    function: CFunction,
    part: LoopNest,
    sizes: Mapping[str, int],
    decisions: Decisions,
) -> Reading:
    parameters = frozenset(p.name for p in function.parameters)
    names = FreshNames(set(FUNCTIONS) | parameters)
    missing = tuple(
        p.name
        for p in function.parameters
        if integer_type(p.type) is not None and p.name not in sizes
    )
    region = Region(unit, decisions, _RULES, missing, parameters, names)
    env = Environment(region, {})
    entry_scope(env, unit, function, part, sizes)
    leaving = used_after(function, part)
    _enter(env, part, leaving)
    names.taken |= {e.name for e in env.scope.values() if isinstance(e, Argument)}
    env.derived.clear()
    items(env, part.items)
    _count(env)
    _leave(env, part)
    if not any(s.target.array in _memory(region) for _, s in statements(tuple(env.out))):
        raise refusal(
            part.items[0].place,
            "it computes nothing that leaves it",
            "Results go into arrays, or into variables that the function uses later; where the "
            "loops do nothing else there is nothing to make faster.",
        )
    return _reading(env, function, part, leaving)


def _count(env: Environment) -> None:
    """Tells of variables that only count what they count to: with that it is lowered again."""
    region = env.region
    told = {ident for ident, _, _ in region.decisions.counted}
    for ident in region.decisions.counting - told:
        names = [name for name, held in region.holds.items() if held == ident]
        raise RestartError(counted=(ident, *counted(env.out, names, region.dtype_of(names[0]))))


def _enter(env: Environment, part: LoopNest, leaving: Mapping[int, Name]) -> None:
    """Scalars that the region assigns: temporaries, or arrays of one element where they matter."""
    region = env.region
    outer: set[int] = set()
    own = _declared(part)
    names = {n.ident: n for item in part.items for n in assigned(item)}
    for name in _by_helpers(region.unit, part):
        names[name.ident] = name
        if isinstance(name.type, PointerType):
            env.scope[name.ident] = Unknown("a function that the loops call moves it")
        if integer_type(name.type) is not None and name.ident not in region.decisions.data:
            raise RestartError(data=name.ident)  # loops do not see what a helper changes
    for name in names.values():
        kind, before = name.type, None if name.ident in own else env.scope.get(name.ident)
        if not isinstance(kind, ScalarType) or before is None:
            continue  # declared in the region, or a pointer
        symbolic = integer_type(kind) is not None and name.ident not in region.decisions.data
        if symbolic:
            if not isinstance(before, Known):
                why = "its value from before the loops is not known"
                env.scope[name.ident] = Unknown(why, symbolic=True)
            continue
        if kind.dtype is None:
            raise refusal(name.place, *wrong_type(f"{name.name!r}", kind))
        outer.add(name.ident)
        is_global = name.ident in region.unit.variables
        enters = name.ident in region.decisions.entering
        start = _number(before)
        if name.ident in leaving or is_global or (enters and start is None):
            env.scope[name.ident] = _live(env, name, kind.dtype, start)
            continue
        fresh = name.name if name.name in region.parameters else region.names.fresh(name.name)
        region.temporaries.append(Temporary(fresh, kind.dtype, 0))
        region.keep(fresh, name.ident)
        env.scope[name.ident] = Data(Access(fresh), kind.dtype, kind.const)
        if enters and start is not None:
            write(env, name.place, Access(fresh), True, "", start)
            env.given.add(name.ident)
    region.outer = frozenset(outer)


def _number(before: object) -> Expr | None:
    """What a variable is before the region, where that is a number."""
    if isinstance(before, Known) and before.form.is_constant:
        return number(before, before.dtype)
    return None


def _declared(part: LoopNest) -> set[int]:
    """The variables that ``part`` declares."""
    inside = (x for item in part.items for x in walk(item) if isinstance(x, DeclareS))
    return {variable.ident for x in inside for variable in x.variables}


def _by_helpers(unit: Unit, part: LoopNest) -> list[Name]:
    """Global variables that functions change which ``part`` calls."""
    found = [n for body in called(unit, part.items) for n in assigned(body)]
    return [n for n in found if n.ident in unit.variables]


def _live(env: Environment, name: Name, dtype: DType, start: Expr | None) -> Data:
    """A variable that enters or leaves the region: a local that an array of one element keeps."""
    region = env.region
    fresh = name.name if name.name in region.parameters else region.names.fresh(name.name)
    region.names.taken.add(fresh)
    found = Object(
        name.ident, fresh, ScalarType(dtype, dtype.value), (1,), False, text=f"&{name.name}"
    )
    region.arrays[name.ident, dtype, 0] = ArrayUse(fresh, found, dtype, ())
    kept = Access(fresh, (Affine(),))
    local = temporary(env, name.name, dtype)
    region.keep(local.array, name.ident)
    write(env, name.place, local, True, "", start or Read(kept))
    region.live[name.ident] = (local, kept)
    return Data(local, dtype)


def _leave(env: Environment, part: LoopNest) -> None:
    """Puts variables that leave the region where they are kept."""
    for local, kept in env.region.live.values():
        write(env, part.items[-1].place, kept, True, "", Read(local))


def used_after(function: CFunction, part: LoopNest) -> dict[int, Name]:
    """Variables whose value the function may use after the region."""
    inside = {id(x) for item in part.items for x in walk(item)}
    loops = any(isinstance(x, ForS | DoS) for x in part.around)
    end = part.items[-1].place.end
    after = [
        x
        for x in walk(function.body)
        if isinstance(x, Name) and id(x) not in inside and (loops or x.place.start >= end)
    ]
    found = {x.ident: x for x in after}
    for ident in list(found):
        if not loops and _set_again(function, part, ident):
            del found[ident]
    return found


def _set_again(function: CFunction, part: LoopNest, ident: int) -> bool:
    """Whether the next statement that uses a variable after the region gives it a new value."""
    end = part.items[-1].place.end
    for item in function.body.items:
        if item.place.start < end or ident not in used([item]):
            continue
        first = item.init if isinstance(item, ForS) else item
        match first:
            case ExpressionS(expression=AssignE(op="", target=Name(ident=mine), value=given)):
                return mine == ident and ident not in used([given])
        return False
    return False


def _memory(region: Region) -> set[str]:
    return {use.name for use in region.arrays.values()}


# --- the Program ------------------------------------------------------------------------------


def _reading(
    env: Environment, function: CFunction, part: LoopNest, leaving: Mapping[int, Name]
) -> Reading:
    region = env.region
    order = {p.name: n for n, p in enumerate(function.parameters)}
    uses = sorted(region.arrays.values(), key=lambda u: order.get(u.object.name, len(order)))
    scalars = sorted(region.scalars.values(), key=lambda s: order.get(s.name, len(order)))
    body = tuple(_shifted(node, {u.name: u.shift for u in uses if u.shift}) for node in env.out)
    program = Program(
        name=function.name,
        arrays=tuple(u.array() for u in uses),
        scalars=tuple(scalars),
        temporaries=tuple(region.temporaries),
        body=body,
    )
    assumed = dict(region.assumed)
    pointed = [u for u in uses if u.object.name in region.parameters or is_member(u.object.text)]
    named = [u for u in uses if u.object.ident in region.unit.variables and not u.object.values]
    if pointed and len(pointed) + len(named) > 1:
        assumed = {STRAIGHT: None, **assumed}
    own = _declared(part)
    return Reading(
        sink_temporaries(program),  # as its versions are: else those would seem to be faster
        function.name,
        part,
        tuple(_binding(u, own) for u in uses if not u.object.values),
        tuple(_leaving(env, leaving, part)),
        tuple(assumed),
    )


def _leaving(
    env: Environment, leaving: Mapping[int, Name], part: LoopNest
) -> list[tuple[str, Affine]]:
    """Symbolic variables that the function uses after the region."""
    found = []
    for name in {n.ident: n for item in part.items for n in assigned(item)}.values():
        if name.ident in leaving and isinstance(name.type, ScalarType):
            after = env.scope.get(name.ident)
            if isinstance(after, Known) and not after.form.names:
                found.append((name.name, after.form))
            elif isinstance(after, Known | Unknown):
                raise RestartError(data=name.ident)
    return found


def _binding(use: ArrayUse, own: set[int]) -> Binding:
    found = use.object
    name = found.text or found.name
    same = isinstance(found.element, ScalarType) and len(found.shape) == 1 and not found.rows
    text = name if same else f"({use.dtype.value} *){name}"
    return Binding(use.name, text, -use.shift, name.removeprefix("&"), found.ident in own)


def _shifted(node: Node, shifts: Mapping[str, int]) -> Node:
    """``node`` with the first subscripts of arrays moved, so that they begin at 0."""
    if not shifts:
        return node
    if isinstance(node, Loop):
        return replace(node, body=tuple(_shifted(n, shifts) for n in node.body))

    def access(found: Access) -> Access:
        by = shifts.get(found.array, 0)
        if not by:
            return found
        return Access(found.array, (found.subscripts[0] + by, *found.subscripts[1:]))

    def leaf(found: Literal | AffineValue | Read) -> Expr:
        return Read(access(found.access)) if isinstance(found, Read) else found

    def expr(found: Expr) -> Expr:
        return map_leaves(found, leaf)

    return replace(
        node,
        target=access(node.target),
        value=expr(node.value),
        condition=None if node.condition is None else expr(node.condition),
        derived=tuple(replace(d, value=expr(d.value)) for d in node.derived),
    )


def sizes_of(unit: Unit, function: CFunction, part: LoopNest) -> list[str]:
    """Integers from outside that bounds, subscripts or extents of ``part`` use, in order."""
    wanted: set[int] = set()
    items = [*part.items, *called(unit, part.items)]
    for item in items:
        for x in walk(item):
            match x:
                case ForS(init=init, condition=condition, step=step):
                    wanted |= set(used([h for h in (init, condition, step) if h is not None]))
                case DoS(condition=condition):
                    wanted |= set(used([condition]))
                case IndexE(index=index):
                    wanted |= set(used([index]))
                case BinaryE(type=PointerType()):
                    wanted |= set(used([x]))
    for parameter in function.parameters:
        wanted |= set(used(_lengths(parameter.type)))
    _follow_values(unit, [*part.before, *items], wanted)
    variables = [*function.parameters, *unit.variables.values()]
    names = [v.name for v in variables if v.ident in wanted and integer_type(v.type) is not None]
    given = {v.ident for v in variables} & wanted
    return [*names, *_member_sizes(function, [*part.before, *part.items], given)]


def _member_sizes(function: CFunction, items: Sequence[CStatement], given: set[int]) -> list[str]:
    """Members of the structures ``given`` that bounds and subscripts use, as C spells them."""
    changed = changed_members([function.body])
    return list(
        dict.fromkeys(
            full_text(x)
            for item in items
            for x in walk(item)
            if isinstance(x, MemberE) and integer_type(x.type) is not None
            if x.field not in changed and _root(x) in given
        )
    )


def _root(node: Expression) -> int | None:
    """The variable whose member, or member of a member, ``node`` is."""
    while isinstance(node, MemberE) or (isinstance(node, CastE) and node.implicit):
        node = node.base if isinstance(node, MemberE) else node.operand
    return node.ident if isinstance(node, Name) else None


def _follow_values(unit: Unit, items: Sequence[CStatement], wanted: set[int]) -> None:
    """Adds what the values of the variables ``wanted`` are made of."""
    given = [given for item in items for x in walk(item) for given in _given(unit, x)]
    before = -1
    while before != len(wanted):
        before = len(wanted)
        for ident, made_of in given:
            if ident in wanted:
                wanted |= set(used([made_of]))


def _given(unit: Unit, node: Tree) -> Iterator[tuple[int, Expression]]:
    match node:
        case AssignE(target=Name(ident=ident), value=value):
            yield ident, value
        case DeclareS(variables=variables):
            yield from ((v.ident, v.init) for v in variables if v.init is not None)
        case CallE(arguments=arguments) if (own := callee(unit, node)) is not None:
            yield from zip((p.ident for p in own.parameters), arguments, strict=False)


def _lengths(kind: CType) -> list[Expression]:
    """The expressions that say how long an array is."""
    found: list[Expression] = []
    while isinstance(kind, ArrayType | PointerType):
        length = kind.length if isinstance(kind, ArrayType) else None
        found += [] if length is None or isinstance(length, int) else [length]
        kind = kind.element if isinstance(kind, ArrayType) else kind.to
    return found
