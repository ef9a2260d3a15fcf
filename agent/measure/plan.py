"""What the worker must know of a program: its arguments, and how closely results must agree."""

from __future__ import annotations

from dataclasses import dataclass

from agent.loopnest.program import DType, Program, Statement, reads, statements

# Sums are re-associated: the error of n terms grows like sqrt(n) * eps for varied values.
TOLERANCE = {DType.F32: 2e-3, DType.F64: 1e-9}
SCALAR_FLOAT = 0.75
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
        tolerance: largest difference from the base's result: relative to the element or the
            array's mean for floats, in units for integers.
    """

    name: str
    dtype: DType
    elements: int
    written: bool
    restored: bool
    tolerance: float

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.elements * self.dtype.size


@dataclass(frozen=True, slots=True)
class ScalarArgument:
    """One number passed by pointer."""

    dtype: DType
    value: float


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a program and all its variants, in the order of the entry point."""

    arrays: tuple[ArrayArgument, ...]
    scalars: tuple[ScalarArgument, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes the worker allocates: outputs are held three times (now, pristine, reference)."""
        return sum(a.bytes * (3 if a.written else 1) for a in self.arrays)

    def commands(self) -> list[str]:
        """The worker's commands that make the arguments."""
        lines = [
            f"array {WIRE_NAME[a.dtype]} {a.elements} {a.written:d} {a.restored:d} {a.tolerance!r}"
            for a in self.arrays
        ]
        return lines + [f"scalar {WIRE_NAME[s.dtype]} {s.value!r}" for s in self.scalars]


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
    arrays = tuple(
        ArrayArgument(
            name=a.name,
            dtype=a.dtype,
            elements=a.elements,
            written=a.name in written,
            restored=a.name in written and a.name in read,
            tolerance=_tolerance(program, a.dtype, [s for s in body if s.target.array == a.name]),
        )
        for a in program.arrays
    )
    scalars = tuple(
        ScalarArgument(s.dtype, SCALAR_FLOAT if s.dtype.is_float else SCALAR_INT)
        for s in program.scalars
    )
    return Arguments(arrays, scalars)


def _tolerance(program: Program, dtype: DType, writers: list[Statement]) -> float:
    """Integers must be equal, but for one unit where rounded floats were converted to them."""
    if dtype.is_float:
        return TOLERANCE[dtype]
    floats = any(program.dtype_of(a.array).is_float for s in writers for a in reads(s.value))
    return 1.0 if floats else 0.0
