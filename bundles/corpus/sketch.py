"""What a family of programs is drawn with: random choices, fresh names, sizes people choose."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from agent.loopnest.program import Access, DType, Read

ITERATORS = ("i", "j", "k", "l", "m", "n")
ARRAYS = "ABCDEFGHPQRSTUVW"


@dataclass
class Sketch:
    """What a family of programs is drawn with: random choices and the names given out so far.

    Attributes:
        rng: the source of every choice.
        dtype: the main element type of the program.
        work: how many times the heaviest statement shall run, roughly.
    """

    rng: random.Random
    dtype: DType
    work: float
    types: dict[str, DType] = field(default_factory=dict)
    scalar_types: dict[str, DType] = field(default_factory=dict)
    temporary_types: dict[str, DType] = field(default_factory=dict)
    used: int = 0

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.rng.random() < probability

    def iterators(self, count: int) -> list[str]:
        """Fresh iterator names: i, j, k, ..., i2, j2, ..."""
        out = []
        for number_ in range(self.used, self.used + count):
            turn, place = divmod(number_, len(ITERATORS))
            out.append(ITERATORS[place] + (str(turn + 1) if turn else ""))
        self.used += count
        return out

    def array(self, dtype: DType | None = None) -> str:
        """A fresh array of the type given (the main type otherwise)."""
        turn, place = divmod(len(self.types), len(ARRAYS))
        name = ARRAYS[place] + (str(turn) if turn else "")
        self.types[name] = dtype or self.dtype
        return name

    def scalar(self, dtype: DType | None = None) -> Read:
        """A fresh scalar argument."""
        name = ("alpha", "beta", "gamma", "delta")[len(self.scalar_types) % 4]
        self.scalar_types.setdefault(name, dtype or self.dtype)
        return Read(Access(name))

    def temporary(self, dtype: DType | None = None) -> Access:
        """A fresh scalar declared inside the region."""
        name = f"t{len(self.temporary_types)}"
        self.temporary_types[name] = dtype or self.dtype
        return Access(name)

    def sizes(self, count: int, work: float | None = None, low: int = 4) -> list[int]:
        """Trip counts whose product is about ``work``, shared out unevenly."""
        work = work or self.work
        shares = [self.rng.expovariate(1.0) + 0.25 for _ in range(count)]
        spare = max(work / low**count, 1.0)
        raw = [low * spare ** (s / sum(shares)) for s in shares]
        return [max(low, snap(self.rng, x)) for x in raw]


def snap(rng: random.Random, x: float) -> int:
    """A size near ``x`` as people choose them: powers of two, round numbers, or anything."""
    style = rng.random()
    if style < 0.4:
        return 1 << round_log2(x)
    if style < 0.65 and x >= 12:
        unit = int(10 ** max(0, len(str(int(x))) - 2)) * rng.choice((1, 2, 5))
        return max(1, round(x / unit)) * unit
    if style < 0.75:
        return (1 << round_log2(x)) + rng.choice((-2, -1, 1, 2))
    return max(1, round(x))


def round_log2(x: float) -> int:
    """The exponent of the power of two nearest to ``x`` (by ratio), at least 0."""
    return max(0, round(math.log2(x))) if x > 1 else 0
