"""Schedules worth a look: random ones for training, legal and diverse ones for ranking.

Both are drafted step by step; a step that does not fit (or, for ranking, breaks a dependence) is
left out. The ranked ones begin with what an expert would try: unit strides innermost, outer
loops parallel, inner loops vectorized, common tile sizes.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from agent.errors import ScheduleError
from agent.loopnest.program import Loop, Node, Program, all_reads, statements
from agent.loopnest.schedules import transform
from agent.loopnest.schedules.diamonds import DIAMOND_SIZES, diamond_tiles
from agent.loopnest.schedules.register_tiles import (
    FULL,
    TILES,
    Block,
    Buffer,
    partial_sums,
    private_sums,
    register_tiles,
)
from agent.loopnest.schedules.schedule import (
    MAX_STEPS,
    Collapse,
    Cyclic,
    Diamond,
    Distribute,
    Fuse,
    Interchange,
    Jam,
    Pack,
    Parallelize,
    Reverse,
    Schedule,
    Skew,
    Step,
    Stream,
    Tile,
    Unroll,
    Vectorize,
)
from agent.loopnest.schedules.streams import cut_flat_loops, stream_large
from agent.loopnest.schedules.sweep_tiles import SWEEP_SIZES, sweep_tiles
from agent.loopnest.schedules.time_tiles import SIZES, time_tiles
from agent.loopnest.schedules.transposes import SIZES as TRANSPOSED
from agent.loopnest.schedules.transposes import transposes
from agent.loopnest.schedules.tree import (
    find_loop,
    is_longer,
    is_uneven,
    last_iteration,
    perfect_band,
)

if TYPE_CHECKING:
    from agent.loopnest.schedules.dependence import Dependences

TILE_SIZES = (4, 8, 16, 16, 32, 32, 32, 64, 64, 128, 256, 5, 12, 24, 48, 100)  # repeats: likelier
FACTORS = (2, 4, 4, 8)
TRIES_PER_CANDIDATE = 12
CLASSIC_FIRST = 12
MAX_PERMUTED = 4
MAX_PARALLEL_DEPTH = 3
IN_REGISTERS = 0.25  # of usual schedules keep blocks of sums in registers
CHUNK, LONG = 8, 256  # iterations that go to a thread at a time, of a loop that is long
FEW = 16  # iterations that may be too few for the threads


class Draft:
    """A schedule under construction: a step that does not fit the program is left out."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.steps: list[Step] = []

    def attempt(self, step: Step) -> bool:
        """Take the step if it fits; whether it did."""
        if len(self.steps) == MAX_STEPS or (after := self._after(step)) is None:
            return False
        self.program = after
        self.steps.append(step)
        return True

    def _after(self, step: Step) -> Program | None:
        try:
            return transform.apply(self.program, step)
        except ScheduleError:
            return None

    def loops(self) -> list[Loop]:
        """All loops, outer before inner."""
        return [loop for nest in self.outermost() for loop in nest.nest]

    def innermost(self) -> list[Loop]:
        """The loops without loops inside."""
        return [loop for loop in self.loops() if len(loop.nest) == 1]

    def outermost(self) -> list[Loop]:
        """The loops without loops around."""
        return [node for node in self.program.body if isinstance(node, Loop)]

    def bands(self) -> list[tuple[Loop, ...]]:
        """The perfectly nested bands, each as long as it gets."""
        return [band for nest in self.outermost() for band in nest.bands]

    def neighbours(self) -> list[tuple[str, str]]:
        """Pairs of loops that directly follow each other."""
        bodies = [self.program.body, *(loop.body for loop in self.loops())]
        return [
            (one.iterator, two.iterator)
            for body in bodies
            for one, two in itertools.pairwise(body)
            if isinstance(one, Loop) and isinstance(two, Loop)
        ]


@dataclass
class Outcomes:
    """What steps have made of programs, and of their nests; None: they do not fit, or break them.

    Both are told by ``id``: all of them are kept here, as long as a search goes on, and equal nests
    as one (``same``). Most steps change one nest, whatever there is beside it; where they name new
    loops, ``nests`` are told apart by the names there as well.
    """

    programs: dict[tuple[int, Step], Program | None] = field(default_factory=dict)
    nests: dict[_NestStep, tuple[Node, ...] | None] = field(default_factory=dict)
    same: dict[Node, Node] = field(default_factory=dict)


_NestStep = tuple[int, Step, tuple[frozenset[str], ...]]
_NAMES_NOTHING = (
    Interchange, Skew, Reverse, Fuse,
    Parallelize, Collapse, Cyclic, Vectorize, Unroll, Jam, Pack, Stream,
)  # fmt: skip


class LegalDraft(Draft):
    """A draft that also leaves out steps which break a dependence.

    ``outcomes``: drafts that share them try a step of a nest once. ``in_c``: see ``check_legal``.
    """

    def __init__(self, dependences: Dependences, outcomes: Outcomes, *, in_c: bool = True) -> None:
        super().__init__(dependences.program)
        self.in_c = in_c
        self.dependences = dependences
        self.outcomes = outcomes

    def _after(self, step: Step) -> Program | None:
        known, programs = (id(self.program), step), self.outcomes.programs
        if known not in programs:
            programs[known] = self._anew(step)
        return programs[known]

    def _anew(self, step: Step) -> Program | None:
        body = self.program.body
        at = _nest_changed(body, step)
        if at is None or self.program.temporaries:  # those may live in several nests
            after = super()._after(step)
            return after if after is not None and self._is_legal(after, step) else None
        beside = () if isinstance(step, _NAMES_NOTHING) else (*body[:at], *body[at + 1 :])
        names = tuple(node.iterators for node in beside if isinstance(node, Loop))
        nests, known = self.outcomes.nests, (id(body[at]), step, names)
        if known not in nests:
            nests[known] = self._of_nest(at, step)
        nest = nests[known]
        if nest is None:
            return None
        return self.program.with_body((*body[:at], *nest, *body[at + 1 :]))

    def _of_nest(self, at: int, step: Step) -> tuple[Node, ...] | None:
        """What becomes of the nest that a step changes; None where that is not legal."""
        after = super()._after(step)
        if after is None:
            return None
        nest = after.body[at : at + 1 + len(after.body) - len(self.program.body)]
        if not self._is_legal(after.with_body(nest), step):
            return None
        same = self.outcomes.same
        return tuple([same.setdefault(node, node) for node in nest])

    def _is_legal(self, after: Program, step: Step) -> bool:
        from agent.loopnest.schedules.legality import check_step  # isl: not for the random ones

        try:
            check_step(after, step, self.dependences, in_c=self.in_c)
        except ScheduleError:
            return False
        return True


def _nest_changed(body: tuple[Node, ...], step: Step) -> int | None:
    """Which of the nodes of a program a step changes; None: several, or none."""
    match step:
        case Interchange(one, two) | Fuse(one, two) | Skew(one, two) | Collapse(one, two):
            names = {one, two}
        case Tile(sizes):
            names = {name for name, _ in sizes}
        case Diamond(time):
            names = {time}
        case _:
            names = {step.loop}
    for at, node in enumerate(body):
        if isinstance(node, Loop) and not names.isdisjoint(node.iterators):
            return at if names <= node.iterators else None
    return None


def random_schedule(program: Program, rng: random.Random) -> tuple[Schedule, Program]:
    """A random schedule that fits the structure of ``program``; dependences are not looked at.

    Every stage is left out at times, so that plain and rich schedules both occur.
    """
    draft = Draft(program)
    _randomize(draft, rng)
    return Schedule(tuple(draft.steps)), draft.program


def usual_schedule(program: Program, rng: random.Random) -> tuple[Schedule, Program]:
    """One of those that an expert would try, by chance; dependences are not looked at."""
    draft = Draft(program)
    if rng.random() < IN_REGISTERS:
        rows, size = rng.choice(TILES)
        block = Block(rows, size, Buffer.USUAL if rng.random() < 0.5 else Buffer.NONE)
        tiles = partial(register_tiles, block=block)
        sums: Move = partial(partial_sums, row_bytes=256)
        before, after = rng.choice(((), (_distribute_all,))), rng.choice(((), (_parallel,)))
        _perform(draft, (*before, rng.choice((tiles, tiles, sums)), _vector, *after))
    else:
        _perform(draft, rng.choice(_structures(program)))
        _perform(draft, rng.choice(MARKINGS))
    return Schedule(tuple(draft.steps)), draft.program


def candidate_schedules(
    program: Program, count: int, seed: int = 0, dependences: Dependences | None = None
) -> tuple[tuple[Schedule, Program], ...]:
    """Legal schedules of ``program``, no two of which give the same loops.

    The program as written comes first, then what is usually good, then more of that mixed with
    random ones. The result is the same for the same program, count and seed, and shorter than
    ``count`` where the program has not that many schedules.

    Raises:
        ScheduleError: the program is too complex to be analysed.
    """
    from agent.loopnest.schedules.dependence import Dependences

    dependences = dependences or Dependences.of(program)
    found = {program.body: (Schedule(), program)}
    drafts = proposals(dependences, random.Random(seed))
    for draft in itertools.islice(drafts, TRIES_PER_CANDIDATE * count):
        if len(found) >= count:
            break
        found.setdefault(draft.program.body, (Schedule(tuple(draft.steps)), draft.program))
    return tuple(found.values())[:count]


def proposals(
    dependences: Dependences,
    rng: random.Random,
    outcomes: Outcomes | None = None,
    *,
    in_c: bool = True,
) -> Iterator[LegalDraft]:
    """Legal schedules without an end, some of them twice: what an expert would try comes early."""
    new = partial(LegalDraft, dependences, outcomes or Outcomes(), in_c=in_c)
    classic = _classic(dependences.program, new)
    yield from itertools.islice(classic, CLASSIC_FIRST)
    others = (
        _in_registers(new),
        _in_diamonds(new),
        _in_time(new),
        _in_turns(new),
        _across_rows(new),
        _past_caches(new),
        _in_pairs(new),
        classic,
    )
    while True:
        for kind in others:
            yield from itertools.islice(kind, 1)
        draft = new()
        _randomize(draft, rng)
        yield draft


# What an expert would try

Move = Callable[[Draft], None]


def _classic(program: Program, new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """Every restructuring with every marking, the usual ones of both first."""
    structures = _structures(program)
    order = sorted(
        itertools.product(range(len(structures)), range(len(MARKINGS))),
        key=lambda pair: (sum(pair), pair),
    )
    started: dict[int, LegalDraft] = {}
    for structure, marking in order:
        if structure not in started:
            started[structure] = new()
            _perform(started[structure], structures[structure])
        draft = copy(started[structure])
        draft.steps = [*draft.steps]
        _perform(draft, MARKINGS[marking])
        yield draft


def _in_registers(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """Register tiles and partial sums of several sizes."""
    plain, packing = (
        [partial(register_tiles, block=Block(*size, buffer)) for size in TILES]
        for buffer in (Buffer.NONE, Buffer.USUAL)
    )
    full, narrow, wide = (
        [partial(register_tiles, block=Block(*size, buffer, fitted=True)) for size in FULL]
        for buffer in (Buffer.NONE, Buffer.NARROW, Buffer.WIDE)
    )
    sums = partial(partial_sums, row_bytes=256)
    moves: list[Move] = [
        packing[0], wide[0], plain[0], full[0], packing[1], plain[1], narrow[0], sums,
        packing[2], *wide[1:], *narrow[1:], *full[1:], *plain[2:],
    ]  # fmt: skip
    shared = [(move, _vector, private_sums) for move in (sums, _vector)]
    alone = [
        (*first, move, _vector, *last)
        for move, first, last in itertools.product(
            moves, ((), (_distribute_all,)), ((_parallel, _take_turns), ())
        )
    ]
    for sequence in (*alone[:2], *shared, *alone[2:]):
        draft = new()
        _perform(draft, sequence)
        yield draft


def _in_diamonds(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """Diamonds of loops of time, of several sizes; none where there are none."""
    lanes: tuple[Move, ...] = (_unit_stride_inside, _vector_dense)
    for last, sizes in itertools.product((lanes, ()), DIAMOND_SIZES):
        draft = new()
        diamond_tiles(draft, sizes)
        if draft.steps:
            _perform(draft, last)
            yield draft


def _in_time(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """Tiles of loops that carry dependences, of several sizes; none where no loops do."""
    moves: list[tuple[Callable[[LegalDraft], None], tuple[Move, ...]]] = [
        (partial(time_tiles, size=size, inner=inner, waves=waves), last)
        for (size, inner), waves, last in itertools.product(SIZES, (True, False), ((_vector,), ()))
    ]
    moves += [
        (partial(sweep_tiles, sizes=sizes, waves=waves), last)
        for waves, last in (
            (True, (_unit_stride_inside, _vector_dense)),
            (False, ()),
            (True, ()),
            (False, (_unit_stride_inside, _vector_dense)),
        )
        for sizes in SWEEP_SIZES
    ]
    for move, last in moves:
        draft = new()
        move(draft)
        if draft.steps:
            _perform(draft, last)
            yield draft


def _in_turns(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """What is usually good, with threads that take turns; none where their work is even."""
    structures: list[tuple[Move, ...]] = [(), (_unit_stride,), (_distribute_all, _unit_stride)]
    jam = partial(_jam_by, factor=4)
    markings: list[tuple[Move, ...]] = [(_vector,), (), (jam, _vector)]
    for first, last in itertools.product(structures, markings):
        draft = new()
        _perform(draft, (*first, _parallel, *last, _take_turns))
        if any(loop.cyclic for loop in draft.loops()):
            yield draft


def _across_rows(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """Transposes by blocks; none where nothing is read across its rows."""
    for size, last in itertools.product(TRANSPOSED, ((_vector, _parallel), (_vector,))):
        for streaming in (False, True):
            draft = new()
            if transposes(draft, size):
                _perform(draft, last)
                if not streaming or stream_large(draft):
                    yield draft


def _past_caches(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """What is usually good, with large arrays written past the caches; none where none is."""
    structures: list[tuple[Move, ...]] = [(), (_unit_stride,), (_distribute_all, _unit_stride)]
    for first, last in itertools.product(structures, ((cut_flat_loops, _parallel), ())):
        draft = new()
        _perform(draft, (*first, *last, _vector))
        if stream_large(draft):
            yield draft


def _in_pairs(new: Callable[[], LegalDraft]) -> Iterator[LegalDraft]:
    """Outer loops with few iterations, shared out together with the loops inside."""
    structures: list[tuple[Move, ...]] = [(), (_unit_stride,), (_distribute_all, _unit_stride)]
    markings: list[tuple[Move, ...]] = [(_vector,), (partial(_jam_by, factor=4), _vector)]
    for first, last in itertools.product(structures, markings):
        draft = new()
        _perform(draft, (*first, _collapse, *last))
        if any(loop.collapse for loop in draft.loops()):
            yield draft


def _collapse(draft: Draft) -> None:
    """Share out pairs of loops of which the outer one is short; an innermost one is cut before."""
    for loop in draft.outermost():
        inner = loop.body[0]
        if is_longer(loop, FEW) or not isinstance(inner, Loop):
            continue
        name = inner.iterator
        if inner in draft.innermost():
            draft.attempt(Tile(((name, LONG),)))
            _, outer = find_loop(draft.program, "tile", loop.iterator)
            name = next((n.iterator for n in outer.body if isinstance(n, Loop)), name)
        draft.attempt(Collapse(loop.iterator, name))


def _perform(draft: Draft, moves: tuple[Move, ...]) -> None:
    for move in moves:
        move(draft)


def _structures(program: Program) -> list[tuple[Move, ...]]:
    bands = Draft(program).bands()
    longest = max(bands, key=len, default=())
    names = [loop.iterator for loop in longest[:MAX_PERMUTED]]
    swaps = [(partial(_swap, pair=pair),) for pair in itertools.combinations(names, 2)]
    tiles = {size: partial(_tile_bands, size=size) for size in (8, 16, 32, 64, 128)}
    return [
        (),
        (_unit_stride,),
        (tiles[32],),
        (_fuse_all,),
        (_distribute_all, _unit_stride),
        (_unit_stride, tiles[32]),
        (_wavefront,),
        *swaps,
        (tiles[16],),
        (_unit_stride, tiles[64]),
        (_fuse_all, _unit_stride),
        (_distribute_all,),
        (_unit_stride, tiles[16]),
        (tiles[64],),
        (_wavefront, tiles[32]),
        *((*swap, tiles[32]) for swap in swaps),
        (_unit_stride, tiles[8]),
        (_unit_stride, tiles[128]),
    ]


def _swap(draft: Draft, pair: tuple[str, str]) -> None:
    draft.attempt(Interchange(*pair))


def _unit_stride(draft: Draft) -> None:
    """Put the loop that walks memory best innermost, in every band."""
    _reorder(draft, draft.bands())


def _unit_stride_inside(draft: Draft) -> None:
    """The same, but not in bands around others, as those of the tiles of several nests are."""
    inner = draft.innermost()
    _reorder(draft, [band for band in draft.bands() if band[-1] in inner])


def _reorder(draft: Draft, bands: Sequence[tuple[Loop, ...]]) -> None:
    for band in bands:
        best = min(reversed(band), key=_jumps)
        if best is not band[-1]:
            draft.attempt(Interchange(best.iterator, band[-1].iterator))


def _jumps(loop: Loop) -> int:
    """How many accesses inside ``loop`` move by more than an element as it advances."""
    count = 0
    for _, statement in statements(loop.body):
        for weight, access in ((2, statement.target), *((1, a) for a in all_reads(statement))):
            moves = [abs(s.coefficient(loop.iterator)) for s in access.subscripts]
            if any(moves[:-1]) or any(m > 1 for m in moves):
                count += weight
    return count


def _tile_bands(draft: Draft, size: int) -> None:
    """Tile the innermost neighbours (three at most) of every band that are longer than a tile."""
    for band in draft.bands():
        runs = itertools.groupby(band, key=lambda loop: is_longer(loop, size))
        long = [list(run)[-3:] for fits, run in runs if fits]
        if long and len(long[-1]) > 1:
            draft.attempt(Tile(tuple((loop.iterator, size) for loop in long[-1])))


def _fuse_all(draft: Draft) -> None:
    """Fuse neighbours as long as some fit, outer ones first."""
    while any(draft.attempt(Fuse(*pair)) for pair in draft.neighbours()):
        pass


def _distribute_all(draft: Draft) -> None:
    for loop in draft.loops():
        draft.attempt(Distribute(loop.iterator))


def _wavefront(draft: Draft) -> None:
    """Skew the innermost pair of every band and interchange it, so that diagonals run inside."""
    for band in draft.bands():
        if len(band) > 1:
            outer, inner = band[-2].iterator, band[-1].iterator
            if draft.attempt(Skew(inner, outer, 1)):
                draft.attempt(Interchange(outer, inner))


def _parallel(draft: Draft) -> None:
    for loop in draft.outermost():
        _share(draft, loop, MAX_PARALLEL_DEPTH)


def _share(draft: Draft, loop: Loop, depth: int) -> None:
    if depth and not draft.attempt(Parallelize(loop.iterator)):
        for node in loop.body:
            if isinstance(node, Loop):
                _share(draft, node, depth - 1)


def _take_turns(draft: Draft) -> None:
    """Deal out the iterations of uneven parallel loops; chunks write whole cache lines."""
    for loop in draft.loops():
        if loop.parallel and is_uneven(loop):
            whole = loop.step > 1 or loop.jam > 1 or not is_longer(loop, LONG)
            draft.attempt(Cyclic(loop.iterator, 1 if whole else CHUNK))


def _vector(draft: Draft) -> None:
    for loop in draft.innermost():
        draft.attempt(Vectorize(loop.iterator))


def _vector_dense(draft: Draft) -> None:
    """Vectorize innermost loops that go from one element to the next everywhere."""
    for loop in draft.innermost():
        if not _jumps(loop):
            draft.attempt(Vectorize(loop.iterator))


def _unroll_by(draft: Draft, factor: int) -> None:
    for loop in draft.innermost():
        draft.attempt(Unroll(loop.iterator, factor))


def _jam_by(draft: Draft, factor: int) -> None:
    """Jam the loops directly around innermost ones."""
    innermost = {loop.iterator for loop in draft.innermost()}
    for loop in draft.loops():
        if any(isinstance(n, Loop) and n.iterator in innermost for n in loop.body):
            draft.attempt(Jam(loop.iterator, factor))


MARKINGS: tuple[tuple[Move, ...], ...] = (
    (),
    (_parallel,),
    (_vector,),
    (_parallel, _vector),
    (partial(_jam_by, factor=4), _vector),
    (partial(_unroll_by, factor=4),),
    (_parallel, partial(_jam_by, factor=4), _vector),
    (partial(_jam_by, factor=2),),
    (_parallel, partial(_unroll_by, factor=4)),
    (partial(_unroll_by, factor=8),),
)

# Chance


def _randomize(draft: Draft, rng: random.Random) -> None:
    _regroup(draft, rng)
    if rng.random() < 0.5:
        _permute(draft, rng)
    if rng.random() < 0.12:
        _reshape(draft, rng)
    if rng.random() < 0.5:
        _tile(draft, rng)
    _mark(draft, rng)


def _regroup(draft: Draft, rng: random.Random) -> None:
    """Distribute or fuse loops here and there, where there are several to choose from."""
    for loop in draft.loops():
        if len(loop.body) > 1 and rng.random() < 0.2:
            draft.attempt(Distribute(loop.iterator))
    for _ in range(2):
        if (pairs := draft.neighbours()) and rng.random() < 0.3:
            draft.attempt(Fuse(*rng.choice(pairs)))


def _permute(draft: Draft, rng: random.Random) -> None:
    bands = [band for band in draft.bands() if len(band) > 1]
    for band in bands:
        if rng.random() < 1 / len(bands) + 0.2:
            pairs = list(itertools.combinations([loop.iterator for loop in band], 2))
            for one, two in rng.sample(pairs, min(len(pairs), rng.choice((1, 1, 2)))):
                draft.attempt(Interchange(one, two))


def _reshape(draft: Draft, rng: random.Random) -> None:
    """Reverse a loop, or skew one and often interchange the two (a wavefront)."""
    if not (names := [loop.iterator for loop in draft.loops()]):
        return
    if rng.random() < 0.4:
        draft.attempt(Reverse(rng.choice(names)))
        return
    if not (bands := [band for band in draft.bands() if len(band) > 1]):
        return
    band = rng.choice(bands)
    inner = rng.randrange(1, len(band))
    outer, skewed = band[inner - 1].iterator, band[inner].iterator
    if draft.attempt(Skew(skewed, outer, rng.choice((1, 1, 1, 2, -1)))) and rng.random() < 0.6:
        draft.attempt(Interchange(outer, skewed))


def _tile(draft: Draft, rng: random.Random) -> None:
    bands = draft.bands()
    for band in bands:
        if rng.random() < 1 / len(bands) + 0.2:
            count = rng.randint(1, min(3, len(band)))
            start = rng.randint(0, len(band) - count)
            picked = band[start : start + count]
            sizes = [rng.choice(_sizes(last_iteration(loop)) or [2]) for loop in picked]
            names = (x.iterator for x in picked)
            draft.attempt(Tile(tuple(zip(names, sizes, strict=True))))
            if count == 1 and start and rng.random() < 0.5:  # a tile loop alone changes nothing
                draft.attempt(Interchange(band[0].iterator, f"{picked[0].iterator}_t"))


@lru_cache(1024)
def _sizes(last: int | None) -> list[int]:
    """Sizes of tiles of a loop, of which ``last`` is the number of its last iteration."""
    return [size for size in TILE_SIZES if last is None or last >= size]


def _mark(draft: Draft, rng: random.Random) -> None:
    """Parallelize outer loops, vectorize or unroll inner ones, jam now and then."""
    if rng.random() < 0.2:
        outer = [loop for loop in draft.loops() if len(loop.nest) > 1]
        if outer:
            draft.attempt(Jam(rng.choice(outer).iterator, rng.choice((2, 2, 4))))
    if rng.random() < 0.55:
        for loop in draft.outermost():
            band = perfect_band(loop)
            second = len(band) > 1 and rng.random() < 0.2
            if rng.random() < 0.85:
                draft.attempt(Parallelize(band[1 if second else 0].iterator))
    vectorize = rng.random() < 0.45
    for loop in draft.innermost():
        if vectorize and rng.random() < 0.85:
            draft.attempt(Vectorize(loop.iterator))
        elif rng.random() < 0.25:
            draft.attempt(Unroll(loop.iterator, rng.choice(FACTORS)))
