"""A person's own C file: predict a schedule, rank many, or measure them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.advise.splice import SourceRegion
from agent.errors import CompilerError, InputError, MeasureError
from agent.loopnest.frontend.parse import parse
from agent.loopnest.lowering.reader import read_region, sizes_wanted
from agent.loopnest.schedules.legality import Dependences, transform
from agent.loopnest.schedules.schedule import Schedule, parse_schedule
from agent.settings.config import Config
from agent.state import typed
from agent.state.state import read_state

if TYPE_CHECKING:
    from agent.advise.anchoring import Anchored
    from agent.advise.own_function import OwnTimes
    from agent.arrays import Doubles
    from agent.calibration.calibration import StoredCalibration
    from agent.calibration.predictor import Prediction, Predictor
    from agent.loopnest.lowering.lower import Reading
    from agent.loopnest.program import Program
    from agent.measure.runner import OpenRunner
    from agent.measure.timing import MeasureEvent, Measurement, Timing
    from agent.measure.toolchain import Toolchain

_log = logging.getLogger(__name__)  # shown by `-v`
MAX_SCHEDULES = 64
FIRST_LINE_S, NEXT_LINE_S = 0.8, 2.0  # when progress is told, at most so often
RARE = frozenset(("restarted", "arbitrating"))  # always told
_STEPS = {
    "compiled": "compiled {done} of {total} programs",
    "checked": "checked the results of {done} of {total} programs",
    "round": "round {done} of {total}",
    "restarted": "a program failed: going on without it",
    "arbitrating": "a result is wrong: comparing with the program compiled without optimisation",
}
_INPUTS = "It ran with floats from 0.5 to 2.5 and whole numbers from 1 to 100 in its arrays"
_ARITHMETIC = ("SIGFPE", "SIGILL", "SIGTRAP")  # gcc traps where it sees the division
_DIVIDED = f"{_INPUTS}: look for divisions by zero."
_HINTS = {
    "crashed": f"{_INPUTS}: look for accesses beyond the end of one.",
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
        function: None where only one function has loops.
        sizes: a value for each size parameter.
        cflags: flags that change how the file is read.
        nest: which of several loop nests, from 1.
        other: the value of every size that is not given; None: each must be.
    """

    path: Path
    function: str | None
    sizes: Mapping[str, int]
    cflags: tuple[str, ...] | None
    nest: int | None = None
    other: int | None = None


@dataclass(frozen=True)
class Predicted:
    """One schedule predicted: ``answer`` is what `agent predict` says, and this what of."""

    reading: Reading
    predictor: Predictor
    variant: Program
    prediction: Prediction
    answer: dict[str, object]


def predict(
    config: Config, request: Request, schedule: str, open_runner: OpenRunner | None = None
) -> Predicted:
    """Predict one schedule: speed-up and seconds with 80 % intervals, and what they rest on.

    ``open_runner`` gives what times the program as written and the function it is in, once; None:
    nothing is run.

    Raises:
        SourceError, ScheduleError, CompilerError, BundleError, StateError: a part is unusable.
    """
    from agent.advise.anchoring import anchored
    from agent.calibration.predictor import impossible
    from agent.loopnest.features.vector import is_guess

    parsed = parse_schedule(schedule)
    source = read_source(config, request)
    reading = source.reading
    program = reading.program
    variant = transform(program, parsed)
    predictor = predictor_of(config)
    timed = anchored(config, source, request, open_runner)
    found = predictor.predict(program, [variant], timed.anchor)
    if not found[0].possible:
        raise impossible(predictor.bundle, f"{program.name} becomes {found[0].speedup:.1e} as fast")
    notes = _notes(predictor, timed, found, guesses=int(is_guess(variant, predictor.bundle.taught)))
    answer = {**_entry(parsed, found[0], timed.own), **_basis(reading, predictor, timed, notes)}
    return Predicted(reading, predictor, variant, found[0], answer)


def rank(
    config: Config,
    request: Request,
    candidates: int,
    top: int | None,
    open_runner: OpenRunner | None = None,
    *,
    with_map: bool = False,
) -> dict[str, object]:
    """Predict up to ``candidates`` legal schedules; ``{"ranking": [...]}`` best first.

    ``open_runner``: as for ``predict``. ``with_map``: also where the program is among the kernels
    of the fixed set.

    Raises:
        SourceError, ScheduleError, CompilerError, BundleError, StateError: a part is unusable.
    """
    from agent.advise.anchoring import anchored
    from agent.advise.causes import shares
    from agent.loopnest.features.vector import is_guess
    from agent.loopnest.schedules.candidates import candidate_schedules

    started = time.monotonic()
    source = read_source(config, request)
    program = source.reading.program
    drawn = candidate_schedules(program, candidates)
    _log.debug("found %d legal schedules", len(drawn))
    predictor = predictor_of(config)
    timed = anchored(config, source, request, open_runner)
    variants = [variant for _, variant in drawn]
    seen = predictor.see(program, variants)
    found = predictor.predict(program, variants, timed.anchor, seen)
    likely = (n for n in range(len(drawn)) if found[n].possible)
    order = sorted(likely, key=lambda n: -found[n].speedup)
    shown = order if top is None else order[:top]
    notes = _notes(
        predictor,
        timed,
        [found[n] for n in shown],
        impossible=len(drawn) - len(order),
        guesses=sum(is_guess(drawn[n][1], predictor.bundle.taught) for n in shown),
    )
    return {
        "ranking": _ranking(
            [(drawn[n][0], found[n]) for n in shown],
            _tied(predictor, seen.vectors[1:][shown]),
            timed.own,
        ),
        "causes": [
            s.to_json()
            for n in order[:1]
            for s in shares(predictor, program, drawn[n][1], math.log(found[n].speedup))
        ],
        "candidates": len(drawn),
        "elapsed_s": time.monotonic() - started,
        **(program_map(predictor, program) if with_map else {}),
        **_basis(source.reading, predictor, timed, notes),
    }


def _ranking(
    ranked: Sequence[tuple[Schedule, Prediction]], tied: Sequence[bool], own: OwnTimes | None
) -> list[dict[str, object]]:
    return [
        {**_entry(schedule, found, own), "tied": same}
        for (schedule, found), same in zip(ranked, tied, strict=True)
    ]


def _tied(predictor: Predictor, vectors: Doubles) -> list[bool]:
    """Which versions may be as fast as the first: one in ten would be called slower wrongly.

    ``vectors``: [n, E] of them.
    """
    from agent.model.posterior import Z80

    if len(vectors) < 2:
        return [True] * len(vectors)
    gain, sd = predictor.gain(vectors)
    return [True, *map(bool, gain + Z80 * sd >= 0)]


def program_map(predictor: Predictor, program: Program) -> dict[str, object]:
    """Where a program is among the kernels of the fixed set, as answers hold it."""
    from agent.advise.neighbours import map_of

    return {"map": map_of(predictor, program).to_json()}


def measure(
    config: Config,
    request: Request,
    schedules: Sequence[str],
    tell: Callable[[str], None],
    open_runner: OpenRunner,
) -> dict[str, object]:
    """Time schedules against the program as written; ``{"measurements": [...]}`` as asked.

    Call with the lock held: two measurements at once disturb each other. ``config.budget_s`` is
    kept but for the least number of rounds, which are always run. ``tell`` is given lines of
    progress; ``open_runner`` gives what times the program.

    Raises:
        InputError: more than ``MAX_SCHEDULES``.
        SourceError, ScheduleError, CompilerError, StateError: a part is unusable.
        MeasureError: none of them gave a usable timing.
    """
    from agent.advise.own_function import own_base_or_why
    from agent.measure.stats import noise_floor

    parsed = _parse_all(schedules)
    source = read_source(config, request)
    program = source.reading.program
    dependences = Dependences.of(program)
    variants = [transform(program, s, dependences) for s in parsed]
    runner = open_runner(config)
    _log.debug("compiling with %s", runner.toolchain.version)
    tell(f"measuring {program.name}")
    own, note = own_base_or_why(source, request.path, runner.toolchain, request.cflags)
    lines = Lines(tell)
    found = runner.measure(program, variants, on_event=lines.event, budget_s=config.budget_s)
    refuse_nothing(found, runner.toolchain)
    floor = noise_floor([found.noise])
    return {
        "program": described(source.reading),
        "own": own.to_json() if own else None,
        **_timed(found, parsed, own),
        "wins": _wins(parsed, found.timings),
        "own_wins": _wins(parsed, found.timings, own) if own else None,
        "notes": [note] if note else [],
        "noise_floor": asdict(floor) if floor else None,
        "warnings": _warnings(found, config.budget_s),
        "elapsed_s": found.elapsed_s,
    }


def _parse_all(schedules: Sequence[str]) -> list[Schedule]:
    if len(schedules) > MAX_SCHEDULES:
        raise InputError(
            f"{len(schedules)} schedules are too many to measure at once (at most {MAX_SCHEDULES})",
            "Measure them in parts, or ask `agent rank` which of them are worth it.",
        )
    return [parse_schedule(text) for text in schedules]


def _timed(
    found: Measurement, schedules: Sequence[Schedule], own: OwnTimes | None
) -> dict[str, object]:
    """The program as written and its versions, with what single rounds say of each."""
    from agent.advise.rounds import round_speedups
    from agent.measure.session import FIRST_VARIANT, TWIN

    base = {"outcome": found.base.outcome, **_seconds(found.base)}
    versions = enumerate(zip(schedules, found.timings, strict=True), FIRST_VARIANT)
    return {
        "base": {**base, "round_speedups": round_speedups(found, TWIN)},
        "measurements": [
            {**measured(schedule, timing, own), "round_speedups": round_speedups(found, n)}
            for n, (schedule, timing) in versions
        ],
    }


@dataclass
class Lines:
    """Events as lines for people, not too many of them."""

    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.clock() + FIRST_LINE_S

    def event(self, event: MeasureEvent) -> None:
        """Tell of ``event``, if it is rare or the last line is some time ago."""
        if event.kind in RARE or self.clock() >= self._next:
            self.tell(_step(event.kind, event.done, event.total))
            self._next = self.clock() + NEXT_LINE_S


def _step(kind: str, done: int, total: int) -> str:
    """A step of measuring one program, while it goes on."""
    return _STEPS.get(kind, "{done} of {total}").format(done=done, total=total)


def _warnings(found: Measurement, budget_s: float) -> list[dict[str, object]]:
    told = [{"code": n.kind, "kernels": 1, "worst": n.value} for n in found.notices]
    if found.elapsed_s > budget_s:
        told.append({"code": "over-budget", "kernels": 1, "worst": found.elapsed_s})
    return told


def read_source(config: Config, request: Request) -> SourceRegion:
    """The file of a request, and its loops; SourceError where they are not read."""
    unit = parse(request.path, request.cflags or (), config.compiler)
    sizes = dict(request.sizes)
    if request.other is not None and not unit.errors:
        wanted = sizes_wanted(unit, request.function, request.nest)
        sizes = {**dict.fromkeys(wanted, request.other), **sizes}
    reading = read_region(unit, request.function, sizes, request.nest)
    first, last = reading.part.first_line, reading.part.last_line
    _log.debug("read %s: %s, lines %d to %d", request.path, reading.program.name, first, last)
    return SourceRegion(unit.text, unit, reading, sizes)


def predictor_of(config: Config) -> Predictor:
    """What predicts here: the calibration in force, else the bundle alone.

    Raises:
        BundleError, StateError: there is nothing usable.
    """
    from agent.bundle.installed import bundle_for
    from agent.calibration.calibration import calibration_in_force, newest_calibration
    from agent.calibration.predictor import load_predictor
    from agent.measure.machine import read_machine

    with read_state(config.state_dir) as state:
        stored = calibration_in_force(state)
        kept = newest_calibration(state) if stored is None else None
        found = bundle_for(config.bundle, state, config.state_dir)
    predictor = load_predictor(stored, found.bundle, read_machine())
    number = f"calibration {stored.id}" if stored else "no calibration"
    _log.debug("predicting with %s of %s", number, found.bundle.name)
    return replace(predictor, notes=(*found.notes, *predictor.notes, *_verdict_notes(kept)))


def _verdict_notes(kept: StoredCalibration | None) -> Iterator[tuple[str, str]]:
    """Why the calibration that there is does not predict."""
    from agent.calibration.verdict import calibration_verdict

    if kept is not None:
        reason = calibration_verdict(kept.body).reason
        yield "kept", f"calibration {kept.id} is not to be used: {reason}"


def _entry(schedule: Schedule, found: Prediction, own: OwnTimes | None) -> dict[str, object]:
    shown = {name: value for name, value in asdict(found).items() if name != "possible"}
    logs = (math.log(x) for x in (found.speedup, found.low, found.high))
    return {"schedule": str(schedule), **shown, **_over_own(own.over(*logs) if own else None)}


def _over_own(logs: tuple[float, float, float] | None) -> dict[str, float | None]:
    """A speed-up over the person's function and its interval, as answers hold it; None: unknown."""
    speedup, low, high = (None, None, None) if logs is None else map(math.exp, logs)
    return {"own_speedup": speedup, "own_low": low, "own_high": high}


def _basis(
    reading: Reading, predictor: Predictor, timed: Anchored, notes: Iterable[tuple[str, str]]
) -> dict[str, object]:
    """What predictions rest on, and what to bear in mind."""
    verdict = predictor.verdict
    return {
        "program": described(reading),
        "bundle": {"name": predictor.bundle.name, "version": predictor.bundle.version},
        "calibration_id": predictor.calibration_id,
        "verdict": typed.to_json(verdict) if verdict else None,
        **timed.to_json(),
        "notes": [{"code": code, "message": words} for code, words in notes],
    }


def _notes(
    predictor: Predictor,
    timed: Anchored,
    found: Sequence[Prediction],
    *,
    impossible: int = 0,
    guesses: int = 0,
) -> Iterator[tuple[str, str]]:
    """Codes with words: how many predictions were ``impossible``, how many are ``guesses``."""
    verdict = predictor.verdict
    if verdict is not None and verdict.level != "good":
        yield "verdict", f"the calibration is {verdict.words}"
    yield from predictor.notes
    if why := timed.written.why_not:
        yield "not-timed", f"the program as written was not timed ({why}): predicted without that"
    if note := timed.note:
        yield "baseline", note
    if impossible:
        words = f"{impossible} of the predictions were out of bounds (impossible) and are left out"
        yield "out-of-bounds", words
    if guesses:
        number = "1 prediction is" if guesses == 1 else f"{guesses} predictions are"
        words = f"{number} of steps that the bundle was not taught: a guess, to be timed"
        yield "untaught", words
    if any(p.far for p in found):
        words = (
            "this program is unlike everything timed in the calibration: its intervals are wider"
        )
        yield "far", words


def described(reading: Reading) -> dict[str, object]:
    """Which program it is: its region by lines, and what is taken for granted."""
    return {
        "name": reading.program.name,
        "bytes": reading.program.bytes,
        "lines": [reading.part.first_line, reading.part.last_line],
        "assumes": list(reading.assumed),
    }


def refuse_nothing(found: Measurement, toolchain: Toolchain) -> None:
    """Nothing usable is an error, in the words of the first failure."""
    if any(t.ok for t in found.timings):
        return
    if found.base.outcome == "wrong-result":
        raise MeasureError(
            f"{found.base.detail}: {toolchain.compiler}, {toolchain.version}",
            "Try a newer release of this compiler, or another one with --compiler. (If whole "
            "numbers overflow in the program, C leaves its result undefined.)",
        )
    first = (*found.timings, found.base)[0]  # says so where the program as written failed
    if first.outcome == "compile-failed":
        raise CompilerError(first.detail, "Try another compiler with --compiler.")
    raise MeasureError(
        f"nothing usable was measured ({first.outcome}): {first.detail}", _hint(first)
    )


def _hint(failed: Timing) -> str:
    divided = failed.outcome == "crashed" and any(s in failed.detail for s in _ARITHMETIC)
    return _DIVIDED if divided else _HINTS[failed.outcome]


def _seconds(timing: Timing) -> dict[str, float | None]:
    plain = timing.to_json()
    names = ("seconds", "seconds_low", "seconds_high")
    return {name: plain[name] for name in names}  # type: ignore[misc]  # floats or None


def _wins(
    schedules: Sequence[Schedule], timings: Sequence[Timing], own: OwnTimes | None = None
) -> str | None:
    """The fastest of those that would be faster than the program as written another time too."""
    from agent.advise.own_function import has_gained

    both = zip(schedules, timings, strict=True)
    faster = [(t.log_speedup, str(s)) for s, t in both if has_gained(t, own)]
    return max(faster)[1] if faster else None


def measured(schedule: Schedule, timing: Timing, own: OwnTimes | None = None) -> dict[str, object]:
    """A timing of a schedule, as answers hold it; over the person's function as well (``own``)."""
    from agent.measure.shots import Sharing

    inferred = timing.sharing == Sharing.INFERRED
    logs = (timing.log_speedup, timing.low, timing.high)
    speedup, low, high = (math.exp(x) if timing.ok else None for x in logs)
    over = own.over(*logs) if own and timing.ok else None
    return {
        "schedule": str(schedule),
        "outcome": timing.outcome,
        "detail": timing.detail,
        "speedup": speedup,
        "low": low,
        "high": high,
        **_over_own(over),
        **_seconds(timing),
        "rounds": timing.rounds,
        "sharing": Sharing.UNDISTURBED if inferred else timing.sharing,
        "inferred": inferred,
        "different": timing.different,
        "disturbed": timing.disturbed,
        "max_error": timing.to_json()["max_error"],
    }
