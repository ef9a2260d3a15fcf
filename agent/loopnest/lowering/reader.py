"""The C front end: a file and the name of a function in, Programs out.

The way goes from ``parse`` (libclang: a typed tree) through ``regions`` (which statements, and what
names stand for where they begin) to ``lower`` (statements, loops, values, places: a rule for each
form of C). Whatever is outside the subset becomes a SourceError that starts with
``file:line:column`` and says why and what would help.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    CFunction,
    DoS,
    ForS,
    Unit,
    walk,
)
from agent.loopnest.frontend.parse import parse, parse_text
from agent.loopnest.lowering.forms import integer_type
from agent.loopnest.lowering.lower import Reading, lower, sizes_of
from agent.loopnest.lowering.members import is_member, member_type
from agent.loopnest.lowering.regions import LoopNest, marked, nests
from agent.loopnest.lowering.state import MAX_SIZE
from agent.loopnest.program import Program

MEMORY_SHARE = 0.8  # of the memory available now


def load_program(
    path: Path,
    *,
    function: str | None,
    sizes: Mapping[str, int],
    cflags: Sequence[str] | None = None,
    compiler: str | None = None,
    memory_limit: int | None = None,
) -> Program:
    """The Program of the one region in the C file ``path``.

    Args:
        path: the file, at most 1 MiB.
        function: which function; None where only one has loops.
        sizes: a value for each size, 1..2**24.
        cflags: flags that change how a file is read.
        compiler: the compiler whose flags count as well.
        memory_limit: bytes the arrays may take; None: 80 % of the memory available now.

    Raises:
        SourceError: the file cannot be read or is outside the subset, a size is wrong, an access
            is out of bounds, or the arrays need too much memory.
        InputError: a flag does more than change how the file is read.
    """
    unit = parse(path, cflags or (), compiler)
    return read_region(unit, function, sizes, memory_limit=memory_limit).program


def parse_program(
    text: str,
    filename: str,
    *,
    function: str | None,
    sizes: Mapping[str, int],
    memory_limit: int | None = None,
) -> Program:
    """The Program in ``text``; ``filename`` is for messages.

    Raises:
        SourceError: as ``load_program``.
    """
    unit = parse_text(text, filename)
    return read_region(unit, function, sizes, None, memory_limit).program


def read_region(
    unit: Unit,
    function: str | None,
    sizes: Mapping[str, int],
    nest: int | None = None,
    memory_limit: int | None = None,
) -> Reading:
    """The region of a parsed file; see ``load_program``.

    Args:
        unit: the file.
        function: see there.
        sizes: see there.
        nest: which of several regions, from 1.
        memory_limit: see there.
    """
    if unit.errors:
        raise SourceError(
            unit.errors[0], hint="It is not C as a compiler knows it; check --cflags."
        )
    chosen = _function(unit, function)
    _check_sizes(unit, chosen, sizes)
    part = _part(unit, chosen, nest)
    try:
        found = lower(unit, chosen, part, sizes)
    except SourceError as failure:
        missing = [n for n in sizes_of(unit, chosen, part) if n not in sizes]
        if not missing:
            raise
        told = (f"'{n}=NUMBER'" if is_member(n) else f"{n}=NUMBER" for n in missing)
        hint = "Add " + " ".join(f"--size {text}" for text in told) + "."
        raise SourceError(failure.message, hint=hint) from failure
    _check_memory(chosen, found.program, memory_limit)
    return found


def sizes_wanted(unit: Unit, function: str | None, nest: int | None) -> list[str]:
    """The sizes that a region needs; SourceError where there is no such region."""
    chosen = _function(unit, function)
    return sizes_of(unit, chosen, _part(unit, chosen, nest))


def regions_of(unit: Unit, function: CFunction) -> list[LoopNest]:
    """The regions of a function: between pragmas where there are some, else its loops."""
    return marked(function, unit.marks) or nests(function)


def _function(unit: Unit, name: str | None) -> CFunction:
    mine = [f for f in unit.functions.values() if f.place.file == unit.file]
    for candidate in mine:
        if candidate.name == name:
            return candidate
    with_marks = [f for f in mine if marked(f, unit.marks)]
    looping = with_marks or _looping(mine)
    listed = _listed(looping)
    if name is not None:
        raise SourceError(
            f"{unit.file}:1:1: there is no function {name!r}",
            hint=f"Functions with loops: {listed}.",
        )
    if len(looping) == 1:
        return looping[0]
    public = [f for f in looping if not f.static]
    if len(public) == 1 and not with_marks:
        return public[0]
    if looping:
        raise SourceError(
            f"{unit.file}:1:1: several functions have loops: {listed}",
            hint=f"Choose one with --function, for example --function {looping[0].name}.",
        )
    raise SourceError(f"{unit.file}:1:1: no function has a for loop", hint="Give a C file.")


def _looping(functions: Sequence[CFunction]) -> list[CFunction]:
    return [f for f in functions if any(isinstance(x, ForS | DoS) for x in walk(f.body))]


def _listed(functions: Sequence[CFunction]) -> str:
    return ", ".join(f.name for f in functions[:10]) or "none"


def _part(unit: Unit, function: CFunction, nest: int | None) -> LoopNest:
    found = regions_of(unit, function)
    lines = ", ".join(
        f"{n} (lines {p.first_line} to {p.last_line})" for n, p in enumerate(found, 1)
    )
    if nest is not None and not 1 <= nest <= len(found):
        raise SourceError(
            f"{function.place}: {function.name!r} has no loop nest {nest}",
            hint=f"Its loop nests: {lines or 'none'}.",
        )
    if not found:
        raise SourceError(
            f"{function.place}: {function.name!r} has no for loop",
            hint="Loops are found that are written with `for`, or that count: `while (i < n)`. "
            f"Functions with loops: {_listed(_looping(list(unit.functions.values())))}.",
        )
    if nest is None and len(found) > 1:
        raise SourceError(
            f"{function.place}: {function.name!r} has {len(found)} loop nests: {lines}",
            hint="Choose one with --nest, for example --nest 1.",
        )
    return found[(nest or 1) - 1]


def _check_sizes(unit: Unit, function: CFunction, sizes: Mapping[str, int]) -> None:
    variables = [*function.parameters, *unit.variables.values()]
    known = {v.name: integer_type(v.type) for v in variables}
    for name in filter(is_member, sizes):
        kind = member_type(variables, name)
        known[name] = None if kind is None else integer_type(kind)
    own = [p.name for p in function.parameters if integer_type(p.type) is not None]
    for name, value in sizes.items():
        dtype = known.get(name)
        if dtype is None:
            raise SourceError(
                f"{function.place}: {function.name!r} has no size {name!r}",
                hint="Its sizes: " + (", ".join(own) or "none (no integer parameters)") + ".",
            )
        low, high = max(1, dtype.range[0]), min(MAX_SIZE, dtype.range[1])
        if not low <= value <= high:
            raise SourceError(
                f"{function.place}: the size {name} = {value} is outside {low}..{high}",
                hint=f"Give a size in this range ({name} is {dtype.value}).",
            )


def _available() -> int:
    """Bytes of memory that are free; all there are where that is not told."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (OSError, ValueError, RuntimeError):  # no /proc/meminfo
        return os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_memory(function: CFunction, program: Program, limit: int | None) -> None:
    if limit is None:
        limit = int(_available() * MEMORY_SHARE)
    if program.bytes > limit:
        raise SourceError(
            f"{function.place}: the arrays need {program.bytes / 2**20:,.0f} MiB, and "
            f"{limit / 2**20:,.0f} MiB may be used",
            hint="Give smaller sizes with --size.",
        )
