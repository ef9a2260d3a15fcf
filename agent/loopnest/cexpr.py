"""C expressions of the region as expressions of the IR, and as affine functions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from pycparser import c_ast, c_generator

from agent.errors import SourceError
from agent.loopnest import cproof
from agent.loopnest.csource import (
    MAX_ARRAYS,
    MAX_DEPTH,
    MAX_INT,
    MAX_NODES,
    ArrayParameter,
    ArrayUse,
    Iterator,
    Local,
    Names,
    Parameter,
    Refused,
    Scope,
    Size,
    Source,
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
    Loop,
    Read,
    Scalar,
    Select,
    Temporary,
    Unary,
)

_INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)([uU]?[lL]{0,2}|[lL]{1,2}[uU])")
_FLOAT = re.compile(r"(([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)[fF]?")
_INTEGER_ONLY = frozenset("% << >> & | ^".split())
_YES_NO = frozenset("< <= > >= == != && ||".split())
_MAX_LITERAL = 60  # characters


@dataclass
class Region:
    """The Program being built: what its expressions have used so far."""

    source: Source
    names: Names = field(default_factory=Names)
    arrays: dict[str, ArrayUse] = field(default_factory=dict)
    scalars: dict[str, Scalar] = field(default_factory=dict)
    temporaries: list[Temporary] = field(default_factory=list)
    parameters: Scope = field(default_factory=dict)
    missing: tuple[str, ...] = ()  # parameters without a value that arrays' shapes use
    prover: cproof.Prover = field(default_factory=cproof.Prover)
    statements: int = 0
    nodes: int = 0  # of the expression being read

    def dtype_of(self, name: str) -> DType:
        """Element type of an array, scalar or temporary used so far."""
        if name in self.arrays:
            return self.arrays[name].array.dtype
        if name in self.scalars:
            return self.scalars[name].dtype
        return next(t.dtype for t in self.temporaries if t.name == name)


@dataclass(frozen=True)
class Place:
    """Where an expression stands: the names in sight and the loops around it."""

    region: Region
    scope: Scope
    around: tuple[Loop, ...] = ()

    def error(self, node: c_ast.Node | None, message: str, hint: str = "") -> SourceError:
        """A SourceError at ``node``."""
        return self.region.source.error(node, message, hint)


# --- affine functions -------------------------------------------------------------------------


def affine(place: Place, node: c_ast.Node, what: str, depth: int = 0) -> Affine:
    """``node`` as an affine function of the iterators, sizes replaced by their values.

    Raises:
        SourceError: it is not affine, uses data, or a size is missing; ``what`` says where.
    """
    if depth > MAX_DEPTH:
        raise place.error(node, f"{what} is nested too deeply")
    match node:
        case c_ast.Constant():
            value = Affine.constant(_whole(place, node, what))
        case c_ast.ID():
            value = _affine_name(place, node, what)
        case c_ast.UnaryOp(op="+" | "-"):
            inner = affine(place, node.expr, what, depth + 1)
            value = -inner if node.op == "-" else inner
        case c_ast.BinaryOp():
            left = affine(place, node.left, what, depth + 1)
            right = affine(place, node.right, what, depth + 1)
            value = _affine_operation(place, node, left, right, what)
        case _:
            raise _not_affine(place, node, what)
    if any(abs(n) > MAX_INT for n in (value.const, *(c for _, c in value.terms))):
        raise place.error(node, f"{what} does not fit into an int")
    return value


def _not_affine(place: Place, node: c_ast.Node, what: str) -> SourceError:
    kinds = {
        c_ast.ArrayRef: "it reads an array (indirect)",
        c_ast.FuncCall: "it calls a function",
        c_ast.Cast: "it has a cast",
        c_ast.TernaryOp: "it depends on a condition",
        c_ast.Assignment: "it assigns",
    }
    why = kinds.get(type(node), "only + - * of iterators, sizes and whole numbers are")
    return place.error(node, f"{what} `{shown(node)}` is not affine: {why}")


def _whole(place: Place, node: c_ast.Constant, what: str) -> int:
    text = node.value
    match = _INTEGER.fullmatch(text) if len(text) <= _MAX_LITERAL else None
    if not match:
        raise place.error(node, f"{what} must be made of whole numbers, not {text[:20]!r}")
    digits = match[1]
    return int(digits, 8 if digits.isdigit() and digits[0] == "0" else 0)


def _affine_name(place: Place, node: c_ast.ID, what: str) -> Affine:
    entity = place.scope.get(node.name)
    match entity:
        case Size(value):
            return Affine.constant(value)
        case Iterator(value=value):
            return value
        case Parameter(type=kind) if kind.integer:
            raise missing_size(place, node, node.name)
        case None | Refused():
            raise undeclared(place, node)
        case _:
            raise place.error(
                node,
                f"{what} depends on the data in {node.name!r}, so it is not affine",
                hint="Only iterators, sizes and whole numbers may stand here.",
            )


def missing_size(place: Place, node: c_ast.Node, name: str) -> SourceError:
    """The error for a size parameter without a value."""
    needed = dict.fromkeys((name, *place.region.missing))
    return place.error(
        node,
        f"the size {name!r} has no value",
        hint="Add " + " ".join(f"--size {n}=..." for n in needed) + ".",
    )


def undeclared(place: Place, node: c_ast.ID) -> SourceError:
    """The error for a name that stands for nothing usable."""
    entity = place.scope.get(node.name)
    if isinstance(entity, Refused):
        return place.error(node, f"{node.name!r} cannot be used in the region: {entity.why}")
    return place.error(
        node,
        f"{node.name!r} is not declared",
        hint="Everything the region uses is a parameter of the function, an iterator or declared "
        "in the region. If it is a macro from a header, add --cflags.",
    )


def _affine_operation(
    place: Place, node: c_ast.BinaryOp, left: Affine, right: Affine, what: str
) -> Affine:
    if node.op == "+":
        return left + right
    if node.op == "-":
        return left - right
    if node.op == "*" and (left.is_constant or right.is_constant):
        return left * right.const if right.is_constant else right * left.const
    if left.is_constant and right.is_constant and node.op in ("/", "%", "<<", ">>"):
        return Affine.constant(_fold(place, node, left.const, right.const, what))
    why = "a product of iterators" if node.op == "*" else f"{node.op!r} of an iterator"
    raise place.error(node, f"{what} `{shown(node)}` is not affine: {why}")


def _fold(place: Place, node: c_ast.BinaryOp, left: int, right: int, what: str) -> int:
    if node.op in ("<<", ">>"):
        if left < 0 or not 0 <= right < 31:
            raise place.error(node, f"{what} shifts by {right}")
        return left << right if node.op == "<<" else left >> right
    if right == 0:
        raise place.error(node, f"{what} divides by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if node.op == "/" else left - quotient * right


def constant(place: Place, node: c_ast.Node, what: str) -> int:
    """``node`` as a number.

    Raises:
        SourceError: it depends on an iterator, or is not affine.
    """
    value = affine(place, node, what)
    if not value.is_constant:
        raise place.error(node, f"{what} `{shown(node)}` must not depend on an iterator")
    return value.const


# --- values -----------------------------------------------------------------------------------


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
    if len(text) <= _MAX_LITERAL:
        if (match := _INTEGER.fullmatch(text)) and _whole(place, node, "a number") < 1 << 63:
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
            return Read(scalar_access(place, node)[0])


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
    if node.op == "~" and is_float(place.region, operand):
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
    region = place.region
    if node.op in _INTEGER_ONLY and (is_float(region, left) or is_float(region, right)):
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


def is_float(region: Region, expr: Expr) -> bool:
    """Whether the value has a floating type in C."""
    match expr:
        case Literal(text):
            return not _INTEGER.fullmatch(text)
        case Read(access):
            return region.dtype_of(access.array).is_float
        case Unary(op, x):
            return op != "!" and is_float(region, x)
        case Binary(op, left, right):
            return op not in _YES_NO and (is_float(region, left) or is_float(region, right))
        case Select(_, yes, no):
            return is_float(region, yes) or is_float(region, no)
        case Call(function, _):
            return function != "abs"
        case Cast(dtype, _):
            return dtype.is_float
        case Index():
            return False


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


_GENERATOR = c_generator.CGenerator()


def shown(node: c_ast.Node) -> str:
    """``node`` as C, short enough for a message."""
    try:
        text = " ".join(_GENERATOR.visit(node).split())
    except RecursionError:
        return "..."
    return text if len(text) <= 60 else text[:57] + "..."
