"""A person's own C file: predict a schedule, rank many, or measure them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import Config
from agent.errors import CompilerError, MeasureError
from agent.loopnest.cfront import load_program
from agent.loopnest.legality import Dependences, transform
from agent.loopnest.program import Program
from agent.loopnest.schedule import Schedule, parse_schedule
from agent.state import read_state

if TYPE_CHECKING:
    from agent.measure.timing import Measurement, Timing
    from agent.predictor import Prediction, Predictor

MAX_CANDIDATES = 10_000
MAX_SCHEDULES = 64
_HINTS = {
    "crashed": "It ran with floats from 0.5 to 1.5 and whole numbers from 1 to 100 in its arrays, "
    "0.75 or 3 in its scalars: look for divisions by zero.",
    "wrong-result": "The schedule is legal: look for overflow, undefined behaviour, or a fault of "
    "the compiler (try another with --compiler).",
    "timeout": "An execution may take 10 s at most: give smaller sizes.",
    "out-of-memory": "The arrays must fit in memory: give smaller sizes.",
}


@dataclass(frozen=True)
class Request:
    """Which program, as the person named it.

    Attributes:
        path: the C file.
        function: None where only one function has a region.
        sizes: a value for each size parameter.
        cflags: flags for ``cc -E``; None: the file is read as it is.
    """

    path: Path
    function: str | None
    sizes: Mapping[str, int]
    cflags: tuple[str, ...] | None


def predict(config: Config, request: Request, schedule: str) -> dict[str, Any]:
    """Predict one schedule: speed-up and seconds with 80 % intervals, and what they rest on.

    Raises:
        SourceError, ScheduleError, CompilerError, BundleError, StateError: a part is unusable.
    """
    parsed = parse_schedule(schedule)
    program = _load(config, request)
    variant = transform(program, parsed)
    predictor = _predictor(config)
    found = predictor.predict(program, [variant])
    return {**_entry(parsed, found[0]), **_basis(program, predictor, found)}


def rank(config: Config, request: Request, candidates: int, top: int | None) -> dict[str, Any]:
    """Predict up to ``candidates`` legal schedules; ``{"ranking": [...]}`` best first.

    Raises:
        SourceError, ScheduleError, CompilerError, BundleError, StateError: a part is unusable.
    """
    from agent.loopnest.candidates import candidate_schedules

    started = time.monotonic()
    program = _load(config, request)
    drawn = candidate_schedules(program, candidates)
    predictor = _predictor(config)
    found = predictor.predict(program, [variant for _, variant in drawn])
    order = sorted(range(len(drawn)), key=lambda n: -found[n].speedup)
    shown = order if top is None else order[:top]
    return {
        "ranking": [_entry(drawn[n][0], found[n]) for n in shown],
        "candidates": len(drawn),
        "elapsed_s": time.monotonic() - started,
        **_basis(program, predictor, [found[n] for n in shown]),
    }


def measure(
    config: Config, request: Request, schedules: Sequence[str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Time schedules against the program as written; ``{"measurements": [...]}`` as asked.

    Call with the lock held: two measurements at once disturb each other.

    Raises:
        SourceError, ScheduleError, CompilerError, StateError: a part is unusable.
        MeasureError: none of them gave a usable timing.
    """
    from agent.measure.runner import Runner
    from agent.measure.stats import noise_floor
    from agent.measure.toolchain import find_toolchain

    parsed = [parse_schedule(text) for text in schedules]
    program = _load(config, request)
    dependences = Dependences.of(program)
    variants = [transform(program, s, dependences) for s in parsed]
    runner = Runner(find_toolchain(config.compiler), config.state_dir / "cache")
    tell(f"compiling {len(variants) + 1} program(s)")
    runner.prepare([program, *variants])
    tell(f"measuring {program.name}")
    found = runner.measure(program, variants)
    _refuse_nothing(found)
    floor = noise_floor([found.noise])
    return {
        "program": _program(program),
        "base": {"outcome": found.base.outcome, **_seconds(found.base)},
        "measurements": [_measured(s, t) for s, t in zip(parsed, found.timings, strict=True)],
        "noise_floor": asdict(floor) if floor else None,
        "warnings": [{"code": n.kind, "kernels": 1, "worst": n.value} for n in found.notices],
        "elapsed_s": found.elapsed_s,
    }


def _load(config: Config, request: Request) -> Program:
    return load_program(
        request.path,
        function=request.function,
        sizes=request.sizes,
        cflags=request.cflags,
        compiler=config.compiler,
    )


def _predictor(config: Config) -> Predictor:
    from agent.experiment import fingerprint
    from agent.measure.machine import read_machine
    from agent.predictor import load_predictor

    with read_state(config.state_dir) as state:
        stored = state.latest()
    return load_predictor(stored, config.bundle, fingerprint(read_machine()))


def _entry(schedule: Schedule, found: Prediction) -> dict[str, Any]:
    return {"schedule": str(schedule), **asdict(found)}


def _basis(program: Program, predictor: Predictor, found: Sequence[Prediction]) -> dict[str, Any]:
    """What predictions rest on, and what to bear in mind."""
    notes = [{"code": code, "message": words} for code, words in predictor.notes]
    if any(p.far for p in found):
        words = "this program is unlike everything timed in the calibration: expect larger errors"
        notes.append({"code": "far", "message": words})
    return {
        "program": _program(program),
        "bundle": {"name": predictor.bundle.name, "version": predictor.bundle.version},
        "calibration_id": predictor.calibration_id,
        "notes": notes,
    }


def _program(program: Program) -> dict[str, Any]:
    return {"name": program.name, "bytes": program.bytes}


def _refuse_nothing(found: Measurement) -> None:
    """Nothing usable is an error, in the words of the first failure."""
    if any(t.ok for t in found.timings):
        return
    first = found.timings[0]  # says so where the program as written failed
    if first.outcome == "compile-failed":
        raise CompilerError(first.detail, "Try another compiler with --compiler.")
    raise MeasureError(
        f"nothing usable was measured ({first.outcome}): {first.detail}",
        _HINTS[first.outcome],
    )


def _seconds(timing: Timing) -> dict[str, float | None]:
    plain = timing.to_json()
    names = ("seconds", "seconds_low", "seconds_high")
    return {name: plain[name] for name in names}  # type: ignore[misc]  # floats or None


def _measured(schedule: Schedule, timing: Timing) -> dict[str, Any]:
    import math

    logs = (timing.log_speedup, timing.low, timing.high)
    speedup, low, high = (math.exp(x) if timing.ok else None for x in logs)
    return {
        "schedule": str(schedule),
        "outcome": timing.outcome,
        "detail": timing.detail,
        "speedup": speedup,
        "low": low,
        "high": high,
        **_seconds(timing),
        "rounds": timing.rounds,
        "max_error": timing.to_json()["max_error"],
    }
