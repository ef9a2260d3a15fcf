"""Schedules: a tuple of frozen steps, and their text form.

    interchange i k; tile i 32 j 32; diamond t i 32; diamond t 2 i 32 i2 1 1; skew j i 1;
    shift i2 1; reverse i; wrap j; fuse i i2; distribute i; parallelize i; cyclic i 4;
    collapse i j; vectorize j; vectorize j 16; unroll k 4; jam i 4; pack B j_t;
    pack A[j][k] j_t; stream C j

Steps apply left to right. ``original`` (or an empty text) is the program as written. Loops are
named by their iterators; ``tile i 32`` leaves ``i`` as the loop inside a tile and makes ``i_t``
the loop over tiles.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields

from agent.errors import ScheduleError

MAX_STEPS = 32
MAX_TEXT = 2_000
MAX_FACTOR = 65_536
ORIGINAL = "original"
_READ = re.compile(r"\w+(\[[-+*\w]+\])*")
_DIAMOND = re.compile("[01]1+2*")  # how many numbers follow the names


@dataclass(frozen=True, slots=True)
class _Words:
    """A step's text form: its name, then its fields in order."""

    def __str__(self) -> str:
        values = (getattr(self, field.name) for field in fields(self))
        return " ".join((type(self).__name__.lower(), *map(str, values)))


@dataclass(frozen=True, slots=True)
class Interchange(_Words):
    """Swap two loops of one perfectly nested band."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Tile(_Words):
    """Tile loops: ``((loop, size), ...)``, one for each level of a nest, outermost first."""

    sizes: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return "tile " + " ".join(f"{name} {size}" for name, size in self.sizes)


@dataclass(frozen=True, slots=True)
class Diamond(_Words):
    """Tile a loop of time and the sweeps inside it in diamonds, all of a wave at the same time.

    Attributes:
        time: the loop of time.
        slope: how far a sweep reaches in one iteration of it.
        sizes: ``((loop, size), ...)`` as of ``Tile``, from the outermost loops of the sweeps on.
        late: of these outermost loops, by how much a sweep is later where a diamond begins and
            where it ends: ``((loop, begin, end), ...)``.
    """

    time: str
    slope: int
    sizes: tuple[tuple[str, int], ...]
    late: tuple[tuple[str, int, int], ...] = ()

    def __str__(self) -> str:
        time = (self.time,) if self.slope == 1 else (self.time, self.slope)
        words = ("diamond", *time, *itertools.chain(*self.sizes, *self.late))
        return " ".join(map(str, words))


@dataclass(frozen=True, slots=True)
class Skew(_Words):
    """Skew the inner loop by the outer: ``inner' = inner + factor * outer``."""

    inner: str
    outer: str
    factor: int


@dataclass(frozen=True, slots=True)
class Shift(_Words):
    """Move the range of a loop: ``loop' = loop + distance``."""

    loop: str
    distance: int


@dataclass(frozen=True, slots=True)
class Wrap(_Words):
    """Put a loop of one iteration around a loop."""

    loop: str


@dataclass(frozen=True, slots=True)
class Reverse(_Words):
    """Run a loop backwards."""

    loop: str


@dataclass(frozen=True, slots=True)
class Fuse(_Words):
    """Fuse two neighbouring loops into the first."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Distribute(_Words):
    """Give every node in a loop's body a loop of its own."""

    loop: str


@dataclass(frozen=True, slots=True)
class Parallelize(_Words):
    """Share the iterations of a loop among threads, each with a copy of its own of ``arrays``."""

    loop: str
    arrays: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(("parallelize", self.loop, *self.arrays))


@dataclass(frozen=True, slots=True)
class Cyclic(_Words):
    """Give the threads of a parallel loop ``chunk`` iterations at a time, in turn."""

    loop: str
    chunk: int


@dataclass(frozen=True, slots=True)
class Collapse(_Words):
    """Share the iterations of two nested loops together among threads: all pairs of them."""

    outer: str
    inner: str


@dataclass(frozen=True, slots=True)
class Vectorize(_Words):
    """Run the iterations of a loop in SIMD lanes, ``lanes`` of them together.

    1: as many as the compiler sees fit, in an innermost loop.
    """

    loop: str
    lanes: int = 1

    def __str__(self) -> str:
        return f"vectorize {self.loop}" + (f" {self.lanes}" if self.lanes > 1 else "")


@dataclass(frozen=True, slots=True)
class Unroll(_Words):
    """Unroll an innermost loop."""

    loop: str
    factor: int


@dataclass(frozen=True, slots=True)
class Jam(_Words):
    """Unroll an outer loop and jam the copies into the loops inside it."""

    loop: str
    factor: int


@dataclass(frozen=True, slots=True)
class Pack(_Words):
    """Copy what the loops inside a loop read of an array into a buffer, in every iteration.

    ``array``: its name; where it is read in several places, that which is meant (``A[j][k]``).
    """

    array: str
    loop: str


@dataclass(frozen=True, slots=True)
class Stream(_Words):
    """Write an array past the caches, whole lines at a time, in an innermost loop in SIMD lanes."""

    array: str
    loop: str


Step = (
    Interchange
    | Tile
    | Diamond
    | Skew
    | Shift
    | Wrap
    | Reverse
    | Fuse
    | Distribute
    | Parallelize
    | Cyclic
    | Collapse
    | Vectorize
    | Unroll
    | Jam
    | Pack
    | Stream
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps, in the order applied; none of them: the program as written."""

    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps)) or ORIGINAL


def _number(word: str, what: str, low: int = 1) -> int:
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise ScheduleError(f"{what}: expected a whole number, got {word!r}")
    value = int(word)
    if not low <= value <= MAX_FACTOR:
        raise ScheduleError(f"{what}: {value} is outside {low}..{MAX_FACTOR}")
    return value


def _name(word: str, what: str) -> str:
    if not (word.isascii() and word.isidentifier()):
        raise ScheduleError(f"{what}: expected the name of a loop, got {word!r}")
    return word


def _names(count: int, make: Callable[..., Step]) -> Callable[[str, list[str]], Step]:
    def parse_names(what: str, words: list[str]) -> Step:
        if len(words) != count:
            wanted = "1 loop name" if count == 1 else f"{count} loop names"
            raise ScheduleError(f"{what}: expected {wanted}, got {len(words)}")
        return make(*(_name(w, what) for w in words))

    return parse_names


def _factor(make: Callable[[str, int], Step], low: int = 2) -> Callable[[str, list[str]], Step]:
    def parse_factor(what: str, words: list[str]) -> Step:
        if len(words) != 2:
            raise ScheduleError(f"{what}: expected a loop name and a number")
        return make(_name(words[0], what), _number(words[1], what, low=low))

    return parse_factor


def _parallelize(what: str, words: list[str]) -> Step:
    if not words or len(set(words)) != len(words):
        raise ScheduleError(f"{what}: expected a loop name, and different arrays or nothing")
    loop, *arrays = (_name(w, what) for w in words)
    return Parallelize(loop, tuple(arrays))


def _vectorize(what: str, words: list[str]) -> Step:
    if len(words) == 1:
        return Vectorize(_name(words[0], what))
    if len(words) != 2:
        raise ScheduleError(f"{what}: expected a loop name, and how many lanes or nothing")
    return Vectorize(_name(words[0], what), _number(words[1], what, low=2))


def _pack(what: str, words: list[str]) -> Step:
    if len(words) < 2:
        raise ScheduleError(f"{what}: expected an array and a loop name")
    *parts, loop = words
    read = "".join(parts)
    _name(read.partition("[")[0], what)
    if _READ.fullmatch(read) is None:
        raise ScheduleError(f"{what}: expected an array or one of its elements, got {read!r}")
    return Pack(read, _name(loop, what))


def _tile(what: str, words: list[str]) -> Step:
    if not words or len(words) % 2:
        raise ScheduleError(f"{what}: expected pairs of a loop name and a size")
    names = [_name(w, what) for w in words[::2]]
    if len(set(names)) != len(names):
        raise ScheduleError(f"{what}: a loop is named twice")
    return Tile(tuple(zip(names, (_number(w, what) for w in words[1::2]), strict=True)))


def _moved(word: str, what: str) -> int:
    return _number(word, what, low=-MAX_FACTOR)


def _diamond(what: str, words: list[str]) -> Step:
    groups: list[tuple[str, list[str]]] = []
    for word in words:
        if word.isidentifier() or not groups:
            groups.append((_name(word, what), []))
        else:
            groups[-1][1].append(word)
    if _DIAMOND.fullmatch("".join(str(len(numbers)) for _, numbers in groups)) is None:
        raise ScheduleError(
            f"{what}: expected a loop of time, then pairs of a loop name and a size"
        )
    (time, slope), *others = groups
    sizes = [(name, _number(words[0], what, low=2)) for name, words in others if len(words) == 1]
    late = [
        (name, _moved(words[0], what), _moved(words[1], what))
        for name, words in others
        if len(words) == 2
    ]
    for named in ([time, *(name for name, _ in sizes)], [name for name, _, _ in late]):
        if len(set(named)) != len(named):
            raise ScheduleError(f"{what}: a loop is named twice")
    return Diamond(time, _number(slope[0], what) if slope else 1, tuple(sizes), tuple(late))


def _shift(what: str, words: list[str]) -> Step:
    if len(words) != 2:
        raise ScheduleError(f"{what}: expected a loop name and a number")
    distance = _moved(words[1], what)
    if distance == 0:
        raise ScheduleError(f"{what}: a distance of 0 changes nothing")
    return Shift(_name(words[0], what), distance)


def _skew(what: str, words: list[str]) -> Step:
    if len(words) != 3:
        raise ScheduleError(f"{what}: expected the inner loop, the outer loop and a factor")
    factor = _number(words[2], what, low=-MAX_FACTOR)
    if factor == 0:
        raise ScheduleError(f"{what}: a factor of 0 changes nothing")
    return Skew(_name(words[0], what), _name(words[1], what), factor)


_FORMS = {
    "interchange": "interchange i k",
    "tile": "tile i 32 j 32",
    "diamond": "diamond t i 32, diamond t 2 i 32 i2 1 1 (i2 is later by 1 on both sides)",
    "skew": "skew j i 1 (the inner loop first)",
    "shift": "shift i2 1",
    "wrap": "wrap j",
    "reverse": "reverse i",
    "fuse": "fuse i i2",
    "distribute": "distribute i",
    "parallelize": "parallelize i, parallelize i y (each thread adds to its own y)",
    "cyclic": "cyclic i 4 (after parallelize i)",
    "collapse": "collapse i j (the outer loop first)",
    "vectorize": "vectorize j, vectorize j 16",
    "unroll": "unroll k 4",
    "jam": "jam i 4",
    "stream": "stream C j (the array first; after vectorize j)",
    "pack": "pack B j_t (the array first), pack A[j][k] j_t (where A is read in several places)",
}
_STEPS: dict[str, Callable[[str, list[str]], Step]] = {
    "interchange": _names(2, Interchange),
    "tile": _tile,
    "diamond": _diamond,
    "skew": _skew,
    "shift": _shift,
    "wrap": _names(1, Wrap),
    "reverse": _names(1, Reverse),
    "fuse": _names(2, Fuse),
    "distribute": _names(1, Distribute),
    "parallelize": _parallelize,
    "cyclic": _factor(Cyclic, low=1),
    "collapse": _names(2, Collapse),
    "vectorize": _vectorize,
    "unroll": _factor(Unroll),
    "jam": _factor(Jam),
    "pack": _pack,
    "stream": _names(2, Stream),
}
_SPELLINGS = {"vectorise": "vectorize", "parallelise": "parallelize"}


def parse_schedule(text: str) -> Schedule:
    """The schedule written in ``text``; ``str(parse_schedule(t))`` is its canonical form.

    Raises:
        ScheduleError: the text does not follow the grammar; the message names the step.
    """
    if len(text) > MAX_TEXT:
        raise ScheduleError(f"the schedule is longer than {MAX_TEXT} characters")
    if text.strip() in ("", ORIGINAL):
        return Schedule()
    parts = [p.strip() for p in text.split(";")]
    if parts and not parts[-1]:
        parts.pop()
    if len(parts) > MAX_STEPS:
        raise ScheduleError(f"the schedule has more than {MAX_STEPS} steps")
    steps: list[Step] = []
    for number, part in enumerate(parts, 1):
        words = part.split()
        kind = words[0] if words else ""
        kind = _SPELLINGS.get(kind, kind)
        if kind not in _STEPS:
            raise ScheduleError(
                f"step {number} ({part!r}): unknown step",
                hint="Steps: " + ", ".join(sorted(_STEPS)) + ".",
            )
        try:
            steps.append(_STEPS[kind](f"step {number} ({part!r})", words[1:]))
        except ScheduleError as error:
            raise ScheduleError(error.message, f"For example: {_FORMS[kind]}.") from None
    return Schedule(tuple(steps))
