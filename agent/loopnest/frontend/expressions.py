"""C expressions of the region as expressions of the IR."""

from __future__ import annotations

import math
import re

from pycparser import c_ast

from agent.errors import SourceError
from agent.loopnest.frontend.affine import (
    INTEGER,
    MAX_LITERAL,
    affine_form,
    c_excerpt,
    constant,
    missing_size,
    undeclared,
    whole,
)
from agent.loopnest.frontend.source import (
    MAX_ARRAYS,
    MAX_INT,
    MAX_NODES,
    MAX_OPERATORS_DEEP,
    ArrayParameter,
    ArrayUse,
    Environment,
    Iterator,
    KnownSize,
    Local,
    Parameter,
    Refused,
)
from agent.loopnest.program import (
    BINARY_OPS,
    FUNCTIONS,
    Access,
    Affine,
    AffineValue,
    Array,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Read,
    Scalar,
    Select,
    Temporary,
    Unary,
    is_float,
)

_FLOAT = re.compile(r"(([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)[fF]?")
_INTEGER_ONLY = frozenset("% << >> & | ^".split())


def expression(env: Environment, node: c_ast.Node) -> Expr:
    """``node`` as a value of the IR.

    Raises:
        SourceError: it has side effects or something else the IR does not know.
    """
    env.region.nodes = 0
    return _value(env, node, 0)


def _value(env: Environment, node: c_ast.Node, depth: int) -> Expr:
    env.region.nodes += 1
    if depth > MAX_OPERATORS_DEEP or env.region.nodes > MAX_NODES:
        raise env.error(node, "the expression is too large or nested too deeply")
    match node:
        case c_ast.Constant():
            return _literal(env, node)
        case c_ast.ID():
            return _name(env, node)
        case c_ast.ArrayRef():
            return Read(array_access(env, node)[0])
        case c_ast.UnaryOp():
            return _unary(env, node, depth)
        case c_ast.BinaryOp():
            return _binary(env, node, depth)
        case c_ast.TernaryOp():
            return Select(
                _value(env, node.cond, depth + 1),
                _value(env, node.iftrue, depth + 1),
                _value(env, node.iffalse, depth + 1),
            )
        case c_ast.Cast():
            return Cast(_cast_type(env, node), _value(env, node.expr, depth + 1))
        case c_ast.FuncCall():
            return _call(env, node, depth)
        case _:
            raise env.error(node, _why_not(node))


def _cast_type(env: Environment, node: c_ast.Cast) -> DType:
    kind = env.region.source.scalar_type(node.to_type)
    if kind is None or kind.dtype is None:
        raise env.error(node, f"a cast to {c_excerpt(node.to_type)!r} is not supported")
    return kind.dtype


def _why_not(node: c_ast.Node) -> str:
    match node:
        case c_ast.Assignment():
            return "an assignment inside an expression is not supported"
        case c_ast.StructRef():
            return "structures are not supported"
        case _:
            return f"this kind of expression ({_kind(node)}) is not supported"


def _kind(node: c_ast.Node) -> str:
    return {"ExprList": "comma", "CompoundLiteral": "compound literal"}.get(
        type(node).__name__, type(node).__name__
    )


def _literal(env: Environment, node: c_ast.Constant) -> Literal:
    text = node.value
    if len(text) <= MAX_LITERAL:
        if (match := INTEGER.fullmatch(text)) and whole(env, node, "a number") < 1 << 63:
            return Literal(match[0])
        if _FLOAT.fullmatch(text) and math.isfinite(float(text.rstrip("fF"))):
            return Literal(text)
    raise env.error(
        node,
        f"the constant {text[:20]} is not supported",
        hint="Decimal numbers with or without f, and whole numbers, are.",
    )


def _name(env: Environment, node: c_ast.ID) -> Expr:
    match env.scope.get(node.name):
        case KnownSize(value):
            return Literal(str(value)) if value >= 0 else Unary("-", Literal(str(-value)))
        case Iterator(value, kind):
            if kind.dtype is not DType.I32:
                raise env.error(
                    node,
                    f"the iterator {node.name!r} is used as a value but is not an int",
                    hint=f"Declare {node.name!r} as int.",
                )
            return AffineValue(value)
        case _:
            access, _ = scalar_access(env, node)
            check_assigned(env, node)
            return Read(access)


def _unary(env: Environment, node: c_ast.UnaryOp, depth: int) -> Expr:
    if node.op in ("++", "--", "p++", "p--"):
        raise env.error(node, "++ and -- inside an expression are not supported")
    if node.op in ("*", "&"):
        raise env.error(
            node,
            "pointers are not supported in the region",
            hint="Declare the array with its sizes, A[n][m], and use subscripts.",
        )
    if node.op not in ("+", "-", "!", "~"):
        raise env.error(node, f"{node.op!r} is not supported")
    operand = _value(env, node.expr, depth + 1)
    if node.op == "~" and is_float(operand, env.region.dtype_of):
        raise env.error(node, "~ needs a whole number")
    if node.op == "+":  # arithmetic promotion is all that unary + does
        return Binary("+", Literal("0"), operand) if _is_byte(env, operand) else operand
    return Unary(node.op, operand)


def _is_byte(env: Environment, expr: Expr) -> bool:
    match expr:
        case Read(access):
            return env.region.dtype_of(access.array) is DType.U8
        case Cast(dtype, _):
            return dtype is DType.U8
        case _:
            return False


def _binary(env: Environment, node: c_ast.BinaryOp, depth: int) -> Expr:
    if node.op not in BINARY_OPS:
        raise env.error(node, f"the operator {node.op!r} is not supported")
    left = _value(env, node.left, depth + 1)
    right = _value(env, node.right, depth + 1)
    floating = any(is_float(x, env.region.dtype_of) for x in (left, right))
    if node.op in _INTEGER_ONLY and floating:
        raise env.error(node, f"the operator {node.op!r} needs whole numbers")
    return Binary(node.op, left, right)


def _call(env: Environment, node: c_ast.FuncCall, depth: int) -> Expr:
    name = node.name.name if isinstance(node.name, c_ast.ID) else c_excerpt(node.name)
    arguments = node.args.exprs if node.args else []
    if name not in FUNCTIONS:
        raise env.error(
            node,
            f"a call of {name!r} is not supported",
            hint="Functions that may be called: " + ", ".join(FUNCTIONS) + ".",
        )
    if len(arguments) != FUNCTIONS[name]:
        raise env.error(node, f"{name} takes {FUNCTIONS[name]} argument(s)")
    return Call(name, tuple(_value(env, a, depth + 1) for a in arguments))


# --- accesses ---------------------------------------------------------------------------------


def scalar_access(env: Environment, node: c_ast.ID) -> tuple[Access, bool]:
    """The access to a scalar parameter or temporary, and whether it may be assigned."""
    region = env.region
    match env.scope.get(node.name):
        case Parameter(name, kind):
            if kind.dtype is None:
                raise missing_size(env, node, name)
            region.scalars.setdefault(name, Scalar(name, kind.dtype))
            return Access(name), False
        case Local() as local:
            return Access(_temporary(env, node, local)), not local.type.const
        case ArrayParameter(name, _, dims):
            raise env.error(node, f"the array {name!r} needs {len(dims)} subscript(s)")
        case KnownSize() | Iterator():
            return Access(node.name), False
        case _:
            raise undeclared(env, node)


def check_assigned(env: Environment, node: c_ast.Node) -> None:
    """Refuse to read a variable to which nothing above ``node`` gives a value."""
    local = env.scope.get(node.name) if isinstance(node, c_ast.ID) else None
    if isinstance(local, Local) and not local.assigned:
        raise env.error(
            node,
            f"{local.name!r} is read before the region gives it a value",
            hint="Give it its first value where it is declared, or in a statement further up.",
        )


def _temporary(env: Environment, node: c_ast.ID, local: Local) -> str:
    if local.is_iterator:
        raise env.error(
            node,
            f"{local.name!r} is used as data here and as an iterator elsewhere",
            hint="Declare the iterator in its loop: for (int i = ...).",
        )
    if not local.temporary:
        local.temporary = declare_temporary(env, node, local)
    return local.temporary


def declare_temporary(env: Environment, node: c_ast.Node, local: Local) -> str:
    """``local`` as a temporary of the Program; returns its name there."""
    if local.type.dtype is None:
        raise env.error(
            node,
            f"{local.name!r} has the type {local.type.text!r}",
            hint="Data is float, double, int (int32_t) or unsigned char (uint8_t).",
        )
    name = env.region.names.fresh(local.name)
    env.region.temporaries.append(Temporary(name, local.type.dtype, local.depth))
    return name


def array_access(env: Environment, node: c_ast.ArrayRef) -> tuple[Access, bool]:
    """The access to an array element, proved in bounds, and whether it may be assigned."""
    subscripts: list[c_ast.Node] = []
    inner: c_ast.Node = node
    while isinstance(inner, c_ast.ArrayRef):
        subscripts.append(inner.subscript)
        inner = inner.name
    entity = env.scope.get(inner.name) if isinstance(inner, c_ast.ID) else None
    if not isinstance(entity, ArrayParameter):
        if not isinstance(inner, c_ast.ID):
            raise env.error(inner, f"`{c_excerpt(inner)}` is not the name of an array")
        if entity is None or isinstance(entity, Refused):
            raise undeclared(env, inner)
        raise env.error(inner, f"{inner.name!r} is not an array")
    if len(subscripts) != len(entity.dims):
        raise env.error(
            node, f"{entity.name!r} has {len(entity.dims)} dimension(s), not {len(subscripts)}"
        )
    use = _use(env, node, entity)
    values = [
        affine_form(env, s, f"the subscript of {entity.name!r}") for s in reversed(subscripts)
    ]
    for number, (value, extent) in enumerate(zip(values, use.array.shape, strict=True), 1):
        _prove(env, node, use.array, number, value, extent)
    return Access(entity.name, tuple(values)), not use.const


def _prove(
    env: Environment, node: c_ast.ArrayRef, array: Array, number: int, value: Affine, extent: int
) -> None:
    try:
        found = env.region.prover.outside(env.around, value, extent)
    except SourceError as failure:
        raise env.error(node, failure.message, failure.hint) from failure
    if found is not None:
        shape = "".join(f"[{extent}]" for extent in array.shape)
        raise env.error(
            node,
            f"`{c_excerpt(node)}` is out of bounds: subscript {number} runs from {found[0]} to "
            f"{found[1]}, and {array.name}{shape} has 0 to {extent - 1} there",
            hint="Check the loop's bounds, the array's shape and the sizes given with --size. "
            "A condition around an access does not count.",
        )


def _use(env: Environment, node: c_ast.Node, entity: ArrayParameter) -> ArrayUse:
    arrays = env.region.arrays
    if entity.name not in arrays:
        if entity.type.dtype is None:
            raise env.error(
                node,
                f"the array {entity.name!r} has elements of type {entity.type.text!r}",
                hint="Elements are float, double, int (int32_t) or unsigned char (uint8_t).",
            )
        if len(arrays) == MAX_ARRAYS:
            raise env.error(node, f"the region uses more than {MAX_ARRAYS} arrays")
        shape = tuple(_extent(env, entity, dim) for dim in entity.dims)
        arrays[entity.name] = ArrayUse(
            Array(entity.name, entity.type.dtype, shape), entity.type.const
        )
    return arrays[entity.name]


def _extent(env: Environment, entity: ArrayParameter, dim: c_ast.Node | None) -> int:
    what = f"the shape of {entity.name!r}"
    if dim is None:
        raise env.error(
            entity.node, f"{what} is not given", hint=f"Write it with its sizes: {entity.name}[n]."
        )
    extent = constant(Environment(env.region, env.region.parameters), dim, what)
    if not 1 <= extent <= MAX_INT:
        raise env.error(dim, f"{what} has a dimension of {extent} elements")
    return extent
