"""A C function that is being written: what it has declared, and what its variables may hold."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from tests.differential.case import Argument, Field
from tests.generated_c.numbers import E, Type

MOST_ELEMENTS = 4000
MOST_TRIPS = 3000
BASE = {64: 1 << 20, 32: 1 << 12}  # what is stored in signed numbers at once
WHOLE = {64: 1 << 40, 32: 1 << 20}  # what they may grow to by sums


def room(type_: Type) -> tuple[int, int, int]:
    """What data of a type may hold (low, high), and how much sums may add to it."""
    if type_.is_float:
        return 0, 0, 0
    if type_.bits < 32 or not type_.signed:
        return type_.low, type_.high, 0
    whole = WHOLE[type_.bits]
    return -whole, whole, whole - BASE[type_.bits]


@dataclass(eq=False)
class Memory:
    """Something of several elements; ``fixed`` where the number is declared."""

    name: str
    type: str
    fields: list[Field]
    fixed: int = 0
    needed: int = 1
    place: str = "parameter"  # or global, held (by a structure), local, table
    declared: str = ""  # as a parameter
    restrict: bool = False

    def argument(self) -> Argument:
        elements = self.fixed or self.needed
        fields = tuple(self.fields)
        is_global, is_held = self.place == "global", self.place == "held"
        return Argument(
            self.name, self.type, elements, fields=fields, is_global=is_global, is_held=is_held
        )


@dataclass(eq=False)
class Array:
    """What subscripts apply to: an array, a member of an array of structures, a row of one.

    Attributes:
        memory: where its elements are.
        text: what stands before the subscripts.
        type: of an element.
        low: the least value an element may have.
        high: the greatest.
        extents: of its dimensions; none where any flat subscript will do.
        writable: whether it may be assigned.
        member: the text behind the subscripts.
        start: the element that subscript 0 means, at least and at most.
        base: what may be stored in it at once, and what sums may still add.
    """

    memory: Memory
    text: str
    type: Type
    low: int = 0
    high: int = 0
    extents: tuple[int, ...] = ()
    writable: bool = False
    member: str = ""
    start: tuple[int, int] = (0, 0)
    root: Array | None = None
    budget: int = 0

    @property
    def whole(self) -> Array:
        """The array that this is a row of."""
        return self.root.whole if self.root else self


@dataclass(eq=False)
class Scalar:
    """A variable: ``low..high`` always holds where it is in sight.

    Attributes:
        name: its name.
        type: its type.
        low: the least value it may have.
        high: the greatest.
        writable: whether statements may assign it.
        text: how it is read, where that is not its name.
        budget: what sums may still add to it.
        moves: whether loops change it.
    """

    name: str
    type: Type
    low: int = 0
    high: int = 0
    writable: bool = False
    text: str = ""
    budget: int = 0
    moves: bool = False

    @property
    def value(self) -> E:
        return E(self.text or self.name, self.type, self.low, self.high)


@dataclass(frozen=True)
class Context:
    """Where a statement stands.

    Attributes:
        whole: iterators and other whole numbers that subscripts and bounds may use.
        data: scalars that hold data.
        arrays: arrays in sight.
        trips: how often the place is reached, at most.
        depth: how many loops are around it.
        loop: whether ``continue`` may stand here.
    """

    whole: tuple[Scalar, ...] = ()
    data: tuple[Scalar, ...] = ()
    arrays: tuple[Array, ...] = ()
    trips: int = 1
    depth: int = 0
    loop: bool = False

    def plus(self, *items: Scalar | Array) -> Context:
        """With more in sight; whole numbers are said by their type."""
        arrays = tuple(x for x in items if isinstance(x, Array))
        return replace(self, arrays=self.arrays + arrays)

    def knowing(self, *whole: Scalar) -> Context:
        """With these whole numbers, which hide those of their names."""
        hidden = {x.name for x in whole}
        rest = self.without(hidden)
        return replace(rest, whole=rest.whole + whole)

    def holding(self, *data: Scalar) -> Context:
        """With these data."""
        rest = self.without({x.name for x in data})
        return replace(rest, data=rest.data + data)

    def without(self, names: set[str]) -> Context:
        """Where these names mean something else."""
        return replace(
            self,
            whole=tuple(x for x in self.whole if x.name not in names),
            data=tuple(x for x in self.data if x.name not in names),
            arrays=tuple(
                x for x in self.arrays if x.text not in names and x.memory.name not in names
            ),
        )


@dataclass
class Draft:
    """The function so far."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    indent: int = 1
    taken: set[str] = field(default_factory=set)
    tops: dict[str, str] = field(default_factory=dict)  # name -> text of what the file defines
    discrete: bool = False

    def write(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def one(self, *items):
        return self.rng.choice(items)

    def weighted(self, **weights: float) -> str:
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def name(self, *wanted: str) -> str:
        """One of the wanted names that is free, or one with a number."""
        free = [w for w in wanted if w not in self.taken]
        name = self.rng.choice(free) if free else ""
        number = 2
        while not name or name in self.taken:
            name, number = f"{wanted[0]}{number}", number + 1
        self.taken.add(name)
        return name

    def top(self, name: str, text: str) -> str:
        """What the file defines, once."""
        self.tops.setdefault(name, text)
        self.taken.add(name)
        return name
