"""Where data lies: arrays, rows, pointers into them, fields of structures.

An access is proved to stay within the array where C says how long it is; where only a pointer is
given, the accesses say how long it must be.
"""

from __future__ import annotations

from dataclasses import replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    BinaryE,
    CastE,
    CType,
    Expression,
    Field,
    IndexE,
    MemberE,
    Name,
    Place,
    PointerType,
    RecordType,
    ScalarType,
    UnaryE,
)
from agent.loopnest.lowering.forms import integer_type
from agent.loopnest.lowering.members import member_array
from agent.loopnest.lowering.numbers import subscript
from agent.loopnest.lowering.printing import c_text
from agent.loopnest.lowering.state import (
    MAX_ARRAYS,
    MAX_ELEMENTS,
    STEPS,
    Argument,
    ArrayUse,
    Data,
    Environment,
    Known,
    Object,
    Pointer,
    Range,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.program import Access, Affine, DType, Read, Scalar, reads

INSIDE = "subscripts that are read from data stay inside of their arrays"
VALUE = "Give it its value in the loops, above where it is used, or pass it as a parameter."
STRAIGHT = "no two pointers of the function lead to the same memory"


def place(env: Environment, node: Expression) -> tuple[Access, bool]:
    """The access that the lvalue ``node`` is, and whether it may be assigned.

    Raises:
        SourceError: it is none of an array, or leaves it.
    """
    if isinstance(node, Name) and (found := scalar(env, node)) is not None:
        return found
    at, fields = _located(env, node)
    if not isinstance(node.type, ScalarType) or node.type.dtype is None:
        raise refusal(node.place, *wrong_type(f"`{c_text(node)}`", node.type))
    if node.type.volatile:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is volatile: every access must stay as it is",
            "Nothing helps where others change it; else leave volatile out.",
        )
    if len(at.subscripts) < len(at.object.shape):
        raise refusal(
            node.place,
            f"`{c_text(node)}` has too few subscripts: {at.object.name!r} has "
            f"{len(at.object.shape)} dimensions",
            "Write all subscripts.",
        )
    use = _use(env, node.place, at.object, node.type.dtype, fields)
    subscripts = _checked(env, node.place, use, (*at.subscripts, *(f for f, _ in fields)))
    const = at.object.const or node.type.const
    return Access(use.name, subscripts), not const


_INSTEAD = {
    "long double": "Use double.",
}


def wrong_type(what: str, kind: CType) -> tuple[str, str]:
    """Message and hint where ``what`` has a type that is not read."""
    text = getattr(kind, "text", "")
    if isinstance(kind, PointerType):
        text = "a pointer"
    elif isinstance(kind, ArrayType | RecordType):
        text = "a whole array" if isinstance(kind, ArrayType) else "a whole structure"
    hint = "Use an integer type, float or double; structures and arrays element by element."
    return f"{what} has the type {text}, which is not read", _INSTEAD.get(text, hint)


def scalar(env: Environment, node: Name) -> tuple[Access, bool] | None:
    """The access to a scalar variable that is data; None where the name is another thing."""
    match env.scope.get(node.ident):
        case Data(access, _, const):
            entering(env, node)
            return access, not const
        case Argument(name, kind):
            if kind.dtype is None:
                raise refusal(node.place, *wrong_type(repr(name), kind))
            env.region.scalars.setdefault(name, Scalar(name, kind.dtype))
            return Access(name), False
        case Unknown(symbolic=True) | Known() if integer_type(node.type) is not None:
            raise RestartError(data=node.ident)
        case Unknown(why):
            raise refusal(node.place, f"{node.name!r} cannot be used here: {why}", VALUE)
        case None:
            raise refusal(node.place, f"{node.name!r} is read before it has a value", VALUE)
        case _:
            return None


def entering(env: Environment, node: Name) -> None:
    """Notes that a variable from outside of the region is read before the region sets it."""
    region = env.region
    if node.ident in region.live or node.ident in env.given:
        return
    if node.ident in region.outer:
        raise RestartError(entering=node.ident)
    if node.ident not in region.touched:
        raise refusal(
            node.place,
            f"{node.name!r} is read before it has a value",
            "Give it its first value where it is declared, or in a statement further up.",
        )


def pointer(env: Environment, node: Expression) -> Pointer:
    """What the pointer ``node`` points to.

    Raises:
        SourceError: it cannot be followed.
    """
    match node:
        case CastE(implicit=True):
            return pointer(env, node.operand)
        case CastE(type=PointerType(to=to), operand=operand):
            found = pointer(env, operand)
            if _same(to, found.type):
                return found
            raise refusal(
                node.place,
                f"`{c_text(node)}` gives memory another type",
                "Declare the parameter with the type with which it is used.",
            )
        case UnaryE(op="&", operand=operand):
            return _element(env, operand)
        case UnaryE(op=op, operand=Name(ident=ident)) if op in STEPS:
            before = pointer(env, node.operand)
            env.region.rules.effect(env, node)
            after = env.scope[ident]
            return before if op[0] == "p" or not isinstance(after, Pointer) else after
        case BinaryE(op="+" | "-"):
            base, by = (node.left, node.right)
            if node.op == "+" and integer_type(base.type) is not None:
                base, by = by, base
            return moved(env, pointer(env, base), by, -1 if node.op == "-" else 1)
        case _:
            return _element(env, node, as_pointer=True)


def moved(env: Environment, start: Pointer, by: Expression, sign: int) -> Pointer:
    """``start + sign * by``, in elements."""
    step = subscript(env, by) * sign * (_elements(start.type) if _is_flat(start) else 1)
    *outer, last = start.subscripts
    return replace(start, subscripts=(*outer, last + step))


def _is_flat(at: Pointer) -> bool:
    """Whether the array has one subscript for all its dimensions."""
    return len(at.object.shape) == 1


def _elements(kind: CType) -> int:
    total = 1
    while isinstance(kind, ArrayType) and isinstance(kind.length, int):
        total, kind = total * kind.length, kind.element
    return total


def _same(one: CType, two: CType) -> bool:
    if isinstance(one, ScalarType) and isinstance(two, ScalarType):
        return one.dtype is two.dtype
    return (
        replace(one, const=False) == replace(two, const=False)
        if (isinstance(one, RecordType) and isinstance(two, RecordType))
        else one == two
    )


def _element(env: Environment, node: Expression, *, as_pointer: bool = False) -> Pointer:
    """The element that the lvalue ``node`` is, or to whose first the array ``node`` decays."""
    match node:
        case Name(ident=ident):
            match env.scope.get(ident):
                case Pointer() as found:
                    return found
                case Object() as found:
                    return first_of(found)
                case Unknown(why=why, hint=hint):
                    raise refusal(node.place, f"{node.name!r} cannot be followed: {why}", hint)
        case IndexE(base=base, index=index):
            row = pointer(env, base)
            return _inner(moved(env, row, index, 1))
        case UnaryE(op="*", operand=operand):
            return _inner(pointer(env, operand))
        case CastE(implicit=True, operand=operand):
            return _element(env, operand, as_pointer=as_pointer)
        case MemberE(type=PointerType()):
            array = member_array(env, node)
            if array is None:
                raise _no_pointer(node)
            return first_of(array)
    what = "a pointer" if as_pointer else "an element of an array"
    hint = "Use arrays, parameters, and pointers that are set from them by + and -."
    if _is_in_structure(node):
        hint = "Write every access in full, from the array of structures to the number in it."
    raise refusal(node.place, f"`{c_text(node)}` is not {what} that can be followed", hint)


def first_of(found: Object) -> Pointer:
    """The first element of an array: of the outermost dimension."""
    inner: CType = found.element
    for extent in reversed(found.rows):
        inner = ArrayType(inner, extent)
    return Pointer(found, (Affine(),), inner)


def access_of(env: Environment, at: Place, found: Object, subscripts: tuple[Affine, ...]) -> Access:
    """The access to an element of an array of numbers."""
    kind = found.element
    if not isinstance(kind, ScalarType) or kind.dtype is None:
        raise refusal(at, *wrong_type(f"an element of {found.name!r}", kind))
    use = _use(env, at, found, kind.dtype, ())
    if len(found.shape) == 1 and len(subscripts) > 1:
        flat = subscripts[0]
        for value, extent in zip(subscripts[1:], found.rows, strict=True):
            flat = flat * extent + value
        subscripts = (flat,)
    if found.shape[0] is None:
        low, high = exact_range(env, at, subscripts[0])
        use.low, use.high = min(use.low, low), max(use.high, high)
    return Access(use.name, subscripts)


def _inner(at: Pointer) -> Pointer:
    """The element pointed to; of a row, its own first element comes next."""
    if isinstance(at.type, ArrayType):
        if len(at.object.shape) == 1:
            return replace(at, type=at.type.element)
        return Pointer(at.object, (*at.subscripts, Affine()), at.type.element)
    return at


def _located(env: Environment, node: Expression) -> tuple[Pointer, tuple[tuple[Affine, int], ...]]:
    """The element that holds ``node``, and the subscripts of fields within it, with extents.

    A structure is a row of numbers of the type that is read: the array has one subscript more.
    """
    if not _is_in_structure(node):
        return _element(env, node), ()
    at, offset, kind = _within(env, node)
    record = at.type
    if isinstance(kind, PointerType):
        raise _no_pointer(node)
    if not isinstance(record, RecordType) or not isinstance(kind, ScalarType) or kind.dtype is None:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is no number that is read",
            "Only numbers, arrays and structures of them are read as fields; copy others into "
            "variables before the loops.",
        )
    size = kind.dtype.size
    if record.size % size or any(n % size for n in (offset.const, *(c for _, c in offset.terms))):
        raise refusal(
            node.place,
            f"`{c_text(node)}` does not lie at a multiple of its size in {record.name!r}",
            "Do not pack the structure.",
        )
    terms = {name: c // size for name, c in offset.terms}
    return at, ((Affine.of(terms, offset.const // size), record.size // size),)


def _is_in_structure(node: Expression) -> bool:
    """Whether ``node`` is a field, or an element of a field that is an array."""
    while isinstance(node, IndexE) or (isinstance(node, CastE) and node.implicit):
        node = node.base if isinstance(node, IndexE) else node.operand
        if isinstance(node, MemberE) and isinstance(node.type, PointerType):
            return False  # behind a pointer that it holds
    return isinstance(node, MemberE)


def _within(env: Environment, node: Expression) -> tuple[Pointer, Affine, CType]:
    """The structure that holds ``node``, the bytes before ``node`` in it, and the type there."""
    match node:
        case CastE(implicit=True, operand=operand):
            return _within(env, operand)
        case MemberE(base=base, field=name, arrow=arrow):
            behind = isinstance(base.type, PointerType)
            if _is_in_structure(base) and not behind:
                at, offset, kind = _within(env, base)
            else:
                at, offset = pointer(env, base) if arrow else _element(env, base), Affine()
                kind = at.type
            if arrow and isinstance(kind, ArrayType):  # s.row->x: its first element
                kind = kind.element
            found = _field(node, kind, name)
            return at, offset + (found.offset or 0), found.type
        case IndexE(base=base, index=index) if _is_in_structure(base):
            at, offset, kind = _within(env, base)
            if isinstance(kind, PointerType):
                raise _no_pointer(node)
            if isinstance(kind, ArrayType) and isinstance(kind.length, int):
                number = subscript(env, index)
                _inside(env, node, number, kind.length, f"`{c_text(base)}`")
                return at, offset + number * _bytes(kind.element), kind.element
        case _:
            at = _element(env, node)
            return at, Affine(), at.type
    raise refusal(
        node.place,
        f"`{c_text(node)}` is no element of an array with a length",
        "Give the field its length.",
    )


def _no_pointer(node: Expression) -> SourceError:
    return refusal(
        node.place,
        f"`{c_text(node)}`: which array that is, is known only when the loops run",
        "Put the loops over its elements into a function that gets the pointer.",
    )


def _field(node: MemberE, kind: CType, name: str) -> Field:
    if isinstance(kind, PointerType):
        raise _no_pointer(node)
    fields = kind.fields if isinstance(kind, RecordType) else ()
    field = next((f for f in fields if f.name == name), None)
    if field is None or field.offset is None:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is no field of a structure that is read",
            "Unions and fields of some bits are not: use structures of whole fields.",
        )
    return field


def _bytes(kind: CType) -> int:
    """The size of what stands in a structure; 0 where it is nothing that is read."""
    match kind:
        case ScalarType(dtype=dtype):
            return dtype.size if dtype else 0
        case RecordType(size=size):
            return size
        case ArrayType(element=element, length=int(length)):
            return length * _bytes(element)
        case _:
            return 0


def _inside(env: Environment, node: Expression, value: Affine, extent: int, what: str) -> None:
    low, high = exact_range(env, node.place, value)
    if (low < 0 or high >= extent) and _narrowed(env, value, extent):
        env.region.assumed[INSIDE] = None
    elif low < 0 or high >= extent:
        raise refusal(
            node.place,
            f"`{c_text(node)}` is out of bounds: the subscript runs from {low} to {high}, and "
            f"{what} has 0 to {extent - 1} there",
            "Check the loop's bounds and the sizes given with --size.",
        )


def access_at(env: Environment, at: Place, found: Pointer, dtype: DType) -> Access:
    """The access to what a pointer points to, a number of type ``dtype``."""
    use = _use(env, at, found.object, dtype, ())
    return Access(use.name, _checked(env, at, use, found.subscripts))


def _use(
    env: Environment,
    at: Place,
    found: Object,
    dtype: DType,
    fields: tuple[tuple[Affine, int], ...],
) -> ArrayUse:
    region = env.region
    inner = tuple(extent for _, extent in fields)
    key = (found.ident, dtype, len(inner))
    if key not in region.arrays:
        if len(region.arrays) == MAX_ARRAYS:
            raise refusal(
                at,
                f"the loops use more than {MAX_ARRAYS} arrays",
                "Put #pragma scop and endscop around fewer loops.",
            )
        again = any(k[0] == found.ident for k in region.arrays)
        name = f"{found.name}_{dtype.name.lower()}" if again else found.name
        if again or (name in region.names.taken and name not in region.parameters):
            name = region.names.fresh(name)
        region.names.taken.add(name)
        region.arrays[key] = ArrayUse(name, found, dtype, inner)
    return region.arrays[key]


def _checked(
    env: Environment, at: Place, use: ArrayUse, values: tuple[Affine, ...]
) -> tuple[Affine, ...]:
    """The subscripts ``values``, within the array; where its extent is open, it is noted."""
    first, *rest = use.object.shape
    if first is None:
        low, high = exact_range(env, at, values[0])
        if high - low >= MAX_ELEMENTS:
            raise _boundless(env, at, use, values[0])
        use.low, use.high = min(use.low, low), max(use.high, high)
    else:
        values = (_kept(env, at, use, 1, values[0], first), *values[1:])
    for number, extent in enumerate(rest, 1):
        if extent is not None:
            kept = _kept(env, at, use, number + 1, values[number], extent)
            values = (*values[:number], kept, *values[number + 1 :])
    return values


def _boundless(env: Environment, at: Place, use: ArrayUse, value: Affine) -> Exception:
    """That an extent is not known; or that what a variable counts to has to be found out."""
    for derived in env.derived:
        if derived.name in value.names and isinstance(derived.value, Read):
            ident = env.region.holds.get(derived.value.access.array)
            if ident is not None and ident not in env.region.decisions.counting:
                return RestartError(counting=ident)
    return refusal(
        at,
        f"nothing says how many elements {use.object.name!r} has: its subscript is read from data",
        f"Declare the parameter with its extent, for example {use.object.name}[n], and give n "
        "with --size.",
    )


def _kept(
    env: Environment, at: Place, use: ArrayUse, number: int, value: Affine, extent: int
) -> Affine:
    """``value`` where it stays within ``extent``; numbers read from data are taken to."""
    low, high = exact_range(env, at, value)
    if low >= 0 and high < extent:
        return value
    if _narrowed(env, value, extent):
        env.region.assumed[INSIDE] = None
        return value
    shape = "".join(f"[{n}]" for n in use.array().shape)
    outside = refusal(
        at,
        f"{use.name} is out of bounds: subscript {number} runs from {low} to "
        f"{high}, and {use.name}{shape} has 0 to {extent - 1} there",
        "Check the loop's bounds, the array's shape and the sizes given with --size.",
    )
    if len(use.object.shape) > 1 and number > 1:  # perhaps it means to go on in the next row
        raise RestartError(flat=use.object.ident) from outside
    raise outside


def _narrowed(env: Environment, value: Affine, extent: int) -> bool:
    """Narrows the one derived number of ``value`` to what stays within ``extent``, if it can."""
    mine = [n for n, d in enumerate(env.derived) if d.name in value.names]
    if len(mine) != 1 or len(value.terms) != 1:
        return False
    found = env.derived[mine[0]]
    if not any(reads(found.value)):
        return False  # nothing but iterators: it goes where it goes
    factor = value.coefficient(found.name)
    ends = sorted((-value.const / factor, (extent - 1 - value.const) / factor))
    low, high = max(found.low, int(-(-ends[0] // 1))), min(found.high, int(ends[1] // 1))
    if low > high:
        return False
    env.derived[mine[0]] = replace(found, low=low, high=high)
    return True


def exact_range(env: Environment, at: Place, value: Affine) -> Range:
    """The least and the greatest value over all instances; (0, -1) where there are none."""
    ranges = env.ranges()
    if ranges is None:
        return 0, -1
    if value.is_constant:
        return value.const, value.const
    from agent.loopnest.lowering.domain import image

    rough = value.interval(ranges)
    try:
        return image(env, value, rough)
    except SourceError as failure:
        raise refusal(at, failure.message, failure.hint) from failure
