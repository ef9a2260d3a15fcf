"""C expressions with their types and the values they may have; what could be undefined is None."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Type:
    """An arithmetic type as it is spelled."""

    name: str
    bits: int
    signed: bool = True
    is_float: bool = False
    is_bool: bool = False

    @property
    def low(self) -> int:
        return -(1 << self.bits - 1) if self.signed else 0

    @property
    def high(self) -> int:
        return 1 if self.is_bool else (1 << self.bits - self.signed) - 1


FLOAT, DOUBLE = Type("float", 32, is_float=True), Type("double", 64, is_float=True)
INT, UNSIGNED = Type("int", 32), Type("unsigned", 32, signed=False)
LONG, ULONG = Type("long", 64), Type("unsigned long", 64, signed=False)
SIZE_T = Type("size_t", 64, signed=False)
U8, I8 = Type("uint8_t", 8, signed=False), Type("int8_t", 8)
U16, I16 = Type("uint16_t", 16, signed=False), Type("int16_t", 16)
U32, I32 = Type("uint32_t", 32, signed=False), Type("int32_t", 32)
U64, I64 = Type("uint64_t", 64, signed=False), Type("int64_t", 64)
UCHAR, SCHAR = Type("unsigned char", 8, signed=False), Type("signed char", 8)
SHORT, USHORT = Type("short", 16), Type("unsigned short", 16, signed=False)
PTRDIFF = Type("ptrdiff_t", 64)
BOOL = Type("bool", 8, signed=False, is_bool=True)
INTEGERS = (
    INT, UNSIGNED, LONG, ULONG, SIZE_T, U8, I8, U16, I16, U32, I32, U64, I64, UCHAR, SCHAR, SHORT,
    USHORT, PTRDIFF,
)  # fmt: skip

_LEVELS = ("= ,", "?", "||", "&&", "|", "^", "&", "== !=", "< > <= >=", "<< >>", "+ -", "* / %")
LEVEL = {op: n for n, ops in enumerate(_LEVELS) for op in ops.split()}
UNARY, PRIMARY = 12, 13
PREDICATES = frozenset("== != < > <= >= && ||".split())


@dataclass(frozen=True)
class E:
    """``text`` has a value in ``low..high``; floats are not bounded."""

    text: str
    type: Type
    low: int = 0
    high: int = 0
    level: int = PRIMARY

    def at(self, level: int) -> str:
        """The text where operators of ``level`` stand around it."""
        return f"({self.text})" if self.level < level else self.text

    @property
    def span(self) -> tuple[int, int]:
        return self.low, self.high

    @property
    def size(self) -> int:
        """The greatest absolute value."""
        return max(abs(self.low), abs(self.high))


def number(value: int) -> E:
    return E(str(value), INT, value, value, PRIMARY if value >= 0 else UNARY)


def promoted(type_: Type) -> Type:
    return INT if type_.bits < 32 else type_


def common(a: Type, b: Type) -> Type:
    """The usual arithmetic conversions."""
    for real in (DOUBLE, FLOAT):
        if a == real or b == real:
            return real
    a, b = promoted(a), promoted(b)
    if a.bits != b.bits:
        return max(a, b, key=lambda t: t.bits)
    return a if not a.signed else b


def converted(span: tuple[int, int], type_: Type) -> tuple[int, int]:
    """Values of ``span`` as ``type_`` holds them (modulo 2**bits)."""
    low, high = span
    if type_.low <= low and high <= type_.high:
        return span
    if type_.is_bool:
        return 0, 1
    turn = 1 << type_.bits
    shift = (low - type_.low) // turn * turn
    if high - shift <= type_.high:
        return low - shift, high - shift
    return type_.low, type_.high


def cast(type_: Type, x: E) -> E | None:
    """``(type)x``."""
    text = f"({type_.name}){x.at(UNARY)}"
    if type_.is_float:
        return E(text, type_, level=UNARY)
    if x.type.is_float:
        return None
    return E(text, type_, *converted(x.span, type_), UNARY)


def negated(x: E) -> E | None:
    type_ = promoted(x.type)
    inner = x.at(PRIMARY)
    if type_.is_float:
        return E(f"-{inner}", type_, level=UNARY)
    return _fitting(f"-{inner}", type_, (-x.high, -x.low), UNARY)


def binary(op: str, a: E | None, b: E | None) -> E | None:
    """``a op b``; None where it might be undefined."""
    if a is None or b is None:
        return None
    level = LEVEL[op]
    text = f"{a.at(level)} {op} {b.at(level + 1)}"
    if op in "& | ^ << >>".split() or op in PREDICATES:  # so that gcc's readers need no table
        text = f"{a.at(level + (a.level != level))} {op} {b.at(level + 1)}"
    type_ = common(a.type, b.type)
    if op in PREDICATES:
        return E(text, INT, 0, 1, level)
    if type_.is_float:
        return E(text, type_, level=level) if op in "+-*/" else None
    if op in ("<<", ">>"):
        return _shift(op, a, b, text)
    x, y = converted(a.span, type_), converted(b.span, type_)
    span = _OPERATIONS[op](x, y, type_)
    return None if span is None else _fitting(text, type_, span, level)


def _fitting(text: str, type_: Type, span: tuple[int, int], level: int) -> E | None:
    fits = type_.low <= span[0] and span[1] <= type_.high
    if type_.signed and not fits:
        return None
    return E(text, type_, *converted(span, type_), level)


def _shift(op: str, a: E, b: E, text: str) -> E | None:
    type_ = promoted(a.type)
    if b.low < 0 or b.high >= type_.bits:
        return None
    if op == ">>":
        ends = [x >> s for x in a.span for s in b.span]
    elif type_.signed and a.low < 0:
        return None
    else:
        ends = [x << s for x in a.span for s in b.span]
    return _fitting(text, type_, (min(ends), max(ends)), LEVEL[op])


def _sum(x, y, _):
    return x[0] + y[0], x[1] + y[1]


def _difference(x, y, _):
    return x[0] - y[1], x[1] - y[0]


def _product(x, y, _):
    ends = [a * b for a in x for b in y]
    return min(ends), max(ends)


def _towards_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _quotient(x, y, type_):
    if y[0] <= 0 <= y[1] or (x[0] == type_.low and y[0] <= -1 <= y[1] and type_.signed):
        return None
    ends = [_towards_zero(a, b) for a in x for b in y]
    return min(0, *ends) if x[0] < 0 < x[1] else min(ends), max(ends)


def _remainder(x, y, type_):
    if _quotient(x, y, type_) is None:
        return None
    most = max(abs(y[0]), abs(y[1])) - 1
    if x[0] >= 0 and x[1] <= most and y[0] == y[1]:
        return x
    return (-min(most, -x[0]) if x[0] < 0 else 0), (min(most, x[1]) if x[1] > 0 else 0)


def _and(x, y, type_):
    bounded = [s[1] for s in (x, y) if s[0] >= 0]
    return (0, min(bounded)) if bounded else (type_.low, type_.high)


def _or(x, y, type_):
    if x[0] < 0 or y[0] < 0:
        return type_.low, type_.high
    return 0, (1 << max(x[1], y[1]).bit_length()) - 1


_OPERATIONS = {
    "+": _sum, "-": _difference, "*": _product, "/": _quotient, "%": _remainder,
    "&": _and, "|": _or, "^": _or,
}  # fmt: skip


def chosen(condition: E, yes: E, no: E) -> E:
    """``condition ? yes : no``."""
    type_ = common(yes.type, no.type)
    text = f"{condition.at(LEVEL['?'] + 1)} ? {yes.at(LEVEL['?'] + 1)} : {no.at(LEVEL['?'] + 1)}"
    if type_.is_float:
        return E(text, type_, level=LEVEL["?"])
    a, b = converted(yes.span, type_), converted(no.span, type_)
    return E(text, type_, min(a[0], b[0]), max(a[1], b[1]), LEVEL["?"])


def within(x: E, low: int, high: int) -> E:
    """``x``, of which is known that it lies in ``low..high`` too."""
    return replace(x, low=max(x.low, low), high=min(x.high, high))
