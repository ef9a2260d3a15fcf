"""Copies whose source is walked along another dimension than their target, block by block.

    for (k = 0; k < 100; k++)
      for (j = 0; j < 64; j++)       ->    transpose_float(64, 100, &b[0][0], n, &b_pack[0][0], 64)
        b_pack[k][j] = b[j][k];

Rows of a small block are loaded into vector registers, shuffled there, and stored as rows of the
target: one load and one store for eight floats, where compilers take one for each. Blocks are as
wide as vector registers of 32 bytes (AVX). Longer ones would halve loads and stores, which are few
already, at the price of a stage of shuffles more. Elsewhere, and for what blocks leave over, the
helper is two plain loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from agent.loopnest.program import Access, Affine, DType, Loop, Node, Read, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

_BYTES = 32  # of a vector register
_LANE = 16  # bytes within which shuffles are cheap


def is_turned(dtype: DType) -> bool:
    """Whether blocks of such elements are shuffled in registers."""
    return dtype.size in (4, 8)


@dataclass(frozen=True)
class Transposition:
    """Two loops that copy rows of one array to columns of another.

    Attributes:
        rows, columns: the loops over rows and columns of the source, the bounds of which do not
            depend on each other.
        source, target: what is copied, and where to.
        source_row, target_row: elements between neighbouring rows of each.
    """

    rows: Loop
    columns: Loop
    source: Access
    target: Access
    source_row: int
    target_row: int


def columns_of(source: Access, target: Sequence[str]) -> str:
    """The loop that walks along the rows of ``source`` where that is not the last of ``target``.

    Args:
        source: what is copied.
        target: the loop for each dimension of where it is copied to.

    Returns:
        Its iterator, or nothing.
    """
    last = source.subscripts[-1]
    along = [n for n in target[:-1] if last.coefficient(n) == 1]
    others = {name for s in source.subscripts[:-1] for name in s.names}
    turned = len(along) == 1 and along[0] not in others and not last.coefficient(target[-1])
    return along[0] if turned else ""


def transposition(
    nest: Loop, dtype: DType, source_shape: Sequence[int], target_shape: Sequence[int]
) -> Transposition | None:
    """What two nested loops around a plain copy transpose; None where they do not.

    Args:
        nest: a loop that fills a buffer.
        dtype: of what is copied.
        source_shape: extents of the array that is read.
        target_shape: extents of the buffer.
    """
    inner = _only(nest)
    copy = _only(inner) if isinstance(inner, Loop) else None
    if not isinstance(inner, Loop) or not isinstance(copy, Statement) or not is_turned(dtype):
        return None
    if not isinstance(copy.value, Read):
        return None
    source, target = copy.value.access, copy.target
    places = [next(iter(s.names & {nest.iterator, inner.iterator}), "") for s in target.subscripts]
    if places[-1] != inner.iterator or columns_of(source, places) != nest.iterator:
        return None
    return Transposition(
        inner,
        nest,
        source,
        target,
        _distance(source.subscripts, source_shape, inner.iterator),
        _distance(target.subscripts, target_shape, nest.iterator),
    )


def _only(loop: Loop) -> Node | None:
    return loop.body[0] if len(loop.body) == 1 else None


def _distance(subscripts: Sequence[Affine], shape: Sequence[int], name: str) -> int:
    """Elements by which an access moves with the iterator ``name``."""
    return sum(s.coefficient(name) * prod(shape[d + 1 :]) for d, s in enumerate(subscripts))


# The helper in C


def helper_name(dtype: DType) -> str:
    """The function that transposes elements of a type."""
    return f"transpose_{dtype.value}"


NAMES = frozenset(helper_name(dtype) for dtype in DType if is_turned(dtype))


def helper(dtype: DType) -> str:
    """The function ``helper_name(dtype)`` in C99; its arguments are those of the call below.

    ``to[c * to_row + r] = from[r * from_row + c]`` for all ``r < rows`` and ``c < columns``.
    """
    n = _BYTES // dtype.size
    element = dtype.value
    return f"""void {helper_name(dtype)}(
    int64_t rows, int64_t columns, const {element} *restrict from, int64_t from_row,
    {element} *restrict to, int64_t to_row)
{{
    int64_t whole_rows = 0;
#if defined(__AVX__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    const int64_t whole = columns / {n} * {n};
    whole_rows = rows / {n} * {n};
    for (int64_t r = 0; r < whole_rows; r += {n}) {{
        for (int64_t c = 0; c < whole; c += {n}) {{
            typedef {element} row __attribute__((vector_size({_BYTES})));
            const {element} *in = from + r * from_row + c;
            {element} *out = to + c * to_row + r;
{_indented(_block(n), 12)}
        }}
        for (int64_t c = whole; c < columns; c++) {{
            for (int64_t k = r; k < r + {n}; k++) {{
                to[c * to_row + k] = from[k * from_row + c];
            }}
        }}
    }}
#endif
#endif
    for (int64_t r = whole_rows; r < rows; r++) {{
        for (int64_t c = 0; c < columns; c++) {{
            to[c * to_row + r] = from[r * from_row + c];
        }}
    }}
}}"""


def _block(n: int) -> str:
    """Loads ``n`` rows of ``in``, transposes them and stores them as rows of ``out``.

    Pairs of rows are interleaved within lanes of 16 bytes, then pairs of those, in the end whole
    lanes change places.
    """
    lane = n * _LANE // _BYTES
    lines = [f"row {', '.join(f'a{k}' for k in range(n))};"]
    lines += [f"__builtin_memcpy(&a{k}, in + {k} * from_row, {_BYTES});" for k in range(n)]
    rows, number = [f"a{k}" for k in range(n)], 0
    width = 1  # elements that lie together already
    while width < lane:
        made = list(rows)
        for group in range(0, n, 2 * width):
            for k in range(width):
                one, two = rows[group + k], rows[group + k + width]
                for half in (0, 1):
                    picks = _interleaved(n, lane, width, half)
                    number += 1
                    lines.append(_shuffle(f"b{number}", one, two, picks))
                    made[group + 2 * k + half] = f"b{number}"
        rows, width = made, 2 * width
    for k in range(lane):
        for half in (0, 1):
            low = range(half * lane, (half + 1) * lane)
            number += 1
            lines.append(
                _shuffle(f"b{number}", rows[k], rows[k + lane], [*low, *(n + x for x in low)])
            )
            store = f"__builtin_memcpy(out + {k + half * lane} * to_row, &b{number}, {_BYTES});"
            lines.append(store)
    return "\n".join(lines)


def _interleaved(n: int, lane: int, width: int, half: int) -> list[int]:
    """Which elements of two rows interleave, ``width`` at a time, in one half of every lane."""
    picks = []
    for start in range(0, n, lane):
        for at in range(half * lane // 2, (half + 1) * lane // 2, width):
            own = range(start + at, start + at + width)
            picks += [*own, *(n + x for x in own)]
    return picks


def _shuffle(name: str, one: str, two: str, picks: Sequence[int]) -> str:
    return f"row {name} = __builtin_shufflevector({one}, {two}, {', '.join(map(str, picks))});"


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.split("\n"))
