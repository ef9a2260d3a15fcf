"""What the worker must know of a program: its arguments, and how closely results must agree.

How closely follows from the program itself. Every operation rounds, so results of a chain of n
operations in another order differ by some sqrt(n) roundings, times what the program makes of a
change in its last bits. The latter is measured (``tolerances``): the program as written runs
again with the last bits of its inputs changed, and with all operations rounded up, or down
(Kahan, "How futile are mindless assessments of roundoff in floating-point computation?", 2006).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.loopnest.emitter import extent
from agent.loopnest.emitter.lifetimes import own_loops
from agent.loopnest.program import (
    Access,
    Binary,
    DType,
    Expr,
    Loop,
    Program,
    Read,
    Statement,
    Unary,
    reads,
    statements,
    walk,
)

ROUNDING = {DType.F32: 2.0**-23, DType.F64: 2.0**-52}
MARGIN = 16.0  # of tolerances beyond the differences that are expected
ROUGH = 0.01  # a result that is off by more under rounding alone shows little
SCALAR_FLOAT = 0.75
PIVOT_FLOAT = 4.0
SCALAR_INT = 3
WIRE_NAME = {DType.F32: "f32", DType.F64: "f64", DType.I32: "i32", DType.U8: "u8"}


@dataclass(frozen=True, slots=True)
class ArrayArgument:
    """One array argument.

    Attributes:
        name: for messages.
        dtype: element type; ``elements``: how many.
        written: an output, compared with the base's; other arrays are write-protected.
        restored: written and also read: set back before every sample.
        tolerance: largest difference from the base's result where that hangs on nothing but its
            own roundings: relative to the element or the array's mean for floats, in units for
            integers.
        matrix: rows and columns of the matrices in its last dimensions; 1 and 1 for a pivot,
            1 and its length for another vector.
    """

    name: str
    dtype: DType
    elements: int
    written: bool
    restored: bool
    tolerance: float
    matrix: tuple[int, int] = (1, 1)

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.elements * self.dtype.size


@dataclass(frozen=True, slots=True)
class ScalarArgument:
    """One number passed by pointer; ``pivot``: its value among dominant inputs."""

    dtype: DType
    value: float
    pivot: float


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a program and all its variants, in the order of the entry point.

    Attributes:
        arrays: the arrays; ``scalars``: the numbers after them.
        chain: about how many roundings follow each other on the way to a result.
    """

    arrays: tuple[ArrayArgument, ...]
    scalars: tuple[ScalarArgument, ...] = ()
    chain: int = 1

    @property
    def bytes(self) -> int:
        """Bytes the worker allocates: outputs are held three times (now, pristine, reference)."""
        return sum(a.bytes * (3 if a.written else 1) for a in self.arrays)

    def commands(self) -> list[str]:
        """The worker's commands that make the arguments."""
        lines = [
            f"array {WIRE_NAME[a.dtype]} {a.elements} {a.written:d} {a.restored:d} {a.tolerance!r}"
            f" {a.matrix[0]} {a.matrix[1]}"
            for a in self.arrays
        ]
        return lines + [
            f"scalar {WIRE_NAME[s.dtype]} {s.value!r} {s.pivot!r}" for s in self.scalars
        ]


@dataclass(frozen=True, slots=True)
class Job:
    """One base program and its variants as C sources, all with the same arguments."""

    arguments: Arguments
    base: str
    variants: tuple[str, ...]


def arguments_of(program: Program) -> Arguments:
    """The arguments of ``program``: what it writes, what must be restored, and tolerances."""
    body = [s for _, s in statements(program.body)]
    written = {s.target.array for s in body}
    read = {a.array for s in body for a in reads(s.value)} | {s.target.array for s in body if s.op}
    pivots = frozenset(_pivots(body))
    chain = sum(_roundings(program, around, s) for around, s in statements(program.body))
    arrays = tuple(
        ArrayArgument(
            name=a.name,
            dtype=a.dtype,
            elements=a.elements,
            written=a.name in written,
            restored=a.name in written and a.name in read,
            tolerance=_tolerance(
                program, a.dtype, [s for s in body if s.target.array == a.name], chain
            ),
            matrix=_matrix(a.shape, pivot=a.name in pivots),
        )
        for a in program.arrays
    )
    scalars = tuple(_scalar(s.dtype, pivot=s.name in pivots) for s in program.scalars)
    return Arguments(arrays, scalars, chain)


def tolerances(
    arguments: Arguments, flipped: Sequence[float], directed: Sequence[float]
) -> tuple[float, ...]:
    """How far results may be from the base's, for each array as ``ArrayArgument.tolerance``.

    Args:
        arguments: of the program.
        flipped: for each array the difference that other last bits of the inputs made.
        directed: the one that rounding all one way made: it adds up n roundings, which in
            another order add up like the square root of n.
    """
    root = math.sqrt(arguments.chain)
    return tuple(
        max(a.tolerance, MARGIN * max(flip * root, turn / root))
        if a.dtype.is_float
        else a.tolerance + max(flip, turn)
        for a, flip, turn in zip(arguments.arrays, flipped, directed, strict=True)
    )


def roughness(arguments: Arguments, allowed: Sequence[float]) -> float:
    """The largest of the tolerances ``allowed`` for floats."""
    pairs = zip(arguments.arrays, allowed, strict=True)
    return max((t for a, t in pairs if a.written and a.dtype.is_float), default=0.0)


def _tolerance(program: Program, dtype: DType, writers: list[Statement], chain: int) -> float:
    """Integers must be equal, but for one unit where rounded floats were converted to them."""
    if dtype.is_float:
        return MARGIN * math.sqrt(chain) * _coarsest(program)
    floats = any(program.dtype_of(a.array).is_float for s in writers for a in reads(s.value))
    return 1.0 if floats else 0.0


def _coarsest(program: Program) -> float:
    """The rounding of the shortest floats of ``program``, which its other floats are made of."""
    return max((ROUNDING[x.dtype] for x in program.declared if x.dtype.is_float), default=0.0)


def _roundings(program: Program, around: Sequence[Loop], statement: Statement) -> int:
    """How many instances of ``statement`` may follow each other on the way to one result.

    Those that write the same element do; where it reads other elements of what it writes, so do
    the iterations along its subscripts (a recurrence).
    """
    target = statement.target
    own = frozenset(n for subscript in target.subscripts for n in subscript.names)
    for temporary in program.temporaries:
        if temporary.name == target.array:
            own = own_loops(program, temporary)
    trips = {loop.iterator: _trips(loop, around[:n]) for n, loop in enumerate(around)}
    found = math.prod(count for name, count in trips.items() if name not in own)
    if any(a.array == target.array and a != target for a in reads(statement.value)):
        found += sum(count for name, count in trips.items() if name in own)
    return found


def _trips(loop: Loop, around: Sequence[Loop]) -> int:
    """At most how many iterations ``loop`` has."""
    first = max(extent.least(b.expr, around) // b.divisor for b in loop.lower)
    last = min(extent.greatest(b.expr, around) // b.divisor for b in loop.upper)
    return max(1, (last - first) // loop.step + 1)


def _scalar(dtype: DType, *, pivot: bool) -> ScalarArgument:
    if not dtype.is_float:
        return ScalarArgument(dtype, SCALAR_INT, SCALAR_INT)
    return ScalarArgument(dtype, SCALAR_FLOAT, PIVOT_FLOAT if pivot else SCALAR_FLOAT)


def _matrix(shape: Sequence[int], *, pivot: bool) -> tuple[int, int]:
    """See ``ArrayArgument.matrix``."""
    if len(shape) > 1:
        return shape[-2], shape[-1]
    return (1, 1) if pivot else (1, shape[0])


def _pivots(body: Sequence[Statement]) -> Iterator[str]:
    """What stands in a divisor as a term of its own: ``b`` in ``x / (b[i] - a[i] * y)``."""
    values: dict[str, list[Expr]] = {}
    for statement in body:
        values.setdefault(statement.target.array, []).append(statement.value)
    divisors = [
        x.right for s in body for x in walk(s.value) if isinstance(x, Binary) and x.op == "/"
    ]
    seen: set[str] = set()
    while divisors:
        for access in _terms(divisors.pop()):
            if access.array not in seen:
                seen.add(access.array)
                if not access.subscripts:  # a temporary stands for what it is made of
                    divisors += values.get(access.array, [])
    yield from seen


def _terms(expr: Expr) -> Iterator[Access]:
    """The accesses that ``expr`` is a sum of, as far as it is one."""
    match expr:
        case Read(access):
            yield access
        case Unary("-", x):
            yield from _terms(x)
        case Binary("+" | "-", left, right):
            yield from _terms(left)
            yield from _terms(right)
