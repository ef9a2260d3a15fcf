"""Heads of loops of every form, each with the values its iterators take."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tests.generated_c.draft import MOST_TRIPS, Context, Draft, Scalar
from tests.generated_c.numbers import (
    INT,
    INTEGERS,
    LONG,
    SIZE_T,
    UNSIGNED,
    E,
    Type,
    binary,
    chosen,
    common,
    number,
    within,
)

NAMES = "i j k l x y t r c p q ii jj".split()


@dataclass(frozen=True)
class Head:
    """``text`` (without the brace), what holds inside, what stands before and behind it."""

    text: str
    inside: tuple[Scalar, ...]
    trips: int
    before: tuple[str, ...] = ()
    after: str = ""


class Loops:
    """Writes heads of loops."""

    def __init__(self, draft: Draft) -> None:
        self.d = draft
        self.outer: list[Scalar] = []  # iterators that are declared at the function's start

    def head(self, ctx: Context) -> Head:
        """A loop that ends, with few enough iterations."""
        for _ in range(20):
            made = self._try(ctx)
            if made is not None and ctx.trips * max(1, made.trips) <= MOST_TRIPS:
                return made
        return self._simple(ctx)

    def _simple(self, ctx: Context) -> Head:
        name = self._iterator_name(ctx)
        trips = max(1, min(3, MOST_TRIPS // ctx.trips))
        inside = Scalar(name, INT, 0, trips - 1)
        return Head(f"for (int {name} = 0; {name} < {trips}; {name}++)", (inside,), trips)

    def _iterator_name(self, ctx: Context) -> str:
        """A short name that means no iterator around; now and then it hides something."""
        used = {x.name for x in ctx.whole if x.moves}
        free = [n for n in NAMES if n not in used and (n not in self.d.taken)]
        return free[0] if self.d.chance(0.7) else self.d.rng.choice(free[:4])

    def _try(self, ctx: Context) -> Head | None:
        d = self.d
        form = d.weighted(
            up=20, down=2, countdown=1.2, not_equal=1, pair=1, two=1, split=0.7, while_=0.8, do=0.4
        )
        type_ = d.rng.choices(
            [INT, SIZE_T, UNSIGNED, LONG, d.one(*INTEGERS)], [14, 3, 3, 1.5, 2.5]
        )[0]
        low, end = self._start(ctx, type_), self._end(ctx)
        if low is None or end is None:
            return None
        return getattr(self, f"_{form}")(ctx, type_, low, end)

    # Ends

    def _start(self, ctx: Context, type_: Type) -> E | None:
        d = self.d
        form = d.weighted(zero=12, one=4, outer=2, size=0.5, negative=1 if type_.signed else 0.05)
        if form == "zero":
            return number(0)
        if form == "one":
            return number(d.one(1, 1, 2))
        if form == "negative":
            return number(d.one(-1, -2))
        found = [x.value for x in ctx.whole if bool(x.moves) == (form == "outer")]
        if not found:
            return number(0)
        one = d.one(*found)
        return binary("/", one, number(2)) if form == "size" else self._near(one)

    def _near(self, one: E) -> E | None:
        if self.d.chance(0.6):
            return one
        return binary(self.d.one("+", "+", "-"), one, number(1))

    def _end(self, ctx: Context) -> E | None:
        d = self.d
        sizes = [x.value for x in ctx.whole if not x.moves]
        outer = [x.value for x in ctx.whole if x.moves]
        form = d.weighted(
            size=12 if sizes else 0, less=4 if sizes else 0, constant=3, outer=2 if outer else 0,
            half=0.8 if sizes else 0, difference=0.8 if sizes and outer else 0,
            least=1.2 if sizes else 0,
        )  # fmt: skip
        if form == "constant":
            return number(d.rng.randint(2, 9))
        if form == "outer":
            return self._near(d.one(*outer))
        one = d.one(*sizes)
        if form == "size":
            return one
        if form == "less":
            return binary("-", one, number(d.one(1, 1, 2)))
        if form == "half":
            return binary("/", one, number(2))
        if form == "difference":
            return binary("-", one, d.one(*outer))
        other = d.one(*sizes, number(d.rng.randint(3, 9)), *outer)
        return self._least(one, other)

    def _least(self, one: E, other: E) -> E | None:
        d, compared = self.d, binary("<", one, other)
        type_ = common(one.type, other.type)
        if compared is None or (not type_.signed and min(one.low, other.low) < 0):
            return None
        whole = chosen(compared, one, other)
        whole = replace(whole, low=min(one.low, other.low), high=min(one.high, other.high))
        if d.chance(0.5):
            name = d.top("MIN", "#define MIN(a, b) ((a) < (b) ? (a) : (b))")
            return replace(whole, text=f"{name}({one.text}, {other.text})", level=13)
        return replace(whole, text=f"({whole.text})", level=13)

    # Forms

    def _up(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        d = self.d
        step = d.one(1, 1, 1, 1, 1, 2, 3)
        inclusive = d.chance(0.12)
        last = end.high - (not inclusive)
        if not self._compares(type_, low, end) or last + step > type_.high:
            return self._never(ctx, type_, low, end)
        name = self._iterator_name(ctx)
        more = f" && {name} < {d.rng.randint(2, 8)}" if d.chance(0.05) else ""
        op = "<=" if inclusive else "<"
        condition = f"{name} {op} {end.at(9)}"
        if d.chance(0.06):
            condition = f"{end.at(9)} {'>=' if inclusive else '>'} {name}"
        return self._made(
            ctx, type_, (name, low, condition + more, self._step(name, step)),
            (low.low, last), step,
        )  # fmt: skip

    def _step(self, name: str, step: int, sign: str = "+") -> str:
        if step == 1 and self.d.chance(0.9):
            return f"{name}{sign}{sign}" if self.d.chance(0.75) else f"{sign}{sign}{name}"
        if self.d.chance(0.15):
            return f"{name} = {name} {sign} {step}"
        return f"{name} {sign}= {step}"

    def _compares(self, type_: Type, low: E, end: E) -> bool:
        """Whether C compares the iterator with its end as numbers, from the start on."""
        if low.low < type_.low or low.high > type_.high:
            return False
        both = common(type_, end.type)
        return both.signed or (low.low >= 0 and end.low >= 0)

    def _never(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        """A negative start and an unsigned end: C runs no iteration."""
        both = common(type_, end.type)
        if both.signed or low.high >= 0 or low.low < type_.low or not type_.signed:
            return None
        if end.low < 0 or end.high > 1000 or self.d.chance(0.5):
            return None
        name = self._iterator_name(ctx)
        return self._made(
            ctx, type_, (name, low, f"{name} < {end.at(9)}", f"{name}++"), (low.low, end.high), 1
        )

    def _down(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        step = self.d.one(1, 1, 1, 2)
        first = binary("-", end, number(1))
        if first is None or first.low < type_.low or first.high > type_.high:
            return None
        if low.low - step < type_.low or not self._compares(type_, low, low):
            return None
        if not common(type_, low.type).signed and min(low.low - step, first.low) < 0:
            return None
        name = self._iterator_name(ctx)
        op, last = self.d.one((">=", low.low), (">", low.low + 1))
        return self._made(
            ctx, type_, (name, first, f"{name} {op} {low.at(9)}", self._step(name, step, "-")),
            (last, first.high), step,
        )  # fmt: skip

    def _countdown(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        if end.low < 0 or end.high > type_.high:
            return None
        name = self._iterator_name(ctx)
        condition = self.d.one(f"{name}-- > 0", f"{name}-- > 0", f"{name}-- != 0", f"{name}--")
        return self._made(ctx, type_, (name, end, condition, ""), (0, end.high - 1), 1)

    def _not_equal(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        if not self._compares(type_, low, end) or low.high > end.low or end.high > type_.high:
            return None
        name = self._iterator_name(ctx)
        return self._made(
            ctx,
            type_,
            (name, low, f"{name} != {end.at(8)}", f"{name}++"),
            (low.low, end.high - 1),
            1,
        )

    def _pair(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        """One iterator up, the other down, until they meet."""
        first = binary("-", end, number(1))
        if first is None or not common(type_, first.type).signed or not type_.signed:
            return None
        if first.low < type_.low + 1 or max(first.high, low.high) > min(type_.high - 1, 1000):
            return None
        if low.low < 0:
            return None
        up = self._iterator_name(ctx)
        down = next(n for n in reversed(NAMES) if n not in self.d.taken and n != up)
        inside = (
            Scalar(up, type_, low.low, max(low.low, first.high), moves=True),
            Scalar(down, type_, low.low, max(low.low, first.high), moves=True),
        )
        text = (
            f"for ({type_.name} {up} = {low.text}, {down} = {first.text}; {up} < {down}; "
            f"{up}++, {down}--)"
        )
        return Head(text, inside, max(0, first.high - low.low))

    def _two(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        """A second iterator that takes steps of its own."""
        if not self._compares(type_, low, end) or end.high > min(type_.high, 1000):
            return None
        name, step = self._iterator_name(ctx), self.d.one(1, 2, 3)
        second = next(n for n in reversed(NAMES) if n not in self.d.taken and n != name)
        trips = max(0, end.high - low.low)
        if trips * step > type_.high:
            return None
        inside = (
            Scalar(name, type_, low.low, max(low.low, end.high - 1), moves=True),
            Scalar(second, type_, 0, max(0, trips - 1) * step, moves=True),
        )
        text = (
            f"for ({type_.name} {name} = {low.text}, {second} = 0; {name} < {end.at(9)}; "
            f"{name}++, {self._step(second, step)})"
        )
        return Head(text, inside, trips)

    def _split(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        """A head without a start: it stands before the loop."""
        if not self._compares(type_, low, end) or end.high > type_.high:
            return None
        name = self.d.name("pos", "at", "idx")
        inside = Scalar(name, type_, low.low, max(low.low, end.high - 1), moves=True)
        return Head(
            f"for (; {name} < {end.at(9)}; {name}++)", (inside,), max(0, end.high - low.low),
            (f"{type_.name} {name} = {low.text};",),
        )  # fmt: skip

    def _while_(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        """``while (n-- > 0)``, and the same with a step before it is compared."""
        if end.low < 1 or end.high > min(type_.high, 1000):
            return None
        name = self.d.name("left", "todo", "blk")
        before = (f"{type_.name} {name} = {end.text};",)
        form = self.d.one("late", "early")
        condition = {
            "late": self.d.one(f"{name}-- > 0", f"{name}--"),
            "early": self.d.one(f"--{name} > 0", f"--{name}", f"--{name} != 0"),
        }[form]
        low_, high = (0, end.high - 1) if form == "late" else (1, max(1, end.high - 1))
        inside = Scalar(name, type_, low_, high, moves=True)
        return Head(f"while ({condition})", (inside,), end.high, before)

    def _do(self, ctx: Context, type_: Type, low: E, end: E) -> Head | None:
        """A loop that counts in its last statement, which stands behind the body."""
        if end.low < 1 or end.high > min(type_.high, 1000):
            return None
        name = self.d.name("left", "todo", "blk")
        inside = Scalar(name, type_, 1, end.high, moves=True)
        before = (f"{type_.name} {name} = {end.text};",)
        tail = self.d.one(f"while (--{name})", f"while (--{name} > 0)")
        return Head("do", (inside,), end.high, before, tail)

    def _made(
        self, ctx: Context, type_: Type, parts: tuple[str, E, str, str], span: tuple[int, int],
        step: int,
    ) -> Head:  # fmt: skip
        name, start, condition, change = parts
        low, high = span
        trips = max(0, high - low) // step + 1 if high >= low else 0
        declared = f"{type_.name} "
        outside = [s for s in self.outer if s.type == type_ and s.name not in self._busy(ctx)]
        if outside and self.d.chance(0.9):
            renamed = self.d.one(*outside).name
            condition, change = (_swap(text, name, renamed) for text in (condition, change))
            name, declared = renamed, ""
        inside = within(E(name, type_, low, max(low, high)), type_.low, type_.high)
        scalar = Scalar(name, type_, inside.low, max(inside.low, inside.high), moves=True)
        head = f"for ({declared}{name} = {start.text}; {condition}; {change})"
        return Head(head.replace("; )", ";)"), (scalar,), trips)

    def _busy(self, ctx: Context) -> set[str]:
        return {x.name for x in ctx.whole}


def _swap(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{old}\b", new, text)
