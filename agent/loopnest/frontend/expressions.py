"""C expressions of the region as expressions of the IR."""

from __future__ import annotations

import math
import re

from pycparser import c_ast

from agent.errors import SourceError
from agent.loopnest.frontend.affine import (
    INTEGER,
    MAX_LITERAL,
    affine,
    constant,
    missing_size,
    shown,
    undeclared,
    whole,
)
from agent.loopnest.frontend.source import (
    MAX_ARRAYS,
    MAX_DEPTH,
    MAX_INT,
    MAX_NODES,
    ArrayParameter,
    ArrayUse,
    Iterator,
    Local,
    Parameter,
    Place,
    Refused,
    Size,
)
from agent.loopnest.program import (
    BINARY_OPS,
    FUNCTIONS,
    Access,
    Affine,
    Array,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Index,
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


def expression(place: Place, node: c_ast.Node) -> Expr:
    """``node`` as a value of the IR.

    Raises:
        SourceError: it has side effects or something else the IR does not know.
    """
    place.region.nodes = 0
    return _value(place, node, 0)


def _value(place: Place, node: c_ast.Node, depth: int) -> Expr:
    place.region.nodes += 1
    if depth > MAX_DEPTH or place.region.nodes > MAX_NODES:
        raise place.error(node, "the expression is too large or nested too deeply")
    match node:
        case c_ast.Constant():
            return _literal(place, node)
        case c_ast.ID():
            return _name(place, node)
        case c_ast.ArrayRef():
            return Read(array_access(place, node)[0])
        case c_ast.UnaryOp():
            return _unary(place, node, depth)
        case c_ast.BinaryOp():
            return _binary(place, node, depth)
        case c_ast.TernaryOp():
            return Select(
                _value(place, node.cond, depth + 1),
                _value(place, node.iftrue, depth + 1),
                _value(place, node.iffalse, depth + 1),
            )
        case c_ast.Cast():
            kind = place.region.source.scalar_type(node.to_type)
            if kind is None or kind.dtype is None:
                raise place.error(node, f"a cast to {shown(node.to_type)!r} is not supported")
            return Cast(kind.dtype, _value(place, node.expr, depth + 1))
        case c_ast.FuncCall():
            return _call(place, node, depth)
        case c_ast.Assignment():
            raise place.error(node, "an assignment inside an expression is not supported")
        case c_ast.StructRef():
            raise place.error(node, "structures are not supported")
        case _:
            raise place.error(node, f"this kind of expression ({_kind(node)}) is not supported")


def _kind(node: c_ast.Node) -> str:
    return {"ExprList": "comma", "CompoundLiteral": "compound literal"}.get(
        type(node).__name__, type(node).__name__
    )


def _literal(place: Place, node: c_ast.Constant) -> Literal:
    text = node.value
    if len(text) <= MAX_LITERAL:
        if (match := INTEGER.fullmatch(text)) and whole(place, node, "a number") < 1 << 63:
            return Literal(match[0])
        if _FLOAT.fullmatch(text) and math.isfinite(float(text.rstrip("fF"))):
            return Literal(text)
    raise place.error(
        node,
        f"the constant {text[:20]} is not supported",
        hint="Decimal numbers with or without f, and whole numbers, are.",
    )


def _name(place: Place, node: c_ast.ID) -> Expr:
    match place.scope.get(node.name):
        case Size(value):
            return Literal(str(value)) if value >= 0 else Unary("-", Literal(str(-value)))
        case Iterator(value, kind):
            if kind.dtype is not DType.I32:
                raise place.error(
                    node,
                    f"the iterator {node.name!r} is used as a value but is not an int",
                    hint=f"Declare {node.name!r} as int.",
                )
            return Index(value)
        case _:
            access, _ = scalar_access(place, node)
            check_assigned(place, node)
            return Read(access)


def _unary(place: Place, node: c_ast.UnaryOp, depth: int) -> Expr:
    if node.op in ("++", "--", "p++", "p--"):
        raise place.error(node, "++ and -- inside an expression are not supported")
    if node.op in ("*", "&"):
        raise place.error(
            node,
            "pointers are not supported in the region",
            hint="Declare the array with its sizes, A[n][m], and use subscripts.",
        )
    if node.op not in ("+", "-", "!", "~"):
        raise place.error(node, f"{node.op!r} is not supported")
    operand = _value(place, node.expr, depth + 1)
    if node.op == "~" and is_float(operand, place.region.dtype_of):
        raise place.error(node, "~ needs a whole number")
    if node.op == "+":  # arithmetic promotion is all that unary + does
        return Binary("+", Literal("0"), operand) if _is_byte(place, operand) else operand
    return Unary(node.op, operand)


def _is_byte(place: Place, expr: Expr) -> bool:
    match expr:
        case Read(access):
            return place.region.dtype_of(access.array) is DType.U8
        case Cast(dtype, _):
            return dtype is DType.U8
        case _:
            return False


def _binary(place: Place, node: c_ast.BinaryOp, depth: int) -> Expr:
    if node.op not in BINARY_OPS:
        raise place.error(node, f"the operator {node.op!r} is not supported")
    left = _value(place, node.left, depth + 1)
    right = _value(place, node.right, depth + 1)
    floating = any(is_float(x, place.region.dtype_of) for x in (left, right))
    if node.op in _INTEGER_ONLY and floating:
        raise place.error(node, f"the operator {node.op!r} needs whole numbers")
    return Binary(node.op, left, right)


def _call(place: Place, node: c_ast.FuncCall, depth: int) -> Expr:
    name = node.name.name if isinstance(node.name, c_ast.ID) else shown(node.name)
    arguments = node.args.exprs if node.args else []
    if name not in FUNCTIONS:
        raise place.error(
            node,
            f"a call of {name!r} is not supported",
            hint="Functions that may be called: " + ", ".join(FUNCTIONS) + ".",
        )
    if len(arguments) != FUNCTIONS[name]:
        raise place.error(node, f"{name} takes {FUNCTIONS[name]} argument(s)")
    return Call(name, tuple(_value(place, a, depth + 1) for a in arguments))


# --- accesses ---------------------------------------------------------------------------------


def scalar_access(place: Place, node: c_ast.ID) -> tuple[Access, bool]:
    """The access to a scalar parameter or temporary, and whether it may be assigned."""
    region = place.region
    match place.scope.get(node.name):
        case Parameter(name, kind):
            if kind.dtype is None:
                raise missing_size(place, node, name)
            region.scalars.setdefault(name, Scalar(name, kind.dtype))
            return Access(name), False
        case Local() as local:
            return Access(_temporary(place, node, local)), not local.type.const
        case ArrayParameter(name, _, dims):
            raise place.error(node, f"the array {name!r} needs {len(dims)} subscript(s)")
        case Size() | Iterator():
            return Access(node.name), False
        case _:
            raise undeclared(place, node)


def check_assigned(place: Place, node: c_ast.Node) -> None:
    """Refuse to read a variable to which nothing above ``node`` gives a value."""
    local = place.scope.get(node.name) if isinstance(node, c_ast.ID) else None
    if isinstance(local, Local) and not local.assigned:
        raise place.error(
            node,
            f"{local.name!r} is read before the region gives it a value",
            hint="Give it its first value where it is declared, or in a statement further up.",
        )


def _temporary(place: Place, node: c_ast.ID, local: Local) -> str:
    if local.is_iterator:
        raise place.error(
            node,
            f"{local.name!r} is used as data here and as an iterator elsewhere",
            hint="Declare the iterator in its loop: for (int i = ...).",
        )
    if not local.temporary:
        local.temporary = declare_temporary(place, node, local)
    return local.temporary


def declare_temporary(place: Place, node: c_ast.Node, local: Local) -> str:
    """``local`` as a temporary of the Program; returns its name there."""
    if local.type.dtype is None:
        raise place.error(
            node,
            f"{local.name!r} has the type {local.type.text!r}",
            hint="Data is float, double, int (int32_t) or unsigned char (uint8_t).",
        )
    name = place.region.names.fresh(local.name)
    place.region.temporaries.append(Temporary(name, local.type.dtype, local.depth))
    return name


def array_access(place: Place, node: c_ast.ArrayRef) -> tuple[Access, bool]:
    """The access to an array element, proved in bounds, and whether it may be assigned."""
    subscripts: list[c_ast.Node] = []
    inner: c_ast.Node = node
    while isinstance(inner, c_ast.ArrayRef):
        subscripts.append(inner.subscript)
        inner = inner.name
    entity = place.scope.get(inner.name) if isinstance(inner, c_ast.ID) else None
    if not isinstance(entity, ArrayParameter):
        if not isinstance(inner, c_ast.ID):
            raise place.error(inner, f"`{shown(inner)}` is not the name of an array")
        if entity is None or isinstance(entity, Refused):
            raise undeclared(place, inner)
        raise place.error(inner, f"{inner.name!r} is not an array")
    if len(subscripts) != len(entity.dims):
        raise place.error(
            node, f"{entity.name!r} has {len(entity.dims)} dimension(s), not {len(subscripts)}"
        )
    use = _use(place, node, entity)
    values = [affine(place, s, f"the subscript of {entity.name!r}") for s in reversed(subscripts)]
    for number, (value, extent) in enumerate(zip(values, use.array.shape, strict=True), 1):
        _prove(place, node, use.array, number, value, extent)
    return Access(entity.name, tuple(values)), not use.const


def _prove(
    place: Place, node: c_ast.ArrayRef, array: Array, number: int, value: Affine, extent: int
) -> None:
    try:
        found = place.region.prover.outside(place.around, value, extent)
    except SourceError as failure:
        raise place.error(node, failure.message, failure.hint) from failure
    if found is not None:
        shape = "".join(f"[{extent}]" for extent in array.shape)
        raise place.error(
            node,
            f"`{shown(node)}` is out of bounds: subscript {number} runs from {found[0]} to "
            f"{found[1]}, and {array.name}{shape} has 0 to {extent - 1} there",
            hint="Check the loop's bounds, the array's shape and the sizes given with --size. "
            "A condition around an access does not count.",
        )


def _use(place: Place, node: c_ast.Node, entity: ArrayParameter) -> ArrayUse:
    arrays = place.region.arrays
    if entity.name not in arrays:
        if entity.type.dtype is None:
            raise place.error(
                node,
                f"the array {entity.name!r} has elements of type {entity.type.text!r}",
                hint="Elements are float, double, int (int32_t) or unsigned char (uint8_t).",
            )
        if len(arrays) == MAX_ARRAYS:
            raise place.error(node, f"the region uses more than {MAX_ARRAYS} arrays")
        shape = tuple(_extent(place, entity, dim) for dim in entity.dims)
        arrays[entity.name] = ArrayUse(
            Array(entity.name, entity.type.dtype, shape), entity.type.const
        )
    return arrays[entity.name]


def _extent(place: Place, entity: ArrayParameter, dim: c_ast.Node | None) -> int:
    what = f"the shape of {entity.name!r}"
    if dim is None:
        raise place.error(
            entity.node, f"{what} is not given", hint=f"Write it with its sizes: {entity.name}[n]."
        )
    extent = constant(Place(place.region, place.region.parameters), dim, what)
    if not 1 <= extent <= MAX_INT:
        raise place.error(dim, f"{what} has a dimension of {extent} elements")
    return extent
