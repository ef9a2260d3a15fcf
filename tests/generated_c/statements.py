"""Statements of loop nests: stores, conditions, sums, second counters, rows, local arrays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

from tests.generated_c import memory
from tests.generated_c.draft import BASE, Array, Context, Draft, Scalar, room
from tests.generated_c.loops import Head, Loops
from tests.generated_c.numbers import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT,
    INTEGERS,
    LEVEL,
    LONG,
    SIZE_T,
    U8,
    UNSIGNED,
    E,
    Type,
    binary,
    cast,
    number,
)
from tests.generated_c.values import Values

DEEPEST = 4


class Statements:
    """Writes statements into a draft."""

    def __init__(self, draft: Draft) -> None:
        self.d = draft
        self.values = Values(draft)
        self.loops = Loops(draft)
        self.left = 0  # statements that may still be written

    # Blocks

    @contextmanager
    def braces(self, head: str, tail: str = ""):
        """A block behind ``head``, and ``tail`` behind it."""
        self.d.write(f"{head} {{" if head else "{")
        self.d.indent += 1
        yield
        self.d.indent -= 1
        self.d.write(f"}} {tail};" if tail else "}")

    @contextmanager
    def loop(self, ctx: Context, head: Head, *more: Scalar):
        """A loop with this head; what is known inside, ``more`` too."""
        for line in head.before:
            self.d.write(line)
        inner = ctx.knowing(*head.inside, *more)
        trips = ctx.trips * max(1, head.trips)
        with self.braces(head.text, head.after):
            yield replace(inner, trips=trips, depth=ctx.depth + 1, loop=True)

    def nest(self, ctx: Context) -> None:
        """A loop with what is in it."""
        head = self.loops.head(ctx)
        start = len(self.d.lines) + len(head.before)
        with self.loop(ctx, head) as inner:
            self.body(inner)
        if (
            len(self.d.lines) == start + 3 and not head.after and self.d.chance(0.6)
        ):  # one line needs no braces
            self.d.lines[start] = self.d.lines[start][:-2]
            line = self.d.lines[start + 1].strip()
            if line.endswith(";") and "=" in line and not _declares(line):
                self.d.lines.pop()
            else:
                self.d.lines[start] += " {"

    def body(self, ctx: Context) -> None:
        """What a loop does: a few statements, or more loops."""
        d = self.d
        if d.chance(0.06):
            self.stop(ctx)
        deeper = ctx.depth < DEEPEST and d.chance({0: 1, 1: 0.55, 2: 0.35, 3: 0.1}[ctx.depth])
        if deeper and d.chance(0.6):
            self.nest(ctx)
            if d.chance(0.2) and self.left > 0:
                self.statement(ctx)
            return
        count = d.one(1, 1, 1, 2, 2, 3, 4)
        for _ in range(count):
            ctx = self.statement(ctx) or ctx
        if deeper and self.left > 0:
            self.nest(ctx)

    def statement(self, ctx: Context) -> Context | None:
        """One statement; what is known behind it where that is more."""
        self.left -= 1
        names = {
            "store": 10, "sum": 3, "if_": 3.5, "skip": 0.8 if ctx.loop else 0, "local": 2.5,
            "counter": 1.5 if ctx.depth and ctx.depth < DEEPEST else 0, "chain": 0.6,
            "histogram": 0.8, "row": 1, "hidden": 0.5, "packed": 0.6, "data": 1.5, "fill": 0.5,
            "nothing": 0.1, "within": 0.5, "guarded": 1, "procedure": 0.4,
        }  # fmt: skip
        if self.left < 0:
            names = {"store": 1}
        make: Callable[[Context], Context | None] = getattr(self, self.d.weighted(**names))
        return make(ctx)

    def nothing(self, ctx: Context) -> None:
        self.d.write(self.d.one(";", "(void)0;"))

    # Stores

    def store(self, ctx: Context) -> None:
        """``a[...] op= value;``."""
        arrays = [a for a in ctx.arrays if a.whole.writable]
        if not arrays:
            return self.update(ctx)
        array = self.d.one(*arrays)
        target = self.values.access(ctx, array).text
        self.d.write(f"{target} {self.assigned(ctx, array)};")
        return None

    def assigned(self, ctx: Context, target: Array | Scalar) -> str:
        """``op= value`` that keeps the target in what it may hold."""
        d, type_ = self.d, target.type
        value = self.values.value(ctx, type_, d.one(1, 2, 2, 3))
        if not type_.is_float and value.type.is_float:
            value = number(1)
        op = d.weighted(**{"=": 10, "+": 4, "-": 1, "*": 0.7, "bits": 0.4})
        if type_.is_float:
            if op == "*":
                return f"*= {self.values.value(ctx, type_, 0).text}"
            return f"= {value.text}" if op in ("=", "bits") else f"{op}= {value.text}"
        if op == "bits":
            value = self.values.small(value, 63)
            safe = not type_.signed or type_.bits < 32
            return f"{d.one('|', '&', '^')}= {value.text}" if safe else f"= {value.text}"
        if op in ("+", "-"):
            added = self.added(ctx, target, value)
            if added is not None:
                return f"{op}= {added.text}"
        if op == "*" and not type_.signed and type_.bits >= 32:
            return f"*= {self.values.small(value).text}"
        return f"= {self.stored(type_, value).text}"

    def stored(self, type_: Type, value: E) -> E:
        """``value`` brought into what may be stored at once."""
        if type_.bits < 32 or not type_.signed:
            return cast(type_, value) if self.d.chance(0.3) else value  # type: ignore[return-value]
        return self.values.small(value, BASE[type_.bits] - 1)

    def added(self, ctx: Context, target: Array | Scalar, value: E) -> E | None:
        """``value`` such that ``target += value`` here stays in what the target may hold."""
        type_ = target.type
        owner = target.whole if isinstance(target, Array) else target
        held = E("x", type_, owner.low, owner.high)
        if binary("+", held, value) is None or binary("-", held, value) is None:
            value = self.values.small(value, 1000)
        if type_.bits < 32 or not type_.signed:
            return value
        if ctx.trips * value.size > owner.budget // 2:
            value = self.values.small(value, 15)
        if ctx.trips * value.size > owner.budget:
            return None
        owner.budget -= ctx.trips * value.size
        return value

    def update(self, ctx: Context) -> None:
        """A scalar takes part."""
        scalars = [s for s in ctx.data if s.writable]
        if scalars:
            one = self.d.one(*scalars)
            self.d.write(f"{one.text or one.name} {self.assigned(ctx, one)};")
        else:
            self.d.write(";")

    def chain(self, ctx: Context) -> None:
        """Two targets of one value."""
        targets = [a for a in ctx.arrays if a.whole.writable]
        if not targets:
            return self.update(ctx)
        first, second = self.d.one(*targets), self.d.one(*targets)
        if first.memory is second.memory:  # two stores to one element would have no order
            return self.store(ctx)
        value = self.values.value(ctx, second.type, 1)
        real = value.type.is_float and not (first.type.is_float and second.type.is_float)
        value = number(0) if real else value
        for array in (first, second):
            if not array.type.is_float:
                value = self.values.small(value, 100)
        left, right = (self.values.access(ctx, a).text for a in (first, second))
        return self.d.write(f"{left} = {right} = {value.text};")

    def histogram(self, ctx: Context) -> Context | None:
        """``counts[image[...]]++``."""
        counts = [a for a in ctx.arrays if a.whole.writable and not a.type.is_float]
        if not counts:
            return self.store(ctx)
        array = self.d.one(*counts)
        one = self.added(ctx, array, number(1))
        if one is None:
            return self.store(ctx)
        gathered = self.values.gathered_access(ctx, array) if self.d.chance(0.5) else None
        element = (gathered or self.values.access(ctx, array)).text
        self.d.write(self.d.one(f"{element}++;", f"{element} += 1;", f"++{element};"))
        return None

    # Conditions

    def if_(self, ctx: Context) -> None:
        """``if``, often with ``else``, on iterators or on data."""
        condition = self.values.condition(ctx)
        self._choice(ctx, condition.text, ctx)

    def _choice(self, ctx: Context, condition: str, inside: Context) -> None:
        d = self.d
        with self.braces(f"if ({condition})"):
            self._few(inside)
        if d.chance(0.4):
            d.lines.pop()
            with self.braces("} else"):
                self._few(ctx)

    def _few(self, ctx: Context) -> None:
        for _ in range(self.d.one(1, 1, 2)):
            ctx = self.statement(ctx) or ctx

    def guarded(self, ctx: Context) -> None:
        """An index that is looked at first: ``if (k >= 0 && k < n) ... a[k] ...``."""
        signed = [w for w in ctx.whole if w.type.signed and w.moves]
        sizes = [w for w in ctx.whole if not w.moves and w.low == w.high and w.low > 0]
        if not signed:
            return self.if_(ctx)
        one = self.d.one(*signed)
        shift = self.d.one(-2, -1, -1, 1, 1, 2)
        moved = binary("+" if shift > 0 else "-", one.value, number(abs(shift)))
        if moved is None:
            return self.if_(ctx)
        name = self.d.name("nx", "ny", "kk", "at", "near")
        type_ = self.d.one(INT, INT, INT, LONG)
        held = cast(type_, moved)
        assert held
        self.d.write(f"{self.d.one('', '', 'const ')}{type_.name} {name} = {moved.text};")
        end = self.d.one(*sizes).value if sizes else number(5)
        if not end.type.signed:
            end = cast(INT, end) or number(5)
        inside = Scalar(
            name,
            type_,
            max(0, held.low),
            max(0, held.low, min(held.high, end.high - 1)),
            moves=True,
        )
        condition = f"{name} >= 0 && {name} < {end.at(LEVEL['<'] + 1)}"
        self._choice(ctx, condition, ctx.knowing(inside))
        return None

    def within(self, ctx: Context) -> None:
        """``if (i > 0)``, behind which ``i - 1`` is in bounds."""
        signed = [w for w in ctx.whole if w.moves and w.low == 0]
        if not signed:
            return self.if_(ctx)
        one = self.d.one(*signed)
        inside = Scalar(one.name, one.type, min(1, one.high), one.high, moves=True)
        condition = self.d.one(f"{one.name} > 0", f"{one.name} >= 1", f"{one.name} != 0", one.name)
        self._choice(ctx, condition, ctx.knowing(inside))
        return None

    def skip(self, ctx: Context) -> Context | None:
        """``if (...) continue;``."""
        zero = [w for w in ctx.whole if w.moves and w.low == 0 and w.high > 1]
        if zero and self.d.chance(0.3):
            one = self.d.one(*zero)
            self.d.write(f"if ({one.name} < 1) continue;")
            return ctx.knowing(Scalar(one.name, one.type, 1, one.high, moves=True))
        condition = self.values.condition(ctx)
        if self.d.chance(0.5):
            self.d.write(f"if ({condition.text})")
            self.d.write("    continue;")
        else:
            self.d.write(f"if ({condition.text}) continue;")
        return None

    def stop(self, ctx: Context) -> None:
        """``if (i >= m) break;``, at the beginning of a loop's body."""
        d = self.d
        ends = [w.value for w in ctx.whole if not w.moves and w.low == w.high]
        moving = [w.value for w in ctx.whole if w.moves]
        if moving:
            end = d.one(*ends, number(d.rng.randint(1, 7)), moving[0])
            test = binary(d.one(">=", ">", "==", "<"), moving[-1], end)
            if test is not None:
                d.write(f"if ({test.text}) break;")

    # Scalars

    def sum(self, ctx: Context) -> None:
        """A sum, product or extreme of a loop, and what is done with it."""
        d = self.d
        type_ = d.one(FLOAT, DOUBLE, DOUBLE, INT, INT, LONG, UNSIGNED, d.one(*INTEGERS))
        scalar, first = self.fresh(type_, "s", "sum", "acc", "best", "total")
        d.write(f"{type_.name} {scalar.name} = {first};")
        inner = ctx.holding(scalar)
        if ctx.depth < DEEPEST:
            with self.loop(inner, self.loops.head(ctx)) as inside:
                self._accumulated(inside, scalar)
        else:
            self._accumulated(inner, scalar)
        self.store(inner)

    def _accumulated(self, ctx: Context, scalar: Scalar) -> None:
        d, type_ = self.d, scalar.type
        value = self.values.value(ctx, type_, 2)
        if not type_.is_float and value.type.is_float:
            value = number(2)
        line = f"{scalar.name} {self.assigned(ctx, scalar)};"
        if type_.is_float:
            function = d.one("fmax", "fmin") + ("f" if type_ == FLOAT else "")
            line = d.one(
                f"{scalar.name} += {value.text};", f"{scalar.name} += {value.text};",
                f"{scalar.name} = {function}({scalar.name}, {value.text});",
                f"{scalar.name} = {scalar.name} + {value.at(LEVEL['+'] + 1)};",
            )  # fmt: skip
        elif (added := self.added(ctx, scalar, value)) is not None:
            line = f"{scalar.name} += {added.text};"
        if d.chance(0.15):
            condition = self.values.condition(ctx)
            line = f"if ({condition.text}) {line}"
        elif not type_.is_float and d.chance(0.15):
            small = self.stored(type_, value)
            if small.type.signed == type_.signed or type_.bits < 32:
                line = f"if ({small.text} > {scalar.name}) {scalar.name} = {small.text};"
        d.write(line)

    def fresh(self, type_: Type, *names: str) -> tuple[Scalar, str]:
        """A scalar for data, not declared yet, and its first value."""
        low, high, budget = room(type_)
        first = self.d.one("0", "0", "1")
        if type_.is_float:
            first = self.d.one("0", "0.0", "1.0f" if type_ == FLOAT else "1.0")
        return Scalar(self.d.name(*names), type_, low, high, True, budget=budget), first

    def data(self, ctx: Context) -> Context:
        """A scalar that holds a value for the statements behind it."""
        d = self.d
        type_ = d.one(FLOAT, DOUBLE, INT, INT, d.one(*INTEGERS, BOOL, BOOL))
        scalar, _ = self.fresh(type_, "v", "val", "tmp", "px", "d")
        value = self.values.value(ctx, type_, 2)
        value = number(3) if value.type.is_float and not type_.is_float else value
        value = value if type_.is_float else self.stored(type_, value)
        if d.chance(0.2):
            d.write(f"{type_.name} {scalar.name};")
            d.write(f"{scalar.name} = {value.text};")
        else:
            const = "const " if d.chance(0.2) else ""
            scalar.writable = not const
            d.write(f"{const}{type_.name} {scalar.name} = {value.text};")
        return ctx.holding(scalar)

    def local(self, ctx: Context) -> Context:
        """A whole number of iterators for the statements behind it: ``int p = y * w + x;``."""
        d = self.d
        value = self.values.index(ctx)
        type_ = d.rng.choices([INT, SIZE_T, LONG, U8, d.one(*INTEGERS)], [8, 2, 1, 1, 1])[0]
        held = cast(type_, value)
        assert held
        name = d.name("p", "q", "o", "k0", "idx")
        form = d.weighted(const=1, plain=4, twice=0.7, later=0.7)
        if form == "later":
            d.write(f"{type_.name} {name};")
            d.write(f"{name} = {value.text};")
        else:
            d.write(f"{'const ' if form == 'const' else ''}{type_.name} {name} = {value.text};")
        scalar = Scalar(name, type_, held.low, held.high, moves=True)
        if form == "twice":
            more = binary("+", scalar.value, number(d.one(1, 2)))
            if more is not None and (after := cast(type_, more)) is not None:
                d.write(d.one(f"{name} = {more.text};", f"{name} += {more.text[len(name) + 3 :]};"))
                scalar = Scalar(name, type_, after.low, after.high, moves=True)
        return ctx.knowing(scalar)

    def counter(self, ctx: Context) -> None:
        """A second counter that the loop advances: ``ix += incx;``."""
        d = self.d
        name = d.name("ix", "iy", "pos", "kx", "m0")
        steps = [w.value for w in ctx.whole if not w.moves and 0 < w.low == w.high < 20]
        step = d.one(*steps, number(1), number(2), number(3))
        type_ = d.one(INT, INT, INT, SIZE_T, LONG, UNSIGNED)
        head = self.loops.head(ctx)
        first = d.one(0, 0, 0, 2)
        last = first + step.high * head.trips
        d.write(f"{type_.name} {name} = {first};")
        with self.loop(ctx, head, Scalar(name, type_, first, last, moves=True)) as inner:
            late = d.chance(0.8)
            if not late:
                d.write(f"{name} += {step.text};")
            self._few(inner)
            if late:
                one = step.low == step.high == 1
                d.write(f"{name}++;" if one else f"{name} += {step.text};")

    def packed(self, ctx: Context) -> None:
        """Elements that pass a condition are put side by side: ``out[m++] = x``."""
        targets = [
            a for a in ctx.arrays if a.whole.writable and not a.extents and not a.memory.fixed
        ]
        if not targets or ctx.depth >= DEEPEST:
            return self.store(ctx)
        d, array = self.d, self.d.one(*targets)
        name = d.name("m", "found", "kept")
        head = self.loops.head(ctx)
        start = max(0, -array.start[0])
        last = start + max(1, head.trips) + array.start[1]
        if last > 3000:
            return self.store(ctx)
        array.memory.needed = max(array.memory.needed, last + 1)
        d.write(f"int {name} = {start};")
        with self.loop(ctx, head) as inner:
            value = self.values.value(inner, array.type, 1)
            value = number(1) if value.type.is_float and not array.type.is_float else value
            value = value if array.type.is_float else self.stored(array.type, value)
            store = f"{array.text}[{name}++]{array.member} = {value.text};"
            if d.chance(0.6):
                d.write(f"if ({self.values.condition(inner).text})")
                d.write(f"    {store}")
            else:
                d.write(store)
        return None

    def hidden(self, ctx: Context) -> None:
        """A block whose variable hides one of the same name."""
        d = self.d
        known = (*ctx.whole, *ctx.data)
        names = [x.name for x in known if x.name not in d.tops and x.name.isidentifier()]
        if not names:
            return self.store(ctx)
        name, value = d.one(*names), d.rng.randint(0, 5)
        type_ = d.one(INT, SIZE_T, U8, FLOAT)
        with self.braces(""):
            d.write(f"{type_.name} {name} = {value};")
            hidden = Scalar(name, type_, value, value, moves=True)
            rest = ctx.without({name})
            inside = rest.holding(hidden) if type_.is_float else rest.knowing(hidden)
            self.store(inside)
        return None

    # Memory

    def row(self, ctx: Context) -> Context | None:
        """A pointer into an array."""
        return memory.row(self.values, ctx) or self.store(ctx)

    def fill(self, ctx: Context) -> None:
        """``memset`` or ``memcpy``."""
        return None if memory.fill(self.values, ctx) else self.store(ctx)

    def procedure(self, ctx: Context) -> None:
        """A call of a function of the file that stores."""
        return None if memory.procedure(self.values, ctx) else self.store(ctx)


def _declares(line: str) -> bool:
    first = line.split()[0]
    return first in {t.name.split()[0] for t in (*INTEGERS, FLOAT, DOUBLE, BOOL)} | {"const"}
