"""Subscripts, values and conditions that are defined wherever they stand."""

from __future__ import annotations

from dataclasses import replace

from tests.generated_c.draft import MOST_ELEMENTS, Array, Context, Draft
from tests.generated_c.numbers import (
    DOUBLE,
    FLOAT,
    INT,
    INTEGERS,
    LEVEL,
    LONG,
    PRIMARY,
    U8,
    UNARY,
    UNSIGNED,
    E,
    Type,
    binary,
    cast,
    chosen,
    converted,
    negated,
    number,
    promoted,
    within,
)

MATHS = (
    "sin cos tan asin acos atan sinh cosh tanh exp exp2 log log2 log10 sqrt cbrt fabs floor ceil "
    "round trunc"
).split()
MATHS2 = "atan2 pow hypot fmod copysign fmin fmax".split()


class Values:
    """Writes expressions into a draft."""

    def __init__(self, draft: Draft) -> None:
        self.d = draft

    # Whole numbers for subscripts and bounds

    def index(self, ctx: Context) -> E:
        """A whole number made of iterators and sizes, of any value."""
        d = self.d
        if not ctx.whole or d.chance(0.06):
            return number(d.rng.randint(0, 4))
        moving = [w for w in ctx.whole if w.moves] if d.chance(0.9) else []
        one = d.one(*(moving[-3:] or ctx.whole)).value
        form = d.weighted(
            plain=10, shifted=6, scaled=2, sum=2, flat=3, mirrored=1, half=1, mod=1, ternary=0.7,
            wrapped=0.6, masked=0.5, cast=0.5, gathered=1, clamped=0.7,
        )  # fmt: skip
        made = getattr(self, f"_{form}")(ctx, one)
        return made if made is not None else one

    def _plain(self, ctx: Context, one: E) -> E | None:
        return one

    def _shifted(self, ctx: Context, one: E) -> E | None:
        return binary(self.d.one("+", "-"), one, number(self.d.one(1, 1, 1, 2, 3)))

    def _scaled(self, ctx: Context, one: E) -> E | None:
        scaled = binary("*", number(self.d.one(2, 2, 3)), one)
        return binary("+", scaled, number(1)) if self.d.chance(0.5) else scaled

    def _sum(self, ctx: Context, one: E) -> E | None:
        return binary(self.d.one("+", "+", "-"), one, self.d.one(*ctx.whole).value)

    def _flat(self, ctx: Context, one: E) -> E | None:
        pitch = [w for w in ctx.whole if not w.moves] or ctx.whole
        row = binary("*", one, self.d.one(*pitch).value)
        return binary("+", row, self.d.one(*ctx.whole[-2:]).value)

    def _mirrored(self, ctx: Context, one: E) -> E | None:
        ends = [w for w in ctx.whole if not w.moves] or ctx.whole
        return binary("-", binary("-", self.d.one(*ends).value, number(1)), one)

    def _half(self, ctx: Context, one: E) -> E | None:
        return binary(self.d.one("/", "/", ">>"), one, number(self.d.one(2, 2, 3)))

    def _mod(self, ctx: Context, one: E) -> E | None:
        divisor = number(self.d.one(2, 2, 3, 4))
        one = binary("+", one, number(1)) if self.d.chance(0.4) else one
        return binary("%", one, divisor)

    def _ternary(self, ctx: Context, one: E) -> E | None:
        other = self.d.one(*ctx.whole).value
        return chosen(self.affine_condition(ctx), one, other)

    def _clamped(self, ctx: Context, one: E) -> E | None:
        if self.d.chance(0.5):
            back = binary("-", one, number(1))
            if back is None or not one.type.signed:
                return None
            low = chosen(binary("<", back, number(0)), number(0), back)
            return within(low, 0, max(0, back.high))
        end = self.d.one(*ctx.whole).value
        after = binary("+", one, number(1))
        if after is None or end.low != end.high or end.low < 1 or one.low < 0:
            return None
        last = binary("-", end, number(1))
        return within(chosen(binary("<", after, end), after, last), 0, end.high - 1)

    def _wrapped(self, ctx: Context, one: E) -> E | None:
        more = binary("+", one, number(self.d.one(100, 250, 255)))
        return more and cast(U8, more)

    def _masked(self, ctx: Context, one: E) -> E | None:
        return binary("&", one, number(self.d.one(1, 3, 7)))

    def _cast(self, ctx: Context, one: E) -> E | None:
        return cast(self.d.one(*INTEGERS), one)

    def _gathered(self, ctx: Context, one: E) -> E | None:
        tables = [
            a for a in ctx.arrays if not a.type.is_float and a.low >= 0 and a.high < 300
            and not a.whole.writable
        ]  # fmt: skip
        if not tables or not ctx.depth:
            return None
        return self.access(ctx, self.d.one(*tables), plain=True)

    def gathered_access(self, ctx: Context, array: Array) -> E | None:
        """``array[table[i]]`` where that is surely in bounds."""
        index = self._gathered(ctx, number(0))
        if index is None or array.extents or index.low + array.start[0] < 0:
            return None
        last = index.high + array.start[1]
        if last >= (array.memory.fixed or 600):
            return None
        array.memory.needed = max(array.memory.needed, last + 1)
        text = f"{array.text}[{index.text}]{array.member}"
        return E(text, array.type, array.whole.low, array.whole.high)

    # Array elements

    def subscripts(self, ctx: Context, array: Array, *, plain: bool = False) -> list[E]:
        """Subscripts within the array; a flat one makes the array as large as it asks for."""
        if array.extents:
            return [self._within(ctx, extent, plain=plain) for extent in array.extents]
        memory = array.memory
        for _ in range(4):
            found = self._iterator(ctx) if plain else self.index(ctx)
            low, high = found.low + array.start[0], found.high + array.start[1]
            if low >= 0 and high < (memory.fixed or MOST_ELEMENTS):
                memory.needed = max(memory.needed, high + 1)
                return [found]
        limit = min(memory.fixed or MOST_ELEMENTS, array.start[1] + 64) - array.start[1]
        found = self._within(ctx, limit, plain=True, low=-array.start[0])
        memory.needed = max(memory.needed, found.high + array.start[1] + 1)
        return [found]

    def _iterator(self, ctx: Context) -> E:
        return self.d.one(*ctx.whole[-2:]).value if ctx.whole else number(0)

    def _within(self, ctx: Context, extent: int, *, plain: bool = False, low: int = 0) -> E:
        fits = [w.value for w in ctx.whole if w.low >= low and w.high < extent]
        for _ in range(0 if plain else 3):
            found = self.index(ctx)
            if found.low >= low and found.high < extent:
                return found
        if fits:
            return self.d.one(*fits[-2:], *fits)
        one = self._iterator(ctx)
        if one.low >= 0 and low <= 0:
            wrapped = binary("%", one, number(extent))
            if wrapped is not None and self.d.chance(0.7):
                return wrapped
        return number(self.d.rng.randrange(max(low, 0), max(extent, max(low, 0) + 1)))

    def access(self, ctx: Context, array: Array, *, plain: bool = False) -> E:
        """An element of ``array``."""
        subscripts = self.subscripts(ctx, array, plain=plain)
        text = array.text + "".join(f"[{s.text}]" for s in subscripts) + array.member
        return E(text, array.type, array.whole.low, array.whole.high)

    # Values

    def value(self, ctx: Context, wanted: Type, depth: int = 2) -> E:
        """Something of about the wanted kind: a float for floats, else a whole number."""
        d = self.d
        if depth <= 0 or d.chance(0.2):
            return self._leaf(ctx, wanted)
        make = self._real if wanted.is_float else self._integer
        return make(ctx, wanted, depth) or self._leaf(ctx, wanted)

    def _leaf(self, ctx: Context, wanted: Type) -> E:
        d = self.d
        arrays = [a for a in ctx.arrays if a.type.is_float == wanted.is_float]
        if arrays and d.chance(0.65):
            return self.access(ctx, d.one(*arrays))
        data = [s.value for s in ctx.data if s.type.is_float == wanted.is_float]
        if data and d.chance(0.5):
            return d.one(*data)
        if wanted.is_float:
            if ctx.whole and d.chance(0.15):
                return d.one(*ctx.whole).value
            if arrays and d.chance(0.1):
                integers = [a for a in ctx.arrays if not a.type.is_float]
                return self.access(ctx, d.one(*integers or arrays))
            return self._constant(wanted)
        if ctx.whole and d.chance(0.5):
            return d.one(*ctx.whole).value
        return self._whole_constant()

    def _constant(self, wanted: Type) -> E:
        text = self.d.one("0.5", "2.0", "0.25", "1.5", "3.0", "0.1", "1e-3", "1.", ".75")
        if wanted == FLOAT and self.d.chance(0.8):
            return E(text + "f", FLOAT)
        return E(text, DOUBLE)

    def _whole_constant(self) -> E:
        d = self.d
        if d.chance(0.8):
            return number(d.one(1, 1, 2, 3, 4, 5, 7, 10, 16, 100))
        text, value, type_ = d.one(
            ("0xFFu", 255, UNSIGNED), ("1u", 1, UNSIGNED), ("0x10", 16, INT),
            ("'a'", 97, INT), ("010", 8, INT), ("4294967295u", 2**32 - 1, UNSIGNED),
            ("0x7f", 127, INT),
        )  # fmt: skip
        return E(text, type_, value, value)

    def _real(self, ctx: Context, wanted: Type, depth: int) -> E | None:
        d = self.d
        left = self.value(ctx, wanted, depth - 1)
        form = d.weighted(sum=6, product=6, quotient=1, call=2, call2=1, choice=1, minus=0.6,
                          cast=0.6, helper=1)  # fmt: skip
        if form in ("sum", "product"):
            op = d.one("+", "-") if form == "sum" else "*"
            return binary(op, left, self.value(ctx, wanted, depth - 1))
        if form == "quotient":
            return binary("/", left, self._constant(wanted))
        if form == "call":
            return self._call(wanted, d.one(*MATHS), [left])
        if form == "call2":
            return self._call(wanted, d.one(*MATHS2), [left, self._leaf(ctx, wanted)])
        if form == "choice":
            return self._choice(ctx, wanted, left)
        if form == "minus":
            return negated(left)
        if form == "cast":
            return cast(d.one(FLOAT, DOUBLE), left)
        return self._real_helper(left, self._leaf(ctx, wanted))

    def _choice(self, ctx: Context, wanted: Type, other: E) -> E:
        """``c ? x : y``; sometimes ``i > 0 ? a[i - 1] : y``, which only the choice makes safe."""
        d = self.d
        first = [w for w in ctx.whole if w.moves and w.low == 0 and w.high > 0]
        arrays = [a for a in ctx.arrays if a.type.is_float == wanted.is_float]
        if not first or not arrays or d.chance(0.5):
            return chosen(self.condition(ctx), self.value(ctx, wanted, 1), other)
        one = d.one(*first)
        inside = replace(ctx, whole=(replace(one, low=1),))
        safe = self.access(inside, d.one(*arrays))
        if d.chance(0.5):
            test = binary(d.one(">", "!="), one.value, number(0))
            return chosen(test, safe, other) if test else other
        test = binary("==", one.value, number(0))
        return chosen(test, other, safe) if test else other

    def _call(self, wanted: Type, name: str, arguments: list[E]) -> E:
        single = wanted == FLOAT and self.d.chance(0.85)
        if name in ("floor", "ceil", "round", "trunc", "fmod"):
            self.d.discrete = True
        joined = ", ".join(a.text for a in arguments)
        return E(f"{name}{'f' if single else ''}({joined})", FLOAT if single else DOUBLE)

    def _real_helper(self, a: E, b: E) -> E:
        d = self.d
        if d.chance(0.4):
            d.top("lerp", "static float lerp(float a, float b, float t)\n{\n"
                  "    return a + t * (b - a);\n}")  # fmt: skip
            return E(f"lerp({a.text}, {b.text}, 0.25f)", FLOAT)
        if d.chance(0.5):
            d.top("cube", "static inline double cube(double x)\n{\n    double y = x * x;\n"
                  "    return y * x;\n}")  # fmt: skip
            return E(f"cube({a.text})", DOUBLE)
        d.top("SQUARE", "#define SQUARE(x) ((x) * (x))")
        square = binary("*", a, a)
        return E(f"SQUARE({a.text})", square.type, *square.span) if square else b

    def _integer(self, ctx: Context, wanted: Type, depth: int) -> E | None:
        d = self.d
        left = self.value(ctx, wanted, depth - 1)
        form = d.weighted(sum=6, product=3, quotient=1, bits=2, shift=1, cast=1.5, choice=1.5,
                          compare=0.7, minus=0.6, not_=0.4, helper=1.2, real=0.4)  # fmt: skip
        if form == "cast":
            return cast(d.one(*INTEGERS), left)
        if form == "minus":
            return negated(left)
        if form == "not_":
            return self._inverse(left)
        if form == "helper":
            return self._helper(left)
        if form == "real":
            return self._from_real(ctx)
        if form == "shift":
            return binary(d.one("<<", ">>"), left, number(d.rng.randint(0, 6)))
        if form == "quotient":
            return binary(d.one("/", "%"), left, number(d.one(2, 3, 5, 7, 10, 16)))
        right = self.value(ctx, wanted, depth - 1)
        if form == "choice":
            return self._choice(ctx, wanted, left)
        if form == "compare":
            return binary(d.one(*"< > <= >= == != && ||".split()), left, right)
        ops = {"sum": "+ + -", "product": "*", "bits": "& | ^"}[form].split()
        return self._joined(d.one(*ops), left, right)

    def _joined(self, op: str, left: E, right: E) -> E | None:
        """``left op right``, made smaller where it might overflow."""
        made = binary(op, left, right)
        if made is None:
            made = binary(op, self.small(left), right)
        return made if made is not None else binary(op, self.small(left), self.small(right))

    def small(self, x: E, most: int = 127) -> E:
        """``x`` brought into ``-most..most`` the way people do it."""
        if x.size <= most:
            return x
        if x.type.is_float:
            raise ValueError(x)
        form = self.d.one("mod", "mask", "clamp")
        made = None
        if form == "mask" and most >= 7:
            made = binary("&", x, number((1 << most.bit_length() - 1) - 1))
        elif form == "clamp" and x.type.signed and x.type.bits >= 32:
            name = self.d.top("clamp", "static inline long clamp(long x, long low, long high)\n"
                              "{\n    return x < low ? low : x > high ? high : x;\n}")  # fmt: skip
            return E(f"{name}({x.text}, -{most}, {most})", LONG, -most, most)
        if made is None:
            made = binary("%", x, number(max(1, most - self.d.one(0, 1, 3))))
        return made if made is not None and made.size <= most else number(1)

    def _inverse(self, x: E) -> E | None:
        type_ = promoted(x.type)
        low, high = converted(x.span, type_)
        text = f"~{x.at(PRIMARY)}"
        return E(text, type_, *converted((-high - 1, -low - 1), type_), UNARY)

    def _helper(self, x: E) -> E | None:
        d = self.d
        form = d.weighted(sq=2, sat=2, imin=2, abs=2, macro=2)
        if form == "abs":
            type_ = x.type if x.type.bits >= 32 else INT
            if not type_.signed or x.low <= type_.low:
                return None
            return E(f"{'abs' if type_.bits == 32 else 'labs'}({x.text})", type_, 0, x.size)
        if form == "sq":
            if x.size > 30000:
                return None
            d.top("sq", "static int sq(int x)\n{\n    return x * x;\n}")
            return E(f"sq({x.text})", INT, 0, x.size**2)
        if x.low < INT.low or x.high > INT.high:
            return None
        if form == "sat":
            d.top("sat", "static uint8_t sat(int x)\n{\n"
                  "    if (x < 0)\n        x = 0;\n    if (x > 255)\n        x = 255;\n"
                  "    return (uint8_t)x;\n}")  # fmt: skip
            return E(f"sat({x.text})", U8, max(0, min(255, x.low)), max(0, min(255, x.high)))
        if form == "imin":
            d.top("imin", "static inline int imin(int a, int b)\n{\n    return a < b ? a : b;\n}")
            return E(f"imin({x.text}, 50)", INT, min(x.low, 50), min(x.high, 50))
        name = d.top("MAX", "#define MAX(a, b) ((a) > (b) ? (a) : (b))")
        if x.low < 0 and not x.type.signed:
            return None
        type_ = binary("+", within(x, 0, 0), number(0))
        if type_ is None or (x.low < 0 and not type_.type.signed):
            return None
        return E(f"{name}({x.text}, 3)", type_.type, max(3, x.low), max(3, x.high))

    def _from_real(self, ctx: Context) -> E | None:
        """A float made whole: brought into a range first."""
        self.d.discrete = True
        real = self.value(ctx, DOUBLE, 1)
        if not real.type.is_float:
            return None
        return E(f"(int)fmin(fmax({real.text}, -100.0), 100.0)", INT, -100, 100)

    # Conditions

    def affine_condition(self, ctx: Context) -> E:
        """A comparison of iterators and sizes."""
        left, right = self.index(ctx), self.index(ctx)
        if self.d.chance(0.15):
            parity = binary("%", left, number(2))
            if parity is not None:
                return binary("==", parity, number(0))
        made = binary(self.d.one("<", "<=", ">", ">=", "==", "!="), left, right)
        assert made
        return made

    def condition(self, ctx: Context) -> E:
        """A comparison of anything, or several joined."""
        d = self.d
        if d.chance(0.05) and (guarded := self._guarded(ctx)) is not None:
            return guarded
        if d.chance(0.15):
            made = binary(d.one("&&", "||"), self.condition(ctx), self.condition(ctx))
            assert made
            return made
        if d.chance(0.05):
            inner = self.condition(ctx)
            return E(f"!({inner.text})", INT, 0, 1, LEVEL["%"] + 1)
        if d.chance(0.4) and ctx.whole:
            return self.affine_condition(ctx)
        arrays = [a for a in ctx.arrays if a.type.bits <= 32] or list(ctx.arrays)
        if not arrays:
            return self.affine_condition(ctx)
        read = self.access(ctx, d.one(*arrays))
        if read.type.is_float:
            self.d.discrete = True
            other = self._constant(read.type)
        else:
            other = self._whole_constant()
        made = binary(d.one("<", "<=", ">", ">=", "==", "!="), read, other)
        assert made
        return made

    def _guarded(self, ctx: Context) -> E | None:
        """``i > 0 && a[i - 1] < c``: the right side is read only where the left one holds."""
        d = self.d
        first = [w for w in ctx.whole if w.moves and w.low == 0 and w.high > 0]
        arrays = [a for a in ctx.arrays if not a.type.is_float and a.type.bits <= 32]
        if not first or not arrays:
            return None
        one = d.one(*first)
        read = self.access(replace(ctx, whole=(replace(one, low=1),)), d.one(*arrays))
        right = binary(d.one("<", ">", "=="), read, self._whole_constant())
        op, test = d.one(("&&", ">"), ("||", "=="))
        return binary(op, binary(test, one.value, number(0)), right)
