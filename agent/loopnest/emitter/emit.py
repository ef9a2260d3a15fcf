"""A program as one readable C99 translation unit whose compilation is predictable.

    static void kernel_gemm(float (*restrict C)[512], const float (*restrict A)[512], float alpha)
    void loopnest_run(void *const args[])      /* arrays, then scalars, by pointer */

Arrays are ``restrict`` and have constant extents; loop bounds are numbers wherever they can be
proved to be; reductions are carried in locals; marks become pragmas. What gcc 12 and clang 14 do
with it (x86-64, AVX-512; tried in November 2026):

- ``omp simd`` and ``GCC unroll`` on one loop do not compile in either order, with either
  compiler: the transformation must refuse the pair, and here the unroll mark yields to ``simd``.
- gcc unrolls *after* vectorising, so ``GCC unroll 4`` gives four vectors a round. clang takes the
  same pragma, but unrolls *first* and then gathers what it has torn apart (slower code).
- gcc calls ``fminf`` in every lane of an ``omp simd`` loop unless NaN is ruled out by flags, but
  turns the ternary into ``vminps``. In vector loops ``min`` and ``max`` are therefore ternaries;
  where the loop reduces, a start value of NaN gives an unspecified result there, as OpenMP says.
  clang 14 vectorises neither and warns.
- gcc forgets ``restrict`` in a parallel loop, which it makes a function of its own: a loop in there
  that is vectorised without ``omp simd`` then checks at run time whether arrays overlap. The body
  of a parallel loop is therefore an inline function with ``restrict`` parameters. Two loops stay
  whole: one with a reduction clause, whose local lives in the kernel, and an innermost one, where
  such parameters say nothing about other iterations (``parallel for simd`` needs no check).
- ``reduction(+:x)`` serves ``x -= e`` too (OpenMP adds the partial results of ``-``; the ``-``
  clause itself is deprecated since 5.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.loopnest.emitter import extent
from agent.loopnest.emitter.accumulate import written
from agent.loopnest.emitter.expanded import Expanded
from agent.loopnest.emitter.function import array_parameter, prototype, sized_parameter, table
from agent.loopnest.emitter.identifiers import Identifiers
from agent.loopnest.emitter.jam import expand
from agent.loopnest.emitter.loops import Body, Scope, helper_text, indented
from agent.loopnest.program import (
    INTEGER_FUNCTIONS,
    Affine,
    AffineValue,
    Call,
    Loop,
    Program,
    accesses,
    loops,
    statements,
    values,
    walk,
)

ENTRY = "loopnest_run"
INT_MAX = 2**31 - 1
_DEFINED = re.compile(r"^static [^(\[]*?\b(\w+)[(\[]", re.MULTILINE)


@dataclass(frozen=True)
class KernelText:
    """A program as C, without the entry that takes its arguments from a table.

    Attributes:
        name: of the function that does it; its parameters are the program's arguments, then its
            scalars, in order.
        headers: names of those of the C library that it needs, without ``.h``.
        definitions: of tables and static functions, that one last.
    """

    name: str
    headers: tuple[str, ...]
    definitions: tuple[str, ...]

    @property
    def defined(self) -> tuple[str, ...]:
        """Names of everything that is defined, in order."""
        return tuple(m[1] for text in self.definitions if (m := _DEFINED.search(text)))


def emit(program: Program) -> str:
    """The C source of ``program``; the entry is ``void loopnest_run(void *const args[])``.

    ``args`` holds one pointer for each of ``program.arguments`` (row-major elements), then one for
    each of ``program.scalars``, in order.

    Raises:
        ScheduleError: the marks ask for something that C with OpenMP cannot express here, such as
            a reduction into an array section shared by threads.
    """
    kernel = emit_kernel(program)
    includes = "\n".join(f"#include <{header}.h>" for header in kernel.headers)
    return "\n\n".join((includes, *kernel.definitions, _entry(program, kernel.name))) + "\n"


def emit_source(program: Program) -> str:
    """A program without marks as one C function of its name, as a person would write it.

    The reader makes the same program of it (``agent.loopnest.lowering.reader``).
    """
    kernel = emit_kernel(program, plain=True)
    includes = "\n".join(f"#include <{header}.h>" for header in kernel.headers)
    return "\n\n".join((includes, *kernel.definitions)) + "\n"


def emit_kernel(program: Program, *, plain: bool = False) -> KernelText:
    """The C functions and tables of ``program``; raises as ``emit``.

    Args:
        program: what to write.
        plain: under its own name, with its sums where the program has them.
    """
    wide = _needs_wide(program)
    expanded = expand(program)
    program = expanded.program
    names = _names(expanded)
    body = Body(expanded, names, wide=wide, plain=plain)
    lines = body.block(program.body, Scope())
    if plain:
        lines = ["#pragma scop", *lines, "#pragma endscop"]
    kernel = names.fresh(program.name if plain else f"kernel_{program.name}")
    definitions = (
        *(f"static inline {helper_text(h, body.index)}" for h in sorted(body.helpers)),
        *(table(a, names[a.name]) for a in program.arrays if a.values),
        *body.functions,
        "\n".join([_signature(program, names, kernel, plain=plain), "{", *indented(lines), "}"]),
    )
    return KernelText(kernel, tuple(_headers(program)), definitions)


def check_marks(program: Program) -> None:
    """Refuses what ``emit`` refuses, without writing C.

    Raises:
        ScheduleError: as for ``emit``.
    """
    expanded = expand(program)
    Body(expanded, _names(expanded), wide=False).check(expanded.program.body, Scope())


def _names(expanded: Expanded) -> Identifiers:
    program, names = expanded.program, Identifiers()
    for item in program.declared:
        names.add(item.name)
    for _, loop in loops(program.body):
        names.add(loop.iterator)
    for name in expanded.remainders:
        names.add(name)
    return names


def _headers(program: Program) -> list[str]:
    parts = (x for _, s in statements(program.body) for value in values(s) for x in walk(value))
    uses_abs = any(isinstance(x, Call) and x.function in INTEGER_FUNCTIONS for x in parts)
    return ["math", "stdint", *(["stdlib"] if uses_abs else [])]


def _signature(program: Program, names: Identifiers, kernel: str, *, plain: bool) -> str:
    """The typed prototype; never inlined, so that ``restrict`` keeps its meaning in what runs."""
    changed = written(program.body)
    parameter = sized_parameter if plain else array_parameter
    parameters = [parameter(a, names[a.name], changed=a.name in changed) for a in program.arguments]
    parameters += [f"{s.dtype.value} {names[s.name]}" for s in program.scalars]
    if plain:
        return prototype(f"void {kernel}", parameters)
    return "__attribute__((noinline))\n" + prototype(f"static void {kernel}", parameters)


def _entry(program: Program, kernel: str) -> str:
    count = len(program.arguments)
    passed = [f"args[{n}]" for n in range(count)]
    passed += [
        f"*(const {s.dtype.value} *)args[{count + n}]" for n, s in enumerate(program.scalars)
    ]
    call = f"    {kernel}({', '.join(passed)});"
    return f"void {ENTRY}(void *const args[])\n{{\n{call}\n}}"


def _needs_wide(program: Program) -> bool:
    """Whether some index or bound might not fit an ``int``."""
    return any(
        extent.magnitude_bound(value, around) > INT_MAX for around, value in _index_values(program)
    )


def _index_values(program: Program) -> Iterator[tuple[tuple[Loop, ...], Affine]]:
    """What is computed from iterators, a step past the end included, with the loops around it."""
    for around, loop in loops(program.body):
        beyond = loop.step * loop.jam * 2
        for bound in (*loop.lower, *loop.upper):
            yield around, bound.expr + (beyond + 1) * bound.divisor
        yield (*around, loop), Affine.var(loop.iterator) + beyond
    for loops_around, statement in statements(program.body):
        around = extent.with_numbers(loops_around, statement)
        for access in accesses(statement):
            yield from ((around, s) for s in access.subscripts)
        parts = (x for value in values(statement) for x in walk(value))
        yield from ((around, x.value) for x in parts if isinstance(x, AffineValue))
