"""Every loop nest of C files: where it is, whether it is read and if not why, what it promises."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def scan(config: Config, request: ScanRequest, tell: Tell) -> dict[str, Any]:
    """``{"nests": [...], "files": ...}``, the most promising first.

    Raises:
        BundleError, StateError: nothing can be predicted.
    """
    started = time.monotonic()
    predictor = predictor_of(config)
    nests: list[dict[str, Any]] = []
    unread: list[dict[str, Any]] = []
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
    order = sorted(nests, key=lambda n: -(n["promise"] or {"speedup": 0.0})["speedup"])
    return {
        "nests": order,
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


def _nests(unit: Unit, request: ScanRequest, predictor: Predictor) -> Iterator[dict[str, Any]]:
    for function in unit.functions.values():
        if function.place.file != unit.file:
            continue
        try:
            parts = regions_of(unit, function)
        except SourceError as failure:
            yield _unread(unit, function, None, failure)
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
) -> Iterator[dict[str, Any]]:
    """A nest as it was read; where it was not, those inside it besides."""
    wanted = sizes_of(unit, function, part)
    sizes = {n: request.sizes.get(n, request.other) for n in wanted}
    known = {n: value for n, value in sizes.items() if value is not None}
    try:
        reading = lower(unit, function, part, known)
    except SourceError as failure:
        missing = [n for n in wanted if n not in known]
        yield {
            **_unread(unit, function, part, failure),
            "nest": number,
            "sizes": known,
            "missing": missing,
        }
        if len(part.around) < DEEPEST and not missing:
            for inner in inner_nests(part):
                yield from _found(unit, function, inner, None, request, predictor)
        return
    yield {
        **_place(unit, function, part),
        "nest": number,
        "status": "read",
        "reason": None,
        "sizes": known,
        "missing": [],
        "promise": _promise(reading, request.candidates, predictor),
    }


def _place(unit: Unit, function: CFunction, part: LoopNest | None) -> dict[str, Any]:
    first = part.first_line if part else function.place.line
    last = part.last_line if part else function.place.last_line
    return {"file": unit.file, "function": function.name, "lines": [first, last]}


def _unread(
    unit: Unit, function: CFunction, part: LoopNest | None, failure: SourceError
) -> dict[str, Any]:
    return {
        **_place(unit, function, part),
        "nest": None,
        "status": "refused",
        "reason": failure.message,
        "sizes": {},
        "missing": [],
        "promise": None,
    }


def _promise(reading: Reading, candidates: int, predictor: Predictor) -> dict[str, Any] | None:
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
    chosen = found[best]
    return {
        "schedule": str(drawn[best][0]),
        "speedup": chosen.speedup,
        "low": chosen.low,
        "high": chosen.high,
        "seconds": chosen.seconds,
        "far": chosen.far,
    }
