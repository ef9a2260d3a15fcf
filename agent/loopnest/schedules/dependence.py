"""Exact dependences of a program as written.

Two statement instances depend on each other where they access the same element and one writes it
(memory-based: flow, anti and output). Every relation is kept in pieces, one for each loop that
carries it, with the range of its distance in every shared loop: most questions about a schedule
are answered by these ranges, only the rest by isl.

Updates ``x = x op e`` of one element commute where ``op`` is associative for the types involved;
such pairs are marked as reductions and may change places.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import islpy as isl

from agent.errors import ScheduleError
from agent.loopnest.arithmetic import Ranges, common, type_of, within
from agent.loopnest.emitter.lifetimes import sink_temporaries
from agent.loopnest.polyhedron import bounded, bounded_context, integer
from agent.loopnest.presburger import access_map
from agent.loopnest.program import (
    Access,
    Affine,
    Expr,
    Loop,
    Node,
    Program,
    Statement,
    conjuncts,
    guarded_reads,
    statements,
)
from agent.loopnest.schedules.positions import UNKNOWN, Positions

MAX_PAIRS = 5_000
MAX_SECONDS = 20  # for one program; a millisecond a pair of accesses is usual
_COMMUTES = {"+": "+", "-": "+", "*": "*", "min": "min", "max": "max"}


@dataclass(frozen=True, eq=False)
class Dependence:
    """Instances of ``source`` that have to run before instances of ``target``.

    Attributes:
        source: name of the statement whose instances come first as written.
        target: name of the statement that depends on it.
        kind: ``flow`` (read after write), ``anti`` (write after read) or ``output``.
        access: how the source accesses the element, in its iterators as written.
        reduction: whether the two are updates that commute.
        relation: from iteration vectors of the source to those of the target, as written.
        distance: for each loop shared as written the least and greatest ``target - source``.
    """

    source: str
    target: str
    kind: str
    access: Access
    reduction: bool
    relation: isl.Map
    distance: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Edge:
    """All dependences of one statement on another that are ``reduction``, or all that are not."""

    source: str
    target: str
    reduction: bool
    items: tuple[Dependence, ...]


Instance = Mapping[str, int]  # of a statement: the values of the iterators around it


@dataclass(frozen=True)
class Conflict:
    """A dependence, and what finds one pair of instances, as written, that shows it."""

    dependence: Dependence
    find_example: Callable[[], tuple[Instance, Instance]]

    @cached_property
    def example(self) -> tuple[Instance, Instance]:
        """One pair of instances, looked for when it is asked for."""
        return self.find_example()

    def distance(self) -> str:
        """``(i: 1, j: -1)``; a range where it varies."""
        ranges = self.dependence.distance.items()
        text = ", ".join(f"{n}: {lo}" if lo == hi else f"{n}: {lo}..{hi}" for n, (lo, hi) in ranges)
        return f"({text or 'no loop is shared'})"

    def __str__(self) -> str:
        d = self.dependence
        access = d.access.array + "".join(f"[{s}]" for s in d.access.subscripts)
        source, target = self.example
        return (
            f"{d.source} -> {d.target} ({d.kind}) on {access}, "
            f"for example from {_point(source)} to {_point(target)}"
        )


def _point(values: Instance) -> str:
    return "(" + ", ".join(f"{n}={v}" for n, v in values.items()) + ")"


# An edge, a level (or -1 for all), the positions of both ends, and whether the source is first
Question = tuple[Edge, int, int, int, bool]
# A dependence, or its distances as written where they tell all; the positions of both ends, and how
# far apart these are said to run
Distances = tuple[Dependence | tuple[tuple[str, tuple[int, int]], ...], int, int, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Dependences:
    """The dependences of a program as written; ``program`` has its temporaries sunk.

    What has been found of the program's schedules is kept: ``positions``, ``vectors`` (from
    iteration vectors of now to those as written, by position), ``spreads`` of forms of iterators,
    ``answers``, the ``orders`` (of statements, by position) that keep all dependences, which
    distances there are ``nevers`` of (see ``intervals``), why nests are ``refused`` where they
    cannot be written as C, and ``examples`` that broke the order of some.
    """

    program: Program
    iterators: Mapping[str, tuple[str, ...]]
    items: tuple[Dependence, ...]
    context: isl.Context
    positions: Positions
    vectors: dict[int, isl.Map] = field(default_factory=dict)
    answers: dict[Question, Conflict | None] = field(default_factory=dict, init=False)
    orders: set[tuple[int, ...]] = field(default_factory=set, init=False)
    spreads: dict[tuple[Dependence, Affine, Affine], tuple[int, int]] = field(default_factory=dict)
    refused: dict[Node, ScheduleError | None] = field(default_factory=dict)
    examples: dict[Dependence, list[tuple[Instance, Instance]]] = field(default_factory=dict)
    nevers: dict[Distances, bool] = field(default_factory=dict)
    _pairs: dict[tuple[tuple[int, int], tuple[str, ...]], isl.Map] = field(default_factory=dict)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """``items`` by the statements that they are between."""
        found: dict[tuple[str, str, bool], list[Dependence]] = {}
        for item in self.items:
            found.setdefault((item.source, item.target, item.reduction), []).append(item)
        return tuple(Edge(*ends, tuple(items)) for ends, items in found.items())

    def pairs(self, sizes: tuple[int, int], constraints: list[str]) -> isl.Map:
        """``pairs_map`` in this context, built once for each question."""
        key = sizes, tuple(constraints)
        if key not in self._pairs:
            self._pairs[key] = pairs_map(self.context, sizes, constraints)
        return self._pairs[key]

    def spread(self, item: Dependence, source: Affine, target: Affine) -> tuple[int, int]:
        """The least and greatest ``target - source`` over all pairs of a dependence.

        ``source`` and ``target`` are forms of the iterators as written of either statement.
        ``UNKNOWN`` where that is too complex to be told.
        """
        if (known := _told_by_distance(item.distance, source, target)) is not None:
            return known
        question = item, source, target
        if question not in self.spreads:
            names = self.iterators[item.source], self.iterators[item.target]
            ask = partial(_spread, item.relation, *names, source, target)
            try:
                found = bounded(self.context, ask, "a distance")
            except ScheduleError:
                found = UNKNOWN
            self.spreads[question] = found
        return self.spreads[question]

    @staticmethod
    def of(program: Program) -> Dependences:
        """Analyse ``program`` (as written: no step applied yet).

        Raises:
            ScheduleError: the program is too complex to be analysed exactly.
        """
        program = sink_temporaries(program)
        context = bounded_context()
        pairs = list(_site_pairs(program))
        if len(pairs) > MAX_PAIRS:
            raise ScheduleError(
                f"{program.name}: {len(pairs)} pairs of accesses are too many to analyse",
                hint="Split the region into smaller ones.",
            )

        maps: _Maps = {}
        items: list[Dependence] = []
        deadline = time.monotonic() + MAX_SECONDS
        for one, two in pairs:
            what = f"the dependences of {two.statement.name} on {one.statement.name}"
            between = partial(_between, one, two, maps, partial(_accessed, program, context))
            items += bounded(context, between, what)
            if time.monotonic() > deadline:
                raise ScheduleError(f"{program.name}: analysing it takes over {MAX_SECONDS} s")
        iterators = {
            s.name: tuple(loop.iterator for loop in around)
            for around, s in statements(program.body)
        }
        return Dependences(program, iterators, tuple(items), context, Positions(iterators))


@dataclass(frozen=True)
class _Site:
    """One access of a statement; ``index`` counts statements in textual order."""

    index: int
    around: tuple[Loop, ...]
    statement: Statement
    access: Access
    element: tuple[Affine, ...]
    holds: tuple[Expr, ...]
    is_read: bool
    is_write: bool
    commutes: str


def _sites(program: Program) -> Iterator[_Site]:
    depth = {t.name: t.depth for t in program.temporaries}
    constant = {s.name for s in program.scalars}
    for index, (around, s) in enumerate(statements(program.body)):
        if s.instance != tuple(Affine.var(loop.iterator) for loop in around):
            raise ValueError(f"{program.name}: dependences are those of a program as written")
        op = _COMMUTES.get(s.op, "") if _associative(program, s) else ""
        uses = [(s.target, conjuncts(s.condition), bool(s.op), True, op)]
        uses += [(a, holds, True, False, "") for a, holds in dict.fromkeys(guarded_reads(s))]
        for access, holds, is_read, is_write, commutes in uses:
            if access.array not in constant:
                own = s.instance[: depth.get(access.array, 0)]
                element = access.subscripts or own
                yield _Site(index, around, s, access, element, holds, is_read, is_write, commutes)


def _site_pairs(program: Program) -> Iterator[tuple[_Site, _Site]]:
    """Ordered pairs of accesses that may depend, each once in each direction."""
    by_array: dict[str, list[_Site]] = {}
    for site in _sites(program):
        by_array.setdefault(site.access.array, []).append(site)
    for sites in by_array.values():
        for one in sites:
            for two in sites:
                if one.is_write or two.is_write:
                    yield one, two


_Maps = dict[tuple[int, Access, tuple[Expr, ...]], isl.Map]


def _accessed(program: Program, context: isl.Context, site: _Site) -> isl.Map:
    """From the iterations in which the access may happen to the elements that it may be."""
    return access_map(
        site.around, site.statement, site.element, site.holds, program.dtype_of, context
    )


def _between(
    one: _Site, two: _Site, maps: _Maps, elements: Callable[[_Site], isl.Map]
) -> list[Dependence]:
    def accessed(site: _Site) -> isl.Map:
        key = site.index, site.access, site.holds
        if key not in maps:
            maps[key] = elements(site)
        return maps[key]

    same = accessed(one).apply_range(accessed(two).reverse())
    if same.is_empty():
        return []
    shared = common_depth(one.around, two.around)
    sizes = len(one.around), len(two.around)
    levels = list(range(shared)) + [shared] * (one.index < two.index)
    context = same.get_ctx()
    pieces = [same.intersect(_carried(context, sizes, shared, level)) for level in levels]
    return [_dependence(one, two, p.coalesce(), shared) for p in pieces if not p.is_empty()]


def _carried(context: isl.Context, sizes: tuple[int, int], shared: int, level: int) -> isl.Map:
    """Pairs equal outside of ``level`` and increasing there (equal throughout at ``shared``)."""
    increasing = [f"a{level} < b{level}"] if level < shared else []
    return pairs_map(context, sizes, [f"a{n} = b{n}" for n in range(level)] + increasing)


def pairs_map(context: isl.Context, sizes: tuple[int, int], constraints: list[str]) -> isl.Map:
    """Pairs of vectors ``a0, a1...`` -> ``b0, b1...`` under constraints in isl's notation."""
    left, right = (
        ", ".join(f"{letter}{n}" for n in range(size))
        for letter, size in zip("ab", sizes, strict=True)
    )
    text = f"{{ [{left}] -> [{right}] : {' and '.join(constraints) or 'true'} }}"
    return isl.Map.read_from_str(context, text)


def common_depth(one: tuple[Loop, ...], two: tuple[Loop, ...]) -> int:
    """How many loops two statements share."""
    count = 0
    for x, y in zip(one, two, strict=False):
        if x.iterator != y.iterator:
            break
        count += 1
    return count


def _dependence(one: _Site, two: _Site, relation: isl.Map, shared: int) -> Dependence:
    kind = "anti" if not one.is_write else "flow" if two.is_read else "output"
    return Dependence(
        one.statement.name,
        two.statement.name,
        kind,
        one.access,
        bool(one.commutes) and one.commutes == two.commutes,
        relation,
        _distance(relation, [loop.iterator for loop in one.around[:shared]]),
    )


def _distance(relation: isl.Map, shared: list[str]) -> dict[str, tuple[int, int]]:
    count = len(shared)
    for side in (isl.dim_type.in_, isl.dim_type.out):
        relation = relation.project_out(side, count, relation.dim(side) - count)
    difference = relation.deltas()
    return {
        name: (
            integer(difference.dim_min_val(position)),
            integer(difference.dim_max_val(position)),
        )
        for position, name in enumerate(shared)
    }


def _told_by_distance(
    distance: Mapping[str, tuple[int, int]], source: Affine, target: Affine
) -> tuple[int, int] | None:
    if source.terms != target.terms or not source.names <= distance.keys():
        return None
    least = most = target.const - source.const
    for name, c in source.terms:
        ends = distance[name][0] * c, distance[name][1] * c
        least, most = least + min(ends), most + max(ends)
    return least, most


def _spread(
    relation: isl.Map,
    names: Sequence[str],
    target_names: Sequence[str],
    source: Affine,
    target: Affine,
) -> tuple[int, int]:
    pairs = relation.wrap()
    form = isl.Aff.zero_on_domain(isl.LocalSpace.from_space(pairs.get_space()))
    terms = [-source.coefficient(n) for n in names]
    terms += [target.coefficient(n) for n in target_names]
    for place, c in enumerate(terms):
        form = form.set_coefficient_val(isl.dim_type.in_, place, c)
    form = form.set_constant_val(target.const - source.const)
    return integer(pairs.min_val(form)), integer(pairs.max_val(form))


# Which updates commute


def _associative(program: Program, statement: Statement) -> bool:
    """Whether repeated updates give the same in any order (up to rounding of floats).

    An integer target updated with a float value is truncated after every update, and by min or max
    of values that it cannot hold, too: there the order shows. Sums and products are those of
    numbers modulo a power of two, whatever the widths.
    """
    target = program.dtype_of(statement.target.array)
    if target.is_float:
        return True
    values = Ranges(program.dtype_of).of(statement.value)
    if values is None:
        return False
    if statement.op not in ("min", "max"):
        return True
    compared = common(target, type_of(statement.value, program.dtype_of))
    return within(values, target.range) and within(target.range, compared.range)
