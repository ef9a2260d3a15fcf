"""The order of the fixed set: a Bayesian D-optimal design in the space of the bundle's prior.

A timing is worth what it tells about how this machine differs from the average one: the growth of
the log determinant of the posterior's precision along the prior's directions. A variant brings a
speed-up row; the first variant of a kernel also brings the seconds of its base. Rows of a kernel
share an error, so that a second variant tells less than its noise promises. Variants are taken
greedily by information per second of measuring (Fedorov 1972; Chaloner and Verdinelli 1995,
"Bayesian experimental design: a review"), which makes every prefix a good experiment too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.arrays import Doubles
from agent.bundle.bundle import Bundle
from agent.bundle.encoder import Encoder
from agent.calibration.plan import COMPILE_CPU_S, GROUP_S, VARIANT_S
from agent.errors import AgentError
from agent.kernels.fixed_set import Kernel, kernels, load_kernel
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import features
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.schedule import Reverse, Schedule, Skew
from agent.model.prior import Prior

MOST_OF_A_KERNEL = 4
DISTINCT_FIRST = 6  # the first variants are of different kernels
DISTINCT_SHARE = 0.6  # of every prefix: accuracy is judged on kernels left out, so many are needed
SLOWEST = np.log(1 / 8)  # predicted; slower ones only cost time
LABEL_SD = 0.03
MOST_STEPS = 4
MISFIT = 0.3  # the larger an effect, the larger what no linear head explains of it
TIE = 1e-9  # differences in value that are rounding
MARKER = "[[variant]]"


@dataclass(frozen=True)
class Choice:
    """One line of the fixed set's order, and the information it adds (nats)."""

    kernel: str
    schedule: str
    gain: float


@dataclass(frozen=True)
class Candidates:
    """What may be timed of one kernel.

    Attributes:
        kernel: its name.
        schedules: [c] legal ones.
        speedup: [c, K+1] directions of their speed-up rows.
        seconds: [K+1] direction of the base's seconds.
    """

    kernel: str
    schedules: tuple[str, ...]
    speedup: Doubles
    seconds: Doubles


def design_set(
    bundle: Bundle, count: int, candidates: int, say: Callable[[str], None]
) -> tuple[Choice, ...]:
    """The first ``count`` variants of the fixed set, most informative first.

    Args:
        bundle: whose prior says what is not known about a machine.
        count: how many; every kernel is among them where there are that many.
        candidates: schedules considered for each kernel.
        say: receives progress lines.
    """
    prior, encoder = Prior.from_json(bundle.prior), Encoder(bundle)
    pools = []
    for kernel in kernels():
        pools.append(_pool(kernel, candidates, prior, encoder))
        say(f"{kernel.name}: {len(pools[-1].schedules)} candidates")
    return choose_variants(pools, count, prior)


def usual(schedule: Schedule, *, in_place: bool) -> bool:
    """Whether people would try it: few steps, no reversal, skewing only of in-place sweeps.

    Contrived schedules stand out most in the encoder's space and say least about the rest.
    """
    odd = any(
        isinstance(s, Reverse) or (isinstance(s, Skew) and not in_place) for s in schedule.steps
    )
    return 0 < len(schedule.steps) <= MOST_STEPS and not odd


def _pool(kernel: Kernel, count: int, prior: Prior, encoder: Encoder) -> Candidates:
    program = load_kernel(kernel)
    in_place = bool(lower([program]).recurrence.any())
    tried = candidate_schedules(program, count)
    found = [c for c in tried if usual(c[0], in_place=in_place)]
    table = lower([program, *(scheduled for _, scheduled in found)])
    vectors = encoder.embed(features(table)).astype(np.float64)
    gains = vectors[0] - vectors[1:]
    kept = gains @ prior.mean[:-1] >= SLOWEST
    if not kept.any():
        kept = np.ones(len(gains), np.bool_)
    return Candidates(
        kernel.name,
        tuple(str(schedule) for (schedule, _), keep in zip(found, kept, strict=True) if keep),
        project(np.column_stack([gains[kept], np.zeros(kept.sum())]), prior),
        project(np.append(vectors[:1], [[1.0]], axis=1), prior)[0],
    )


def project(design: Doubles, prior: Prior) -> Doubles:
    """[n, E+1] rows as [n, K+1] in units of the prior's sd; the last is the free intercept."""
    along = design @ prior.scaled_directions
    return np.column_stack([along, design[:, -1] * prior.intercept_sd])


class _Option(NamedTuple):
    """A variant that may be next, what it tells (twice the nats), and that for a second."""

    value: float
    gain: float
    pool: Candidates
    candidate: int


def choose_variants(pools: Sequence[Candidates], count: int, prior: Prior) -> tuple[Choice, ...]:
    """Greedy choice from the candidates; deterministic (ties: the first)."""
    taken: dict[str, list[int]] = {pool.kernel: [] for pool in pools}
    precision = np.eye(prior.directions.shape[1] + 1)
    chosen: list[Choice] = []
    for number in range(count):
        open_now = _open(pools, taken, number, count)
        best = _best(
            option for pool in open_now for option in _options(pool, taken, precision, prior)
        )
        if best is None:
            break
        pool, have = best.pool, taken[best.pool.kernel]
        precision = precision - _information(pool, have, prior)
        have.append(best.candidate)
        precision = precision + _information(pool, have, prior)
        chosen.append(Choice(pool.kernel, pool.schedules[best.candidate], best.gain / 2))
    return tuple(chosen)


def _best(options: Iterable[_Option]) -> _Option | None:
    best: _Option | None = None
    for option in options:
        if best is None or option.value > best.value + TIE:
            best = option
    return best


def _options(
    pool: Candidates, taken: Mapping[str, list[int]], precision: Doubles, prior: Prior
) -> Iterator[_Option]:
    """The candidates of a kernel that are not taken yet."""
    have = taken[pool.kernel]
    others = precision - _information(pool, have, prior)
    before = np.linalg.slogdet(precision)[1]
    for candidate in range(len(pool.schedules)):
        if candidate not in have:
            grown = others + _information(pool, [*have, candidate], prior)
            gain = float(np.linalg.slogdet(grown)[1] - before)
            yield _Option(gain / _cost(new=not have), gain, pool, candidate)


def _open(
    pools: Sequence[Candidates], taken: dict[str, list[int]], number: int, count: int
) -> list[Candidates]:
    """Kernels that may be next: new ones at the start, and when the places run out."""
    missing = [p for p in pools if not taken[p.kernel] and p.schedules]
    present = sum(map(bool, taken.values()))
    few = present < max(DISTINCT_FIRST, DISTINCT_SHARE * (number + 1))
    if missing and (few or count - number <= len(missing)):
        return missing
    return [p for p in pools if len(taken[p.kernel]) < min(MOST_OF_A_KERNEL, len(p.schedules))]


def _cost(*, new: bool) -> float:
    """Seconds to time one more variant; a new kernel is compiled, checked and timed as well."""
    return VARIANT_S + COMPILE_CPU_S + (GROUP_S + COMPILE_CPU_S if new else 0.0)


def _information(pool: Candidates, picked: list[int], prior: Prior) -> Doubles:
    """[K+1, K+1] precision that the timings of one kernel add."""
    size = len(pool.seconds)
    if not picked:
        return np.zeros((size, size))
    rows = pool.speedup[picked]
    own = prior.noise_speedup**2 + LABEL_SD**2 + MISFIT**2 * (rows**2).sum(1)
    noise = np.diag(own) + prior.program_speedup**2
    level = prior.noise_seconds**2 + prior.program_seconds**2 + LABEL_SD**2
    return np.asarray(
        rows.T @ np.linalg.solve(noise, rows) + np.outer(pool.seconds, pool.seconds) / level
    )


def write_set(path: Path, chosen: Sequence[Choice]) -> None:
    """Replace the variants of a set.toml; its kernels and comments above them stay.

    Raises:
        AgentError: the file cannot be read or written, or has no place for variants.
    """
    try:
        text = path.read_text(encoding="utf-8")
        head, marker, _ = text.partition(MARKER)
        if not marker:
            raise AgentError(
                f"{path} has no {MARKER} to replace", "Give the set.toml of the agent."
            )
        entries = (f'{MARKER}\nkernel = "{c.kernel}"\nschedule = "{c.schedule}"\n' for c in chosen)
        staged = path.with_name(f".{path.name}.new")
        staged.write_text(head + "\n".join(entries), encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        raise AgentError(f"cannot rewrite {path}: {error.strerror}") from error
