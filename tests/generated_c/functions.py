"""Functions in C as people write them, with what is needed to call them.

``function(seed)`` gives a file with one function, the same for the same seed. By construction it
ends, stays within its arrays and has no undefined behaviour: the generator knows the sizes and, for
every whole number, what values it may have (``numbers``); a subscript makes its array large enough
or is changed until it fits, and what might overflow is made smaller first.
"""

from __future__ import annotations

import random

from tests.differential.case import Argument, Case, Field
from tests.generated_c.draft import BASE, Array, Context, Draft, Memory, Scalar, room
from tests.generated_c.memory import local_array
from tests.generated_c.numbers import (
    BOOL,
    DOUBLE,
    FLOAT,
    I16,
    INT,
    INTEGERS,
    LONG,
    SIZE_T,
    U8,
    U16,
    U32,
    UNSIGNED,
    Type,
    converted,
    number,
)
from tests.generated_c.statements import Statements

SIZES = "n m w h rows cols len count".split()
HEADERS = "math stdbool stddef stdint stdlib string".split()
ARRAYS = "a b c x y in out img dst src data A B C".split()
SCALARS = "alpha beta gain scale thr limit".split()


def function(seed: int, size: int = 6) -> Case:
    """A function; ``size``: about how many statements its loops hold."""
    return _Function(random.Random(seed), size).case()


class _Function:
    def __init__(self, rng: random.Random, size: int) -> None:
        self.d = Draft(rng)
        self.d.taken |= {"f", "result"}
        self.write = Statements(self.d)
        self.write.left = rng.randint(max(1, size // 2), size * 2)
        self.sizes: dict[str, int] = {}
        self.parameters: list[tuple[str, Argument | Memory]] = []
        self.ctx = Context()
        self.result = ""

    def case(self) -> Case:
        d = self.d
        self._sizes()
        self._arrays()
        self._scalars()
        leave = self._before()
        pragma = d.chance(0.35)
        if pragma:
            d.lines.append("#pragma scop")
        for _ in range(d.one(1, 1, 1, 1, 2, 2, 3)):
            self.write.nest(self.ctx)
            self.write.left = max(self.write.left, 2)
        if pragma:
            d.lines.append("#pragma endscop")
        self._after(leave)
        return self._assembled()

    # What the function is given

    def _sizes(self) -> None:
        d = self.d
        for _ in range(d.one(0, 1, 1, 2, 2, 2, 3)):
            type_ = d.rng.choices(
                [INT, SIZE_T, UNSIGNED, LONG, d.one(*INTEGERS)], [12, 2, 2, 1, 2]
            )[0]
            name = d.name(*SIZES)
            value = d.one(1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13)
            self.sizes[name] = value
            argument = Argument(name, type_.name, value=str(value))
            self.parameters.append((f"{d.one('', '', '', 'const ')}{type_.name} {name}", argument))
            self.ctx = self.ctx.knowing(Scalar(name, type_, value, value))
        if not self.sizes or d.chance(0.15):
            name, value = d.name("N", "SIZE"), d.rng.randint(3, 10)
            d.top(name, d.one(f"#define {name} {value}", f"enum {{ {name} = {value} }};"))
            self.ctx = self.ctx.knowing(Scalar(name, INT, value, value))

    def _arrays(self) -> None:
        d = self.d
        for number_ in range(d.one(2, 3, 3, 4)):
            writable = number_ == 0 or d.chance(0.3)
            type_ = d.rng.choices(
                [FLOAT, DOUBLE, INT, U8, d.one(U16, I16, U32, BOOL), d.one(*INTEGERS)],
                [5, 4, 3, 2, 1.5, 2],
            )[0]
            kind = d.weighted(pointer=10, sized=4, constant=1.5, global_=1, structure=1, holder=1,
                              table=not writable, local=0.7 * writable)  # fmt: skip
            getattr(self, f"_{kind}")(type_, writable)

    def _content(self, type_: Type, *, writable: bool) -> tuple[Field, int, int, int]:
        """What is in an array at first, and what it may hold."""
        d = self.d
        low, high, budget = room(type_)
        if type_.is_float:
            ends = d.one((-1.0, 1.0), (0.5, 2.0), (-100.0, 100.0))
            return Field(type_.name, *ends), 0, 0, 0
        if not writable and d.chance(0.4):
            most = min(d.one(3, 7, 15, 100), type_.high)
            return Field(type_.name, 0, most), 0, most, 0
        base = BASE.get(type_.bits, 0)
        first = (low, high) if type_.bits < 32 else (-base, base)
        if not type_.signed:
            first = (0, min(high, (1 << 50)))
        return Field(type_.name, *first), low, high, budget

    def _add(self, memory: Memory, type_: Type, writable: bool, extents=(), declared="") -> None:
        field, low, high, budget = self._content(type_, writable=writable)
        memory.fields = [field]
        array = Array(memory, memory.name, type_, low, high, extents, writable, budget=budget)
        self.ctx = self.ctx.plus(array)
        if declared:
            self.parameters.append((declared, memory))

    def _pointer(self, type_: Type, writable: bool) -> None:
        d, name = self.d, self.d.name(*ARRAYS)
        const = "" if writable else d.one("const ", "const ", "")
        form = d.weighted(star=8, restrict=2, brackets=1)
        declared = {
            "star": f"{const}{type_.name} *{name}",
            "restrict": f"{const}{type_.name} *restrict {name}",
            "brackets": f"{const}{type_.name} {name}[]",
        }[form]
        self._add(Memory(name, type_.name, []), type_, writable, declared=declared)

    def _sized(self, type_: Type, writable: bool) -> None:
        d, name = self.d, self.d.name(*ARRAYS)
        known = [w for w in self.ctx.whole if w.name in self.sizes and w.name.isidentifier()]
        if not known:
            return self._constant(type_, writable)
        dims, extents = [], []
        for _ in range(d.one(1, 2, 2, 3)):
            size = d.one(*known)
            more = d.one(0, 0, 0, 1, 2)
            dims.append(f"{size.name} + {more}" if more else size.name)
            extents.append(size.low + more)
        self._shaped(name, type_, writable, dims, extents)
        return None

    def _constant(self, type_: Type, writable: bool) -> None:
        d = self.d
        macros = [w for w in self.ctx.whole if w.name not in self.sizes]
        dims, extents = [], []
        for _ in range(d.one(1, 2, 2)):
            one = d.one(*macros) if macros and d.chance(0.7) else number(d.rng.randint(4, 12))
            dims.append(getattr(one, "name", None) or one.text)
            extents.append(one.low)
        self._shaped(d.name(*ARRAYS), type_, writable, dims, extents)

    def _shaped(self, name, type_, writable, dims, extents) -> None:
        d = self.d
        memory = Memory(name, type_.name, [], fixed=_product(extents))
        const = "" if writable else d.one("const ", "const ", "")
        shape = "".join(f"[{x}]" for x in dims)
        declared = f"{const}{type_.name} {name}{shape}"
        if len(dims) > 1 and d.chance(0.15):
            rest = "".join(f"[{x}]" for x in dims[1:])
            declared = f"{const}{type_.name} (*{name}){rest}"
        self._add(memory, type_, writable, tuple(extents), declared)

    def _global_(self, type_: Type, writable: bool) -> None:
        d, name = self.d, self.d.name("state", "field", "grid", "lut", "u")
        extents = d.one((d.rng.randint(6, 40),), (2, d.rng.randint(4, 9), d.rng.randint(4, 9)),
                        (d.rng.randint(3, 9), d.rng.randint(3, 9)))  # fmt: skip
        shape = "".join(f"[{x}]" for x in extents)
        d.top(name, f"{d.one('static ', '')}{type_.name} {name}{shape};")
        memory = Memory(name, type_.name, [], fixed=_product(extents), place="global")
        self.parameters.append(("", memory))
        self._add(memory, type_, writable, extents)

    def _table(self, type_: Type, writable: bool) -> None:
        d, name = self.d, self.d.name("taps", "table", "coeff", "offs")
        count = d.rng.randint(3, 9)
        low, high = 0, 0
        if type_.is_float:
            values = [f"{d.rng.uniform(-2, 2):.3f}" + "f" * (type_ == FLOAT) for _ in range(count)]
        else:
            numbers = [d.rng.randint(-4 * type_.signed, 9) for _ in range(count)]
            low, high = converted((min(numbers), max(numbers)), type_)
            values = list(map(str, numbers))
        text = f"static const {type_.name} {name}[{d.one('', count)}] = {{{', '.join(values)}}};"
        if d.chance(0.7):
            d.top(name, text)
        else:
            d.write(text)
        memory = Memory(name, type_.name, [], fixed=count, place="table")
        self.ctx = self.ctx.plus(Array(memory, name, type_, low, high, (count,)))

    def _holder(self, type_: Type, writable: bool) -> None:
        """A structure with the pointer and sizes: ``im->px[y * im->w + x]``."""
        d, name = self.d, self.d.name("im", "mat", "sig", "g")
        tag, data = d.name("image", "matrix", "signal"), d.name(f"{name}_data")
        sizes = {n: d.rng.randint(1, 12) for n in d.one(("w", "h"), ("n",), ("rows", "cols"))}
        const = "" if writable else d.one("const ", "")
        whole = d.one(INT, INT, SIZE_T, UNSIGNED)
        members = f"{whole.name} {', '.join(sizes)}; {const}{type_.name} *px;"
        d.top(tag, f"struct {tag} {{ {members} }};")
        given = ", ".join(f".{n} = {value}" for n, value in sizes.items())
        value = f"(struct {tag}){{{given}, .px = @{data}}}"
        arrow = d.chance(0.7)
        declared = f"{d.one('', 'const ')}struct {tag} {'*' * arrow}{name}"
        argument = Argument(name, f"struct {tag}", value="&" * arrow + value)
        self.parameters.append((declared, argument))
        root = f"{name}{'->' if arrow else '.'}"
        for size, number_ in sizes.items():
            self.sizes[root + size] = number_
            self.ctx = self.ctx.knowing(Scalar(root + size, whole, number_, number_))
        memory = Memory(data, type_.name, [], place="held")
        self._add(memory, type_, writable)
        array = self.ctx.arrays[-1]
        array.text = f"{root}px"
        self.parameters.append(("", memory))

    def _structure(self, type_: Type, writable: bool) -> None:
        d, name = self.d, self.d.name("p", "points", "cells", "q")
        tag = d.name("point", "cell", "sample")
        types = [type_, type_, d.one(FLOAT, INT, U8, DOUBLE)]
        members = ["x", "y", "id"] if d.chance(0.5) else ["re", "im", "weight"]
        memory = Memory(name, f"struct {tag}", [])
        declared = [f"    {t.name} {m};" for t, m in zip(types, members, strict=True)]
        d.top(tag, "\n".join([f"struct {tag} {{", *declared, "};"]))
        for t, m in zip(types, members, strict=True):
            field, low, high, budget = self._content(t, writable=writable)
            memory.fields.append(Field(field.type, field.low, field.high, m))
            self.ctx = self.ctx.plus(
                Array(memory, name, t, low, high, (), writable, member=f".{m}", budget=budget)
            )
        const = "" if writable else "const "
        self.parameters.append((f"{const}struct {tag} *{name}", memory))

    def _local(self, type_: Type, writable: bool) -> None:
        self.ctx = self.ctx.plus(local_array(self.d, self.d.rng.randint(4, 24)))

    def _scalars(self) -> None:
        d = self.d
        for _ in range(d.one(0, 0, 1, 1, 2)):
            name, type_ = d.name(*SCALARS), d.one(FLOAT, DOUBLE, INT, d.one(*INTEGERS))
            value, low = d.one("0.5", "1.5", "2.0", "-0.25"), 0
            if not type_.is_float:
                low = d.one(1, 2, 5, 50, 100)
                value = str(low)
            argument = Argument(name, type_.name, value=value)
            self.parameters.append((f"{type_.name} {name}", argument))
            self.ctx = self.ctx.holding(Scalar(name, type_, low, low))

    # What stands around the nests

    def _before(self) -> Scalar | None:
        """Statements before the nests; a scalar that leaves the function, if there is one."""
        d = self.d
        if d.chance(0.25):
            type_ = d.one(INT, INT, SIZE_T)
            names = [d.name("i"), d.name("j"), d.name("k")]
            d.write(f"{type_.name} {', '.join(names)};")
            self.write.loops.outer = [Scalar(n, type_) for n in names]
        leave = self._leaving() if d.chance(0.3) else None
        if d.chance(0.1) and self.sizes:
            self._early()
        for _ in range(d.one(0, 0, 0, 1, 1, 2)):
            self._change()
        if d.chance(0.2):
            self.write.local(self.ctx)
        if d.chance(0.15):
            self.ctx = self.write.row(self.ctx) or self.ctx
        return leave

    def _leaving(self) -> Scalar:
        d = self.d
        type_ = d.one(INT, LONG, DOUBLE, FLOAT, UNSIGNED, SIZE_T, BOOL)
        scalar, first = self.write.fresh(type_, "hits", "total", "energy", "found")
        d.write(f"{type_.name} {scalar.name} = {first};")
        self.ctx = self.ctx.holding(scalar)
        self.result = type_.name if d.chance(0.6) else ""
        return scalar

    def _early(self) -> None:
        name = self.d.one(*self.sizes)
        if self.result:
            self.d.write(f"if ({name} <= 0) return 0;")
        else:
            self.d.write(f"if ({name} == 0)")
            self.d.write("    return;")

    def _change(self) -> None:
        """A statement that changes a parameter."""
        d = self.d
        declared = {a.name: text for text, a in self.parameters if text}
        whole = [w for w in self.ctx.whole if not declared.get(w.name, "const").startswith("const")]
        form = d.weighted(less=2, half=2, cut=1, loop=0.7, data=1.5, pointer=1.5)
        if form == "pointer":
            return self._moved_pointer()
        if form == "data":
            data = [s for s in self.ctx.data if s.name in declared and s.type.is_float]
            if data:
                one = d.one(*data)
                d.write(d.one(f"{one.name} *= 2;", f"{one.name} = {one.name} * 0.5f + 1.0f;"))
            return None
        if not whole:
            return None
        one = d.one(*whole)
        name, value = one.name, one.low
        text, after = {
            "less": (d.one(f"{name}--;", f"{name} = {name} - 1;", f"{name} -= 1;"), value - 1),
            "half": (d.one(f"{name} = {name} / 2;", f"{name} /= 2;", f"{name} >>= 1;"), value // 2),
            "cut": (f"if ({name} > 6) {name} = 6;", min(value, 6)),
            "loop": (f"while ({name} > 5) {name}--;", min(value, 5)),
        }[form]
        if after < 1:
            return None
        d.write(text)
        self.ctx = self.ctx.knowing(Scalar(name, one.type, after, after))
        return None

    def _moved_pointer(self) -> None:
        d = self.d
        pointers = [
            a for a in self.ctx.arrays
            if not a.extents and not a.member and not a.memory.fixed and not a.root
            and a.text.isidentifier()
        ]  # fmt: skip
        if pointers:
            one, step = d.one(*pointers), d.rng.randint(1, 8)
            low, high = one.start
            if high + step < 100:
                one.start = (low + step, high + step)
                d.write(d.one(f"{one.text} += {step};", f"{one.text} = {one.text} + {step};"))

    def _after(self, leave: Scalar | None) -> None:
        d = self.d
        if leave is None:
            return
        if self.result:
            d.write(f"return {leave.name};")
            return
        name = d.name("result_out", "hot", "sum_out")
        field = Field(leave.type.name, 0, 0)
        self.parameters.append(
            (f"{leave.type.name} *{name}", Memory(name, leave.type.name, [field], fixed=1))
        )
        d.write(d.one(f"*{name} = {leave.name};", f"{name}[0] = {leave.name};"))

    # The file

    def _assembled(self) -> Case:
        d = self.d
        declared = [text for text, _ in self.parameters if text]
        head = f"{self.result or 'void'} f({', '.join(declared) or 'void'})"
        text = "".join(f"#include <{header}.h>\n" for header in HEADERS) + "\n"
        text += "".join(f"{x}\n\n" for x in d.tops.values())
        text += "\n".join([head, "{", *d.lines, "}", ""])
        arguments = [a.argument() if isinstance(a, Memory) else a for _, a in self.parameters]
        arguments.sort(key=lambda a: a.is_global)
        return Case(
            text, "f", dict(self.sizes), tuple(arguments), self.result, tuple(d.tops), d.discrete
        )


def _product(extents) -> int:
    total = 1
    for extent in extents:
        total *= extent
    return total
