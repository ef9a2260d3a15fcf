"""Finding, checking and rebuilding the loops of a program: what the steps share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from agent.errors import ScheduleError
from agent.loopnest.program import (
    Affine,
    Bound,
    Loop,
    Node,
    Program,
    Statement,
    Temporary,
    loops,
    statements,
    substitute,
)

_C_TYPES = frozenset(  # end in _t as the loops over tiles do, and may be in use where C is emitted
    "size_t ssize_t ptrdiff_t time_t clock_t off_t wchar_t float_t double_t int8_t int16_t int32_t "
    "int64_t intmax_t intptr_t uint8_t uint16_t uint32_t uint64_t uintmax_t uintptr_t".split()
)

# Finding loops


def find_loop(program: Program, what: str, name: str) -> tuple[tuple[Loop, ...], Loop]:
    """The loop ``name`` and the loops around it; ScheduleError with the names that exist."""
    path: list[Loop] = []
    nodes = program.body
    while (loop := _containing(nodes, name)) is not None:
        if loop.iterator == name:
            return tuple(path), loop
        path.append(loop)
        nodes = loop.body
    known = [loop.iterator for _, loop in loops(program.body)]
    raise ScheduleError(
        f"{what}: there is no loop {name}",
        hint=f"The loops are: {', '.join(known)}." if known else "The program has no loops.",
    )


def _containing(nodes: Sequence[Node], name: str) -> Loop | None:
    """That of ``nodes`` which is the loop ``name``, or has it inside."""
    for node in nodes:
        if isinstance(node, Loop) and name in node.iterators:
            return node
    return None


def band_between(
    program: Program, what: str, *names: str
) -> tuple[tuple[Loop, ...], tuple[Loop, ...]]:
    """The loops around a perfectly nested band, and the band between the named loops."""
    found = [find_loop(program, what, name) for name in names]
    path, top = min(found, key=lambda item: len(item[0]))
    chain = perfect_band(top)
    places = {loop.iterator: n for n, loop in enumerate(chain)}
    for around, loop in found:
        if loop.iterator not in places:
            _refuse_band(what, top, around, loop)
    return path, chain[: 1 + max(places[name] for name in names)]


def levels_between(
    program: Program, what: str, names: Sequence[str]
) -> tuple[tuple[Loop, ...], tuple[tuple[Loop, ...], ...]]:
    """The loops around a nest, and the loops of each of its levels, of which ``names`` are first.

    A level are the loops directly inside those of the level before, in which there is nothing else.
    """
    path, top = find_loop(program, what, names[0])
    levels: list[tuple[Loop, ...]] = [(top,)]
    for name in names[1:]:
        below = tuple(node for loop in levels[-1] for node in loop.body)
        inner = tuple(node for node in below if isinstance(node, Loop))
        if not inner or len(inner) < len(below) or inner[0].iterator != name:
            return _refuse_levels(program, what, names)
        levels.append(inner)
    return path, tuple(levels)


def _refuse_levels(program: Program, what: str, names: Sequence[str]) -> NoReturn:
    _, band = band_between(program, what, *names)
    raise ScheduleError(
        f"{what}: the loops nest in the order {' '.join(loop.iterator for loop in band)}",
        hint="Name every loop of the band, outermost first; interchange loops before tiling.",
    )


def _refuse_band(what: str, top: Loop, path: tuple[Loop, ...], loop: Loop) -> NoReturn:
    pair = f"loops {top.iterator} and {loop.iterator}"
    if top not in path:
        raise ScheduleError(f"{what}: {pair} are not nested in each other")
    guilty = perfect_band(top)[-1]
    between = next(node for node in guilty.body if node not in (*path, loop))
    name = between.iterator if isinstance(between, Loop) else between.name
    raise ScheduleError(
        f"{what}: {pair} are not perfectly nested: {kind(between)} {name} stands between them",
        hint=f"Distribute loop {guilty.iterator} first.",
    )


def perfect_band(loop: Loop) -> tuple[Loop, ...]:
    """The perfectly nested loops from ``loop`` down."""
    return loop.bands[0]


def is_longer(loop: Loop, size: int) -> bool:
    """Whether a loop has, or may have, more than ``size`` iterations."""
    last = last_iteration(loop)
    return last is None or last >= size


def last_iteration(loop: Loop) -> int | None:
    """The number of the last iteration of a loop, from 0; None where it may vary."""
    first, last = loop.lower[0].expr, loop.upper[0].expr
    if len(loop.upper) == len(loop.lower) == 1 and first.terms == last.terms:
        return (last.const - first.const) // loop.step
    return None


def is_uneven(loop: Loop) -> bool:
    """Whether a range inside is longer in one iteration than in another, as in triangles."""
    return any(_varies(inner, loop.iterator) for _, inner in loops(loop.body))


def _varies(inner: Loop, name: str) -> bool:
    """Whether no two ends of ``inner`` move alike with the iterator ``name``."""
    ends = itertools.product(inner.lower, inner.upper)
    alike = (
        (a.expr.coefficient(name), a.divisor) == (b.expr.coefficient(name), b.divisor)
        for a, b in ends
    )
    return not any(alike)


def height(loop: Loop) -> int:
    """How deep loops nest from ``loop`` down, itself included."""
    return 1 + max((height(n) for n in loop.body if isinstance(n, Loop)), default=0)


def kind(node: Node) -> str:
    """What a message calls a node."""
    return "loop" if isinstance(node, Loop) else "statement"


# Refusals shared by steps


def marks_of(loop: Loop) -> list[str]:
    """The marks a loop carries, in words."""
    marks = {
        "parallel": loop.parallel,
        "vectorized": loop.vector,
        "unrolled": loop.unroll > 1,
        "jammed": loop.jam > 1,
        "packing": bool(loop.packs),
        "streaming": bool(loop.stream),
    }
    return [name for name, on in marks.items() if on]


def refuse_marked(what: str, path: tuple[Loop, ...], touched: Sequence[Loop]) -> None:
    """Refuse to restructure loops that carry a mark, or lie inside a jammed one."""
    for loop in touched:
        if marks := marks_of(loop):
            raise ScheduleError(
                f"{what}: loop {loop.iterator} is already {marks[0]}",
                hint="Restructure first, mark loops (parallelize, vectorize, unroll, jam) last.",
            )
    for loop in path:
        if loop.jam > 1 or loop.lanes > 1 or loop.packs or loop.collapse:
            raise ScheduleError(
                f"{what}: the nest of loop {loop.iterator} is already {marks_of(loop)[-1]}",
                hint="Restructure first, mark loops (parallelize, vectorize, unroll, jam) last.",
            )


def refuse_again(what: str, loop: Loop, **marks: bool) -> None:
    """Refuse to mark a loop that carries one of ``marks`` already."""
    for mark, on in marks.items():
        if on:
            raise ScheduleError(f"{what}: loop {loop.iterator} is {mark} already")


def refuse_outer(what: str, loop: Loop) -> None:
    """Refuse a loop that has loops inside."""
    inner = next((n for n in loop.body if isinstance(n, Loop)), None)
    if inner is not None:
        raise ScheduleError(
            f"{what}: loop {inner.iterator} is inside loop {loop.iterator}",
            hint="This step takes an innermost loop: interchange or distribute first.",
        )


def refuse_factor(what: str, factor: int, most: int) -> None:
    """Refuse a factor that is too small to mean something, or too large to be useful."""
    if not 2 <= factor <= most:
        raise ScheduleError(f"{what}: the factor must be between 2 and {most}")


# Building trees


def edit(
    body: tuple[Node, ...], name: str, change: Callable[[Loop], tuple[Node, ...]]
) -> tuple[Node, ...]:
    """``body`` with the loop ``name`` replaced by the nodes ``change`` makes of it."""
    found = _containing(body, name)
    if found is None:
        return body
    changed: tuple[Node, ...]
    if found.iterator == name:
        changed = change(found)
    else:
        changed = (found.with_body(edit(found.body, name, change)),)
    at = next(n for n, node in enumerate(body) if node is found)
    return (*body[:at], *changed, *body[at + 1 :])


def with_marks(program: Program, loop: Loop, **marks: object) -> Program:
    """``program`` with other marks on one of its loops."""
    return program.with_body(_with_marks(program.body, loop, marks))


def _with_marks(
    body: tuple[Node, ...], loop: Loop, marks: Mapping[str, object]
) -> tuple[Node, ...]:
    found = _containing(body, loop.iterator)
    if found is loop:
        marked = loop.remarked(**marks)
    elif found is not None:
        marked = found.remarked(body=_with_marks(found.body, loop, marks))
    return tuple([marked if node is found else node for node in body])


def nested(headers: Sequence[Loop], body: tuple[Node, ...]) -> Loop:
    """The loops ``headers`` perfectly nested around ``body``."""
    nest = headers[-1].with_body(body)
    for header in reversed(headers[:-1]):
        nest = header.with_body((nest,))
    return nest


def replace_iterator(body: tuple[Node, ...], name: str, value: Affine) -> tuple[Node, ...]:
    """``body`` with an iterator replaced by an affine value throughout."""
    return tuple(substitute(node, {name: value}) for node in body)


def names_in_use(program: Program) -> set[str]:
    """Every name in use: a new iterator must differ from all of them."""
    found = {program.name, *(x.name for x in program.declared), *_C_TYPES}
    for node in program.body:
        if isinstance(node, Loop):
            found |= node.iterators
    found.update(d.name for _, s in statements(program.body) for d in s.derived)
    return found


def fresh(base: str, taken: set[str], first: int = 1) -> str:
    """``base``, or ``base2``, ``base3``...: the first that is free; it is taken from then on."""
    number = first
    while (name := base if number == 1 else f"{base}{number}") in taken:
        number += 1
    taken.add(name)
    return name


# Temporaries


def check_temporary(
    placed: Sequence[tuple[tuple[Loop, ...], Statement]], temporary: Temporary
) -> None:
    """Refuse a tree in which the instances of a temporary have no one place to be declared.

    ``placed`` are its statements, each with the loops around it.

    Its accesses have to lie inside all loops that have an instance each, and those loops must
    not be broken up by others across which the temporary may keep its value.

    Raises:
        ScheduleError: they do not.
    """
    uses = [(around, s) for around, s in placed if temporary.name in s.uses]
    if not uses or not temporary.depth:
        return
    owner = uses[0][1].instance[: temporary.depth]
    own = {name for value in owner for name in value.names}
    home = _common_loops([around for around, _ in uses])
    while home and home[-1].iterator not in own:
        home = home[:-1]
    within = {loop.iterator for loop in home}
    mentioned = {n for _, s in uses for value in s.instance for n in value.names}
    same_owner = all(s.instance[: temporary.depth] == owner for _, s in uses)
    if not (own <= within <= own | _tile_loops(home, own, mentioned) and same_owner):
        raise ScheduleError(
            f"temporary {temporary.name} would be needed across iterations of different loops",
            hint="Make it an array, or keep the loops around its declaration together.",
        )


def _common_loops(nests: Sequence[tuple[Loop, ...]]) -> tuple[Loop, ...]:
    """The loops that several statements share, outermost first."""
    common = nests[0]
    for around in nests[1:]:
        same = sum(1 for x, y in zip(common, around, strict=False) if x.iterator == y.iterator)
        common = common[:same]
    return common


def _tile_loops(home: tuple[Loop, ...], own: set[str], mentioned: set[str]) -> set[str]:
    """Loops over tiles of the loops ``own``: the loop inside its tiles determines such a loop."""
    known, before = set(own), 0
    while before != len(known):
        before = len(known)
        for loop in reversed(home):
            inside = [x for x in home if x.iterator in known]
            tells = any(_determines(x, loop, known) for x in inside)
            if loop.iterator not in mentioned and tells:
                known.add(loop.iterator)
    return known - own


def _determines(points: Loop, tiles: Loop, known: set[str]) -> bool:
    """Whether ``points`` runs through one tile of ``tiles``, which may be numbered or skewed."""
    name = tiles.iterator
    if Bound(Affine.var(name)) in points.lower:
        return True
    starts = (b.expr for b in points.lower if b.divisor == 1 and name in b.expr.names)
    return any(
        start.names - {name} <= known
        and Bound(start + (abs(start.coefficient(name)) * tiles.step - 1)) in points.upper
        for start in starts
    )
