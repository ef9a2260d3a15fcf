"""Every loop nest of C files: where it is, whether it is read and if not why, what it promises."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.advise.advise import predictor_of
from agent.advise.sources import Source
from agent.errors import AgentError, InputError, SourceError
from agent.loopnest.frontend.parse import parse
from agent.loopnest.lowering.lower import Reading, lower, sizes_of
from agent.loopnest.lowering.reader import regions_of
from agent.loopnest.lowering.regions import LoopNest, inner_nests
from agent.progress import Progress, Tell

if TYPE_CHECKING:
    from agent.calibration.predictor import Predictor
    from agent.loopnest.frontend.ctree import CFunction, Unit
    from agent.settings.config import Config

DEEPEST = 4  # loops around a nest that is not read, whose inner nests are looked at
LEAST_MEMORY = 1 << 30  # bytes; a nest with larger arrays is read, and promises nothing here


@dataclass(frozen=True)
class ScanRequest:
    """What to scan.

    Attributes:
        sources: the files.
        sizes: values of size parameters, for every function that has them.
        other: the value of every size that is not given; None: such nests are not predicted.
        candidates: how many schedules of a nest are looked at.
    """

    sources: Sequence[Source]
    sizes: Mapping[str, int]
    other: int | None
    candidates: int


@dataclass(frozen=True)
class Promise:
    """The best prediction of some legal schedules of a nest."""

    schedule: str
    speedup: float
    low: float
    high: float
    seconds: float
    far: bool


@dataclass(frozen=True)
class ScannedNest:
    """A loop nest, or a function in which there is none to be read.

    Attributes:
        file: where it is; ``function``: in which; ``lines``: the first and the last.
        nest: its number in the function; None: it is part of another, or of no nest.
        status: ``read`` or ``refused``; ``reason``: why the latter.
        sizes: values that were used; ``missing``: names of others that it takes.
        promise: None where nothing can be predicted.
    """

    file: str
    function: str
    lines: tuple[int, int]
    nest: int | None = None
    status: str = "refused"
    reason: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    promise: Promise | None = None

    @property
    def speedup(self) -> float:
        """What is promised; 0: nothing."""
        return self.promise.speedup if self.promise else 0.0


def scan(config: Config, request: ScanRequest, tell: Tell) -> dict[str, object]:
    """``{"nests": [...], "files": ...}``, the most promising first.

    Raises:
        BundleError, StateError: nothing can be predicted.
    """
    started = time.monotonic()
    predictor = predictor_of(config)
    nests: list[ScannedNest] = []
    unread: list[dict[str, object]] = []
    total = len(request.sources)
    for done, source in enumerate(request.sources):
        tell(Progress("scanning", done, total, str(source.path)))
        try:
            _refuse_endless(source.path)
            unit = parse(source.path, source.cflags)
            if unit.errors:
                raise SourceError(unit.errors[0], "It may need --cflags '-I FOLDER' or -D.")
        except (InputError, SourceError) as failure:
            unread.append({"file": str(source.path), "reason": failure.message})
            continue
        nests += _nests(unit, request, predictor)
    return {
        "nests": [asdict(n) for n in sorted(nests, key=lambda n: -n.speedup)],
        "files": total,
        "unread": unread,
        "elapsed_s": time.monotonic() - started,
        "bundle": {"name": predictor.bundle.name, "version": predictor.bundle.version},
        "calibration_id": predictor.calibration_id,
    }


def _refuse_endless(path: Path) -> None:
    """A pipe that lies among the files of a project would be waited for."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise SourceError(f"{path}: no plain file", "Give it to `agent rank` by itself.")


def _nests(unit: Unit, request: ScanRequest, predictor: Predictor) -> Iterator[ScannedNest]:
    for function in unit.functions.values():
        if function.place.file != unit.file:
            continue
        try:
            parts = regions_of(unit, function)
        except SourceError as failure:
            yield replace(_place(unit, function, None), reason=failure.message)
            continue
        for number, part in enumerate(parts, 1):
            yield from _found(unit, function, part, number, request, predictor)


def _found(
    unit: Unit,
    function: CFunction,
    part: LoopNest,
    number: int | None,
    request: ScanRequest,
    predictor: Predictor,
) -> Iterator[ScannedNest]:
    """A nest as it was read; where it was not, those inside it besides."""
    wanted = sizes_of(unit, function, part)
    sizes = {n: request.sizes.get(n, request.other) for n in wanted}
    known = {n: value for n, value in sizes.items() if value is not None}
    here = replace(_place(unit, function, part), nest=number, sizes=known)
    try:
        reading = lower(unit, function, part, known)
    except SourceError as failure:
        missing = [n for n in wanted if n not in known]
        yield replace(here, reason=failure.message, missing=missing)
        if len(part.around) < DEEPEST and not missing:
            for inner in inner_nests(part):
                yield from _found(unit, function, inner, None, request, predictor)
        return
    promise = _promise(reading, request.candidates, predictor)
    yield replace(here, status="read", promise=promise)


def _place(unit: Unit, function: CFunction, part: LoopNest | None) -> ScannedNest:
    first = part.first_line if part else function.place.line
    last = part.last_line if part else function.place.last_line
    return ScannedNest(unit.file, function.name, (first, last))


def _promise(reading: Reading, candidates: int, predictor: Predictor) -> Promise | None:
    """The best prediction of some legal schedules; None where there is none."""
    from agent.loopnest.schedules.candidates import candidate_schedules

    if reading.program.bytes > LEAST_MEMORY:
        return None
    try:
        drawn = candidate_schedules(reading.program, candidates)
        found = predictor.predict(reading.program, [variant for _, variant in drawn])
    except AgentError:
        return None
    likely = [n for n, p in enumerate(found) if p.possible]
    if not likely:
        return None
    best = max(likely, key=lambda n: found[n].speedup)
    p = found[best]
    return Promise(str(drawn[best][0]), p.speedup, p.low, p.high, p.seconds, p.far)
