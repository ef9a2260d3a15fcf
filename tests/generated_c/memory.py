"""Statements that move pointers and whole pieces of memory; local arrays."""

from __future__ import annotations

from tests.differential.case import Field
from tests.generated_c.draft import Array, Context, Draft, Memory, room
from tests.generated_c.numbers import DOUBLE, FLOAT, INT, LEVEL, U8, number
from tests.generated_c.values import Values


def row(values: Values, ctx: Context) -> Context | None:
    """A pointer into an array: ``const float *row = img + y * w;``."""
    flat = [a for a in ctx.arrays if not a.extents and not a.member and not a.memory.fixed]
    if not flat:
        return None
    d, array = values.d, values.d.one(*flat)
    offset = values.index(ctx)
    low, high = array.start[0] + offset.low, array.start[1] + offset.high
    if low < 0 or high > 2000:
        return None
    array.memory.needed = max(array.memory.needed, high + 1)
    name = d.name("row", "line", "src", "pa")
    const = "" if array.whole.writable else "const "
    at = d.one(f"{array.text} + {offset.at(LEVEL['+'] + 1)}", f"&{array.text}[{offset.text}]")
    d.write(f"{const}{array.memory.type} *{name} = {at};")
    view = Array(array.memory, name, array.type, start=(low, high), root=array)
    return ctx.plus(view)


def fill(values: Values, ctx: Context) -> bool:
    """``memset`` or ``memcpy`` of a few elements."""
    d = values.d
    flat = [
        a for a in ctx.arrays
        if a.whole.writable and not a.extents and not a.member and not a.memory.fixed
    ]  # fmt: skip
    if not flat:
        return False
    array = d.one(*flat)
    if array.start[0] < 0:
        return False
    sizes = [w.value for w in ctx.whole if not w.moves and 0 < w.low == w.high < 60]
    count = d.one(*sizes, number(4))
    array.memory.needed = max(array.memory.needed, array.start[1] + count.high)
    others = [
        a for a in ctx.arrays
        if a.type == array.type and a.memory is not array.memory and not a.extents
        and not a.member and (not a.memory.fixed or a.start[1] + count.high <= a.memory.fixed)
        and (a.whole.low >= array.whole.low and a.whole.high <= array.whole.high)
        and (a.type.is_float or a.type.bits < 32 or not a.type.signed)
    ]  # fmt: skip
    length = f"{count.at(LEVEL['*'])} * sizeof({array.memory.type})"
    if others and d.chance(0.5):
        other = d.one(*others)
        other.memory.needed = max(other.memory.needed, other.start[1] + count.high)
        d.write(f"memcpy({array.text}, {other.text}, {length});")
    else:
        d.write(f"memset({array.text}, 0, {length});")
    return True


def procedure(values: Values, ctx: Context) -> bool:
    """A call of a function of the file that stores."""
    floats = [
        a for a in ctx.arrays
        if a.whole.writable and not a.extents and not a.member and a.type in (FLOAT, DOUBLE)
    ]  # fmt: skip
    if not floats:
        return False
    d, array = values.d, values.d.one(*floats)
    index = values.subscripts(ctx, array, plain=True)[0]
    if index.high > INT.high or index.low < 0:
        return False
    kind = array.type.name
    text = f"static void blend_{kind}({kind} *a, int at, {kind} x)\n{{\n"
    name = d.top(f"blend_{kind}", text + "    a[at] = (a[at] + x) * 0.5f;\n}")
    d.write(f"{name}({array.text}, {index.text}, {values.value(ctx, array.type, 1).text});")
    return True


def local_array(d: Draft, count: int) -> Array:
    """An array that the function declares and sets to zero."""
    type_ = d.one(FLOAT, DOUBLE, INT, U8)
    name = d.name("buf", "work", "line0", "hist")
    low, high, budget = room(type_)
    memory = Memory(name, type_.name, [Field(type_.name)], fixed=count, place="local")
    extents = (count,)
    if count % 2 == 0 and d.chance(0.3):
        extents = (2, count // 2)
    shape = "".join(f"[{n}]" for n in extents)
    if d.chance(0.5):
        d.write(f"{type_.name} {name}{shape} = {{0}};")
    elif d.chance(0.6):
        d.write(f"{type_.name} {name}{shape};")
        d.write(f"memset({name}, 0, sizeof {name});")
    else:
        d.write(f"{type_.name} {name}{shape};")
        _cleared(d, name, extents)
    return Array(memory, name, type_, low, high, extents, True, budget=budget)


def _cleared(d: Draft, name: str, extents: tuple[int, ...]) -> None:
    indices = "ab"[: len(extents)]
    indent = d.indent
    for index, extent in zip(indices, extents, strict=True):
        d.write(f"for (int {index} = 0; {index} < {extent}; {index}++)")
        d.indent += 1
    d.write(f"{name}{''.join(f'[{i}]' for i in indices)} = 0;")
    d.indent = indent
