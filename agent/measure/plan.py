"""What the worker must know of a program: its arguments, and how closely results must agree.

How closely follows from the program itself. Every operation rounds, so results of a chain of n
operations in another order differ by some sqrt(n) roundings, times what the program makes of a
change in its last bits. The latter is measured (``tolerances``): the program as written runs
again with the last bits of its inputs changed, and with all operations rounded up, or down
(Kahan, "How futile are mindless assessments of roundoff in floating-point computation?", 2006).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.loopnest.arithmetic import Interval, Ranges, coarsest_float, number_ranges, within
from agent.loopnest.emitter import extent
from agent.loopnest.emitter.lifetimes import own_loops
from agent.loopnest.program import (
    Access,
    Binary,
    Derived,
    DType,
    Expr,
    Loop,
    Program,
    Read,
    Statement,
    Unary,
    all_reads,
    names_in,
    reads,
    statements,
    values,
    walk,
)

ROUNDING = {DType.F32: 2.0**-23, DType.F64: 2.0**-52}
MARGIN = 16.0  # of tolerances beyond the differences that are expected
COARSE = 0.5  # of that square; 0.3 was seen (a sum of four million squares in single precision)
ROUGH = 0.01  # a result that is off by more under rounding alone shows little
SCALAR_FLOAT = 0.75
PIVOT_FLOAT = 4.0
SCALAR_INT = 3
USUAL = 1, 100  # the values of integers where nothing asks for others


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
        values: the least and the greatest value of integers: what subscripts are made of has to
            stay within the arrays.
    """

    name: str
    dtype: DType
    elements: int
    written: bool
    restored: bool
    tolerance: float
    matrix: tuple[int, int] = (1, 1)
    values: Interval = USUAL

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
            f"array {a.dtype.name.lower()} {a.elements} {a.written:d} {a.restored:d}"
            f" {a.tolerance!r} {a.matrix[0]} {a.matrix[1]}"
            + (f" {a.values[0]} {a.values[1]}" if a.values != USUAL else "")
            for a in self.arrays
        ]
        return lines + [
            f"scalar {s.dtype.name.lower()} {s.value!r} {s.pivot!r}" for s in self.scalars
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
    read = {a.array for s in body for a in all_reads(s)} | {s.target.array for s in body if s.op}
    needed = index_values(program)
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
            values=needed.get(a.name, USUAL),
        )
        for a in program.arguments
    )
    scalars = tuple(
        _scalar(s.dtype, needed.get(s.name, USUAL), pivot=s.name in pivots) for s in program.scalars
    )
    return Arguments(arrays, scalars, chain)


def tolerances(
    arguments: Arguments, flipped: Sequence[float], directed: Sequence[float]
) -> tuple[float, ...]:
    """How far results may be from the base's, for each array as ``ArrayArgument.tolerance``.

    Args:
        arguments: of the program.
        flipped: for each array the difference that other last bits of the inputs made.
        directed: the one that rounding all one way made: it adds up n roundings, which in
            another order add up like the square root of n; where they are no longer small beside
            what is added (a sum of millions in single precision), they have a mean of their own,
            which grows with their square.
    """
    root = math.sqrt(arguments.chain)
    return tuple(
        max(a.tolerance, MARGIN * max(flip * root, turn / root), COARSE * turn**2)
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
        rounding = ROUNDING[coarsest_float(program) or dtype]
        return MARGIN * math.sqrt(chain) * rounding
    floats = any(program.dtype_of(a.array).is_float for s in writers for a in all_reads(s))
    return 1.0 if floats else 0.0


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
    if any(a.array == target.array and a != target for a in all_reads(statement)):
        found += sum(count for name, count in trips.items() if name in own)
    return found


def _trips(loop: Loop, around: Sequence[Loop]) -> int:
    """At most how many iterations ``loop`` has."""
    first = max(extent.least(b.expr, around) // b.divisor for b in loop.lower)
    last = min(extent.greatest(b.expr, around) // b.divisor for b in loop.upper)
    return max(1, (last - first) // loop.step + 1)


def index_values(program: Program) -> dict[str, Interval]:
    """What the arrays and scalars that numbers in subscripts are made of may hold.

    Of 1 to 100, as far as the numbers then stay within their ranges: all such arrays of a number
    hold values of one range, which begins at 1, at 0 or where the number's own does.
    """
    found: dict[str, Interval] = {}
    for around, statement in statements(program.body):
        for number in statement.derived:
            index = _Index(program, around, statement, number)
            names = {a.array for a in reads(number.value)}
            if not index.stays({n: found.get(n, USUAL) for n in names}):
                window = index.window(names)
                found |= {n: _common_part(window, found.get(n, window)) for n in names}
    return found


@dataclass(frozen=True)
class _Index:
    """A number in the subscripts of a statement."""

    program: Program
    around: tuple[Loop, ...]
    statement: Statement
    number: Derived

    def stays(self, elements: Mapping[str, Interval]) -> bool:
        """Whether it keeps its range while what it is made of keeps to ``elements``."""
        number, condition = self.number, self.statement.condition
        ends = number_ranges(self.around, self.statement)
        ranges = Ranges(self.program.dtype_of, ends, elements)
        if condition is not None and number.name not in names_in(condition):
            ranges = ranges.assuming(condition)
        values = ranges.of(number.value)
        return values is None or within(values, (number.low, number.high))

    def window(self, names: Collection[str]) -> Interval:
        """The largest range, of those tried, that the arrays ``names`` may hold values of."""
        dtypes = [self.program.dtype_of(n).range for n in names]
        for first in (1, 0, self.number.low):
            low = first
            high = min([max(low, self.number.high, USUAL[1]), *(most for _, most in dtypes)])
            while low < high:  # a larger range of values gives a larger range of numbers
                middle = (low + high + 1) // 2
                if self.stays(dict.fromkeys(names, (first, middle))):
                    low = middle
                else:
                    high = middle - 1
            if self.stays(dict.fromkeys(names, (first, low))):
                return first, low
        return self.number.low, self.number.low


def _common_part(one: Interval, two: Interval) -> Interval:
    low, high = max(one[0], two[0]), min(one[1], two[1])
    return (low, high) if low <= high else one


def _scalar(dtype: DType, values: Interval, *, pivot: bool) -> ScalarArgument:
    if not dtype.is_float:
        value = min(max(SCALAR_INT, values[0]), values[1])
        return ScalarArgument(dtype, value, value)
    return ScalarArgument(dtype, SCALAR_FLOAT, PIVOT_FLOAT if pivot else SCALAR_FLOAT)


def _matrix(shape: Sequence[int], *, pivot: bool) -> tuple[int, int]:
    """See ``ArrayArgument.matrix``."""
    if len(shape) > 1:
        return shape[-2], shape[-1]
    return (1, 1) if pivot else (1, shape[0])


def _pivots(body: Sequence[Statement]) -> Iterator[str]:
    """What stands in a divisor as a term of its own: ``b`` in ``x / (b[i] - a[i] * y)``."""
    made_of: dict[str, list[Expr]] = {}
    for statement in body:
        made_of.setdefault(statement.target.array, []).append(statement.value)
    parts = (x for s in body for value in values(s) for x in walk(value))
    divisors = [x.right for x in parts if isinstance(x, Binary) and x.op == "/"]
    seen: set[str] = set()
    while divisors:
        for access in _terms(divisors.pop()):
            if access.array not in seen:
                seen.add(access.array)
                if not access.subscripts:  # a temporary stands for what it is made of
                    divisors += made_of.get(access.array, [])
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
