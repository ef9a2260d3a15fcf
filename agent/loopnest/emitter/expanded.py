"""What writing out jams and lanes makes of a program: plain loops, and what C needs besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.loopnest.emitter.lifetimes import homes
from agent.loopnest.program import Access, Affine, Bound, DType, Loop, Program, Temporary


@dataclass(frozen=True)
class Remainder:
    """Where the loop over the iterations left by a main loop begins (not affine).

    ``lower + (upper - lower + step) / step / factor * factor * step``.
    """

    of: Loop
    factor: int


@dataclass(frozen=True)
class Aligned:
    """Where the first cache line begins that a loop over one row writes (not affine).

    At ``lower`` of the loop ``of``, or up to ``width - 1`` iterations later, where ``target`` lies
    at the beginning of a line of ``width`` elements.
    """

    of: Loop
    target: Access
    width: int


@dataclass(frozen=True)
class Expanded:
    """A program without jams and lanes.

    Attributes:
        program: it may use the names in ``remainders`` in lower bounds.
        remainders: first values of remainder loops, and of loops over whole lines.
        homes: for each temporary, the iterators around its declaration.
        shapes: of temporaries that are arrays: what loops pack, and what every lane has one of.
    """

    program: Program
    remainders: Mapping[str, Remainder | Aligned] = field(default_factory=dict)
    homes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass
class Expansion:
    """The parts of an ``Expanded`` while loops are written out."""

    types: Mapping[str, DType]
    homes: dict[str, tuple[str, ...]]
    temporaries: dict[str, Temporary]
    remainders: dict[str, Remainder | Aligned] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @staticmethod
    def of(program: Program) -> Expansion:
        """Of a program of which nothing is written out yet; raises as ``homes``."""
        types = {item.name: item.dtype for item in program.declared}
        return Expansion(types, dict(homes(program)), {t.name: t for t in program.temporaries})

    def copy_temporary(self, name: str, suffix: str) -> str:
        """One more temporary like ``name``; what it is called."""
        new = f"{name}#{suffix}"
        self.homes[new] = self.homes[name]
        self.temporaries[new] = replace(self.temporaries[name], name=new)
        if name in self.shapes:
            self.shapes[new] = self.shapes[name]
        return new

    def add_array(self, name: str, like: str, home: tuple[str, ...], shape: tuple[int, ...]) -> str:
        """A temporary that is an array, of the type of ``like``; what it is called."""
        while name in self.temporaries:
            name += "'"
        dtype = self.temporaries[like].dtype if like in self.temporaries else self.types[like]
        self.temporaries[name] = Temporary(name, dtype, 0)
        self.homes[name], self.shapes[name] = home, shape
        return name

    def left_over(self, loop: Loop, factor: int, name: str = "rest") -> Affine:
        """Where the iterations of ``loop`` begin that are left by groups of ``factor``."""
        trips = constant_trips(loop)
        if trips is not None:
            return loop.lower[0].expr + trips // factor * factor * loop.step
        return Affine.var(
            self.first_value(f"{loop.iterator}#{name}", Remainder(replace(loop, body=()), factor))
        )

    def first_value(self, wanted: str, start: Remainder | Aligned) -> str:
        """What the first value of a loop is called, if possible as ``wanted``."""
        title, number = wanted, 1
        while self.remainders.setdefault(title, start) != start:  # of a part of the loop
            number += 1
            title = f"{wanted}#{number}"
        return title


def constant_trips(loop: Loop) -> int | None:
    """The number of iterations where it is the same number whenever the loop is reached."""
    bounds = (*loop.lower, *loop.upper)
    if len(bounds) > 2 or any(b.divisor != 1 for b in bounds):
        return None
    gap = loop.upper[0].expr - loop.lower[0].expr
    return max(0, gap.const // loop.step + 1) if gap.is_constant else None


def groups(loop: Loop, factor: int) -> Loop:
    """The loop over whole groups of ``factor`` iterations; its body is to be replaced."""
    missing = (factor - 1) * loop.step
    upper = tuple(Bound(b.expr - missing * b.divisor, b.divisor) for b in loop.upper)
    return replace(loop, upper=upper, step=factor * loop.step, jam=1)
