"""Memory that a function of a person's is called with, and what is compared of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.arrays import Array
from agent.loopnest.frontend.ctree import ArrayType, CType, PointerType, RecordType, ScalarType
from agent.loopnest.program import DType

NUMBERS = {
    DType.F32: "f4", DType.F64: "f8", DType.I8: "i1", DType.U8: "u1", DType.I16: "i2",
    DType.U16: "u2", DType.I32: "i4", DType.U32: "u4", DType.I64: "i8", DType.U64: "u8",
}  # fmt: skip
TOLERANCE = {DType.F32: 1e-3, DType.F64: 1e-9}  # sums may be in another order
MOST = 100  # of whole numbers in memory; of truth values 1


class UncheckedError(Exception):
    """Why a function cannot be called with inputs that are made up."""


@dataclass(frozen=True)
class Numbers:
    """Numbers of one type side by side in an element of memory, from the byte ``offset`` on."""

    offset: int
    dtype: DType
    count: int = 1
    most: int = MOST

    def drawn(self, rng: np.random.Generator, elements: int) -> Array:
        """For each element: floats from 0.5 to 2.5, or whole numbers from 1 (truth: 0) on."""
        if self.dtype.is_float:
            return rng.uniform(0.5, 2.5, (elements, self.count))
        return rng.integers(self.most > 1, self.most + 1, (elements, self.count))


@dataclass(frozen=True)
class CallMemory:
    """Memory that a run is given and gives back.

    Attributes:
        name: of the parameter, global variable, or member of a structure (``im->data``).
        before: bytes before the address that is passed.
        count: elements.
        numbers: those in an element.
        stride: bytes of an element.
        role: how the function gets it: ``passed``; as a ``value`` of a parameter; as what a global
            ``pointer`` or a ``member`` leads to; or as a global ``array``.
    """

    name: str
    before: int
    count: int
    numbers: tuple[Numbers, ...]
    stride: int
    role: str = "passed"

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self.count * self.stride

    def dtype(self) -> np.dtype[Any]:
        """An element, as numpy has it; bytes that no number covers are left out."""
        return np.dtype(
            {
                "names": [f"f{x.offset}" for x in self.numbers],
                "formats": [(NUMBERS[x.dtype], (x.count,)) for x in self.numbers],
                "offsets": [x.offset for x in self.numbers],
                "itemsize": self.stride,
            }
        )

    def filled(self, rng: np.random.Generator) -> Array:
        """Numbers that are made up; pointers are null."""
        out = np.zeros(self.count, self.dtype())
        for x in self.numbers:
            out[f"f{x.offset}"] = x.drawn(rng, self.count)
        return out

    def same(self, one: bytes, two: bytes, coarsest: DType | None) -> bool:
        """Whether two runs left the same numbers in it; ``coarsest`` as for ``same``."""
        a, b = (np.frombuffer(text, self.dtype(), self.count) for text in (one, two))
        pairs = ((a[f"f{x.offset}"], b[f"f{x.offset}"], x.dtype) for x in self.numbers)
        return all(same(*pair, coarsest) for pair in pairs)


def same(one: Array, two: Array, kind: DType, coarsest: DType | None) -> bool:
    """Whether two results are the same numbers, but for rounding.

    ``coarsest``: the shortest floats of what computed them (``coarsest_float``), of which theirs
    may be made.
    """
    if not kind.is_float:
        return bool((one == two).all())
    tolerance = max(TOLERANCE[kind], TOLERANCE[coarsest or kind])
    with np.errstate(invalid="ignore", over="ignore"):
        scale = np.maximum(1, np.maximum(np.abs(one), np.abs(two)))
        near = np.abs(one - two) <= tolerance * scale
    return bool((near | (one == two) | (np.isnan(one) & np.isnan(two))).all())


def memory_of(name: str, kind: CType, before: int, after: int, role: str) -> CallMemory:
    """Memory for what ``kind`` leads to or is, with as many bytes before and after an address.

    Raises:
        UncheckedError: it is something else than numbers, and structures of them.
    """
    kind = kind.to if isinstance(kind, PointerType) else kind
    while isinstance(kind, ArrayType):
        kind = kind.element
    numbers = tuple(_numbers(kind, 0))
    stride = numbers[0].dtype.size if isinstance(kind, ScalarType) and numbers else 0
    stride = kind.size if isinstance(kind, RecordType) else stride
    if not stride:
        raise UncheckedError(f"{name!r} leads to something else than numbers")
    front = -(-before // stride)
    count = front + max(1, -(-after // stride))
    return CallMemory(name, front * stride, count, numbers, stride, role)


def _numbers(kind: CType, offset: int) -> Iterator[Numbers]:
    """The numbers in something of a type; bit-fields, pointers and unions hold none."""
    many = 1
    while isinstance(kind, ArrayType) and isinstance(kind.length, int):
        many, kind = many * kind.length, kind.element
    match kind:
        case ScalarType(dtype=DType() as dtype):
            yield Numbers(offset, dtype, many, 1 if kind.is_bool else MOST)
        case RecordType():
            for start in range(offset, offset + many * kind.size, kind.size):
                for field in kind.fields:
                    if field.offset is not None:
                        yield from _numbers(field.type, start + field.offset)
