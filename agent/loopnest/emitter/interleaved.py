"""Reads that a compiler would take for parts of one interleaved record, kept apart.

    for (j = 0; j < 32; j++) { B[i][j] = A[j][i]; B[i + 1][j] = A[j][i + 1]; }

In a SIMD loop gcc (12, as tried) takes ``A[j][i]`` and ``A[j][i + 1]`` for fields of a record as
long as a row of ``A``. It loads whole rows and picks by permutations, where the row's length is a
power of two: with 2048 floats a row that is 25,000 instructions, more than a minute of compiling,
and code several times slower than loads of single elements. Distances that it does not know to be
constant break the record up, so such distances are hidden from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.loopnest.program import (
    Access,
    Affine,
    Loop,
    Program,
    Statement,
    all_reads,
    map_accesses,
    statements,
)

# Elements of a record. The fixed set holds records of 512, which the labels of the bundles are
# timings of; shorter ones are slow as well, but compile in seconds.
LONGEST = 512


def distance_name(distance: int) -> str:
    """What stands in subscripts for a number that is hidden from the compiler."""
    return f"apart#{distance}"


def keep_apart(program: Program, loop: Loop) -> tuple[Loop, set[int]]:
    """``loop`` with what would be one long record broken up, and the distances used for that.

    Args:
        program: declares the arrays.
        loop: a SIMD loop; only one without loops inside is looked at.
    """
    if not all(isinstance(node, Statement) for node in loop.body):
        return loop, set()
    changed = {s.target.array for _, s in statements(program.body)}
    shapes = {a.name: a.shape for a in program.arrays if a.name not in changed}
    first: dict[tuple[str, tuple[tuple[tuple[str, int], ...], ...]], Access] = {}
    moved: dict[Access, Access] = {}
    hidden: set[int] = set()
    for _, statement in statements((loop,)):
        for read in all_reads(statement):
            if read.array in shapes and _is_long(read, shapes, loop):
                like = (read.array, tuple(s.terms for s in read.subscripts))
                start = first.setdefault(like, read)
                moved[read] = _hidden(read, start)
                hidden |= _distances(read, start)
    body = tuple(
        map_accesses(s, lambda access: moved.get(access, access)) for _, s in statements((loop,))
    )
    return replace(loop, body=body), hidden


def _is_long(read: Access, shapes: Mapping[str, tuple[int, ...]], loop: Loop) -> bool:
    """Whether an iteration of ``loop`` goes further than ``LONGEST``, by a power of two."""
    stride, size = 0, 1
    for subscript, extent in zip(
        reversed(read.subscripts), reversed(shapes[read.array]), strict=True
    ):
        stride += subscript.coefficient(loop.iterator) * size
        size *= extent
    stride = abs(stride * loop.step)
    return stride > LONGEST and stride & (stride - 1) == 0


def _distances(read: Access, first: Access) -> set[int]:
    pairs = zip(read.subscripts, first.subscripts, strict=True)
    return {s.const - f.const for s, f in pairs} - {0}


def _hidden(read: Access, first: Access) -> Access:
    """``read`` by its distance from ``first``, which differs from it in constants only."""
    subscripts = (
        f + Affine.var(distance_name(d)) if (d := s.const - f.const) else s
        for s, f in zip(read.subscripts, first.subscripts, strict=True)
    )
    return Access(read.array, tuple(subscripts))
