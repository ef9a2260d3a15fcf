"""Calls of functions of the same file, read in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BlockS,
    CallE,
    CastE,
    CFunction,
    CStatement,
    EmptyS,
    Expression,
    ExpressionS,
    IfS,
    IndexE,
    MemberE,
    Name,
    Number,
    PointerType,
    ReturnS,
    ScalarType,
    Tree,
    UnaryE,
    Variable,
    rewritten,
    walk,
)
from agent.loopnest.lowering.assignments import temporary, write
from agent.loopnest.lowering.exits import without_exits
from agent.loopnest.lowering.forms import form, integer_type, not_affine
from agent.loopnest.lowering.pointers import pointer
from agent.loopnest.lowering.state import (
    MAX_INLINED,
    Data,
    Environment,
    InPlace,
    Known,
    NotAffineError,
    Pointer,
    RestartError,
    refusal,
)
from agent.loopnest.lowering.values import condition, constant, converted, scalar_type
from agent.loopnest.program import Affine, AffineValue, Derived, Expr, Literal, Select, reads

ONE_RETURN = (
    "Only functions of the file whose body is one `return` of whole numbers may stand here."
)


def inline(env: Environment, node: CallE, own: CFunction) -> Expr:
    """The value of a call; what the function does besides goes before the statement.

    Raises:
        SourceError: the function does what cannot be read in place.
    """
    _check(env, node, own)
    simple = all(isinstance(x, ReturnS | IfS | BlockS | EmptyS) for x in _leaves(own.body))
    for parameter, argument in zip(own.parameters, node.arguments, strict=True):
        variable = _variable_behind(env, argument)
        if variable is None:
            _bind(env, own, parameter, argument, simple=simple)
        else:
            env.scope.pop(parameter.ident, None)
            own = _directly(own, parameter, variable)
    inner = replace(env, inlined=(*env.inlined, own.name), kept=_numbers(env, node, own))
    if not simple and not env.sure:
        raise refusal(
            node.place,
            f"{own.name} does more than return a value, and is called under a condition",
            "Call it in a statement of its own, under an if: `if (c) v = f(x);`.",
        )
    if env.sure and (not simple or _reads_memory(own)) and _leaves_early(own):
        return _as_statements(inner, node, own)
    return _returned(inner, node, own.body.items)


def _numbers(env: Environment, node: CallE, own: CFunction) -> tuple[Derived, ...]:
    """The derived numbers that say where the pointers lead that a call passes.

    Raises:
        SourceError: one is read from memory, which the function might change.
    """
    passed = [env.scope.get(parameter.ident) for parameter in own.parameters]
    pointers = [x for x in passed if isinstance(x, Pointer)]
    names = {name for x in pointers for s in x.subscripts for name in s.names}
    found = tuple(d for d in env.derived if d.name in names and d not in env.kept)
    if any(any(reads(d.value)) for d in found):
        raise refusal(
            node.place,
            f"where a pointer that {own.name} gets leads is read from memory",
            "Pass the array and the subscript.",
        )
    return (*env.kept, *found)


def _reads_memory(own: CFunction) -> bool:
    return any(
        isinstance(x, IndexE | MemberE) or (isinstance(x, UnaryE) and x.op == "*")
        for x in walk(own.body)
    )


def _leaves_early(own: CFunction) -> bool:
    """Whether a condition decides where the function ends."""
    return any(isinstance(x, IfS) and _returns(x) for x in walk(own.body))


def _as_statements(env: Environment, node: CallE, own: CFunction) -> Expr:
    """A body with returns under conditions: what follows one is the other branch.

    The value goes into a variable; a function of type void has none.
    """
    place, ident = node.place, -1 - node.place.start
    name = None
    if isinstance(own.result, ScalarType):
        name = Name(place, own.result, own.name, ident)
        env.region.rules.declare(env, Variable(place, own.result, own.name, ident))
    env.region.rules.items(env, without_exits(own.body.items, partial(_result, name)))
    return Literal("0") if name is None else env.region.rules.value(env, name)


def _result(name: Name | None, item: CStatement) -> Sequence[CStatement] | None:
    """What stands in the place of a return: its value is assigned to ``name``."""
    if not isinstance(item, ReturnS):
        return None
    if name is None or item.value is None:
        return ()
    given = AssignE(item.place, name.type, "", name, item.value, name.type)
    return (ExpressionS(item.place, given),)


def _check(env: Environment, node: CallE, own: CFunction) -> None:
    if own.name in env.inlined or len(env.inlined) == MAX_INLINED:
        raise refusal(
            node.place,
            f"{own.name} calls itself: recursion is not read"
            if own.name in env.inlined
            else f"calls stand in calls more than {MAX_INLINED} deep",
            "No other spelling helps: only loops are read, and functions that call few others.",
        )
    if len(node.arguments) != len(own.parameters):
        raise refusal(
            node.place,
            f"{own.name} takes {len(own.parameters)} arguments",
            "Give it all its arguments; functions of any number of arguments are not read.",
        )


def _leaves(body: CStatement) -> Sequence[CStatement]:
    """The statements of a function, but those within a return."""
    return [x for x in walk(body) if isinstance(x, CStatement)]


def _variable_behind(env: Environment, argument: Expression) -> Name | None:
    """The scalar variable whose address an argument is."""
    while isinstance(argument, CastE) and argument.implicit:
        argument = argument.operand
    match argument:
        case UnaryE(op="&", operand=Name(type=ScalarType()) as name):
            if integer_type(name.type) is not None and name.ident not in env.region.decisions.data:
                raise RestartError(data=name.ident)
            return name
    return None


def _directly(own: CFunction, parameter: Variable, variable: Name) -> CFunction:
    """``own`` with ``variable`` where it uses what ``parameter`` points to."""

    def is_it(node: Tree) -> bool:
        while isinstance(node, CastE) and node.implicit:
            node = node.operand
        return isinstance(node, Name) and node.ident == parameter.ident

    def change(node: Tree) -> Tree | None:
        match node:
            case UnaryE(op="*", operand=operand) if is_it(operand):
                return replace(variable, place=node.place)
            case IndexE(base=base, index=Number(text="0")) if is_it(base):
                return replace(variable, place=node.place)
            case Name(ident=parameter.ident):
                return UnaryE(node.place, node.type, "&", replace(variable, place=node.place))
        return None

    return replace(own, body=cast(BlockS, rewritten(own.body, change)))


def _bind(
    env: Environment, own: CFunction, parameter: Variable, argument: Expression, *, simple: bool
) -> None:
    """A parameter stands for its argument, or for a variable that has its value."""
    if isinstance(parameter.type, PointerType | ArrayType):
        env.scope[parameter.ident] = pointer(env, argument)
        return
    dtype = scalar_type(argument, parameter.type)
    if integer_type(parameter.type) is not None and parameter.ident not in (
        env.region.decisions.data
    ):
        try:
            env.scope[parameter.ident] = Known(form(env, argument), dtype)
        except NotAffineError:
            pass
        else:
            return
        if parameter.ident in env.region.moving:
            raise RestartError(data=parameter.ident)
    given = converted(env, argument)
    uses = sum(isinstance(x, Name) and x.ident == parameter.ident for x in walk(own.body))
    leaf = isinstance(given, Literal | AffineValue)
    fixed = parameter.ident not in env.region.moving and not any(reads(given))  # no memory needed
    if fixed or (simple and (leaf or uses <= 1 or not env.sure)):
        env.scope[parameter.ident] = InPlace(given)
        return
    target = temporary(env, parameter.name, dtype)
    env.scope[parameter.ident] = Data(target, dtype)
    env.region.touched.add(parameter.ident)
    write(env, argument.place, target, True, "", given)


def _returned(env: Environment, node: CallE, items: Sequence[CStatement]) -> Expr:
    """What a body returns; its statements but the last go before."""
    for index, item in enumerate(items):
        match item:
            case ReturnS(value=None):
                return Literal("0")
            case ReturnS(value=value) if value is not None:
                return converted(env, value)
            case BlockS(items=inner) if index == len(items) - 1:
                return _returned(env, node, inner)
            case IfS() if _returns(item):
                return _chosen(env, node, item, items[index + 1 :])
            case _:
                env.region.rules.items(env, [item])
    return Literal("0")


def _returns(item: CStatement) -> bool:
    return any(isinstance(x, ReturnS) for x in walk(item))


def _chosen(env: Environment, node: CallE, item: IfS, rest: Sequence[CStatement]) -> Expr:
    """``if (c) return a; return b;`` as ``c ? a : b``."""
    yes = item.yes.items if isinstance(item.yes, BlockS) else (item.yes,)
    no = rest
    if item.no is not None:
        no = (*(item.no.items if isinstance(item.no, BlockS) else (item.no,)), *rest)
    known = constant(env, item.condition)
    if known is not None:
        return _returned(env, node, (*yes, *rest) if known else no)
    if not yes or not isinstance(yes[-1], ReturnS):
        raise refusal(
            item.place,
            "a return in the middle of a function is not read under a condition",
            "Call the function in a statement of its own, or let it end in one return.",
        )
    test = condition(env, item.condition)
    later = replace(env, sure=False)
    return Select(test, _returned(later, node, yes), _returned(later, node, no))


def call_form(env: Environment, node: CallE) -> Affine:
    """A call whose value is an affine form: of a function that returns one expression.

    Raises:
        NotAffineError: it is none.
    """
    own = (
        env.region.unit.functions.get(node.callee.ident) if isinstance(node.callee, Name) else None
    )
    if own is None or len(own.body.items) != 1 or not isinstance(own.body.items[0], ReturnS):
        raise not_affine(node, "it calls a function", ONE_RETURN)
    value = own.body.items[0].value
    assigns = any(
        isinstance(x, AssignE) or (isinstance(x, UnaryE) and x.op[-1] in "+-" and len(x.op) > 1)
        for x in walk(own.body)
    )
    if value is None or assigns or own.name in env.inlined:
        raise not_affine(node, "it calls a function", ONE_RETURN)
    _check(env, node, own)
    scope = dict(env.scope)
    for parameter, argument in zip(own.parameters, node.arguments, strict=True):
        dtype = integer_type(parameter.type)
        if dtype is None:
            raise not_affine(node, "it calls a function", ONE_RETURN)
        scope[parameter.ident] = Known(form(env, argument), dtype)
    return form(replace(env, scope=scope, inlined=(*env.inlined, own.name)), value)
