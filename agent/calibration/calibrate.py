"""The main job: from the fixed set to a head for this machine, top to bottom.

    plan -> transform and emit -> compile -> measure, kernel by kernel, each journalled at once
         -> some kernels again, in new processes: what a repeat differs by
         -> features -> embed -> fit and choose -> score on kernels not used in the fit -> save

The old calibration stays in force until the new one is whole, and after that if the new one is not
shown to be as good (``agent/calibration/verdict.py``). A run that was killed is taken up where it
stopped; a refit starts from the timings that are stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent import __version__
from agent.bundle.bundle import load_bundle
from agent.bundle.installed import BundleInForce, bundle_in_force
from agent.calibration import plan
from agent.calibration.calibration import (
    Calibration,
    CalibrationVerdict,
    CalibrationWarning,
    MachineFacts,
    StoredCalibration,
    ToolchainFacts,
    calibration_in_force,
    mark_of,
)
from agent.calibration.collect import Collected, Pace, collect
from agent.calibration.evidence import Evidence, stored_evidence
from agent.calibration.facts import facts_known
from agent.calibration.fit import fit
from agent.calibration.journal import Journal, newest
from agent.calibration.labels import judge
from agent.calibration.plan import Group
from agent.calibration.predictor import prior_of
from agent.calibration.repeat import drift, repeat_noise, timed_again
from agent.calibration.verdict import calibration_verdict, is_comparable, judge_calibration
from agent.clock import stamp
from agent.errors import CompilerError, StoppedError
from agent.kernels.fixed_set import fixed_variants, kernels
from agent.loopnest.schedules.schedule import ORIGINAL
from agent.measure.machine import Machine, read_machine
from agent.measure.quiet import gives_way, never
from agent.measure.resolve import runner_for_set, toolchain_for_set
from agent.measure.runner import OpenSetRunner, Runner
from agent.measure.toolchain import Toolchain
from agent.measure.worker import PROTOCOL
from agent.progress import Progress, Stopwatch, Tell
from agent.state.state import Notes, Run, State, StoredRecord, StoredTiming, TimingKey

if TYPE_CHECKING:
    from agent.settings.config import Config

LEAST_WAITED_S = 3.0  # that are worth a word
RESUME_S = 24 * 3600.0  # a run that was interrupted longer ago is begun anew


@dataclass(frozen=True)
class Plan:
    """What is to be timed, and with what.

    Attributes:
        machine: this one.
        toolchain: that its programs are compiled with.
        groups: kernel by kernel; ``planned``: versions of them all, also of those left out.
        left_out: kernels that cannot be timed here.
    """

    machine: Machine
    toolchain: Toolchain
    groups: tuple[Group, ...]
    planned: int
    left_out: tuple[CalibrationWarning, ...]


def calibrate(
    config: Config,
    state: State,
    tell: Tell,
    *,
    refit: bool = False,
    polite: bool = False,
    open_runner: OpenSetRunner = runner_for_set,
) -> StoredCalibration:
    """Calibrate this machine, and put the result in force if it can be believed.

    Args:
        config: budget, bundle and compiler.
        state: opened for writing, with the lock held.
        tell: shown the progress.
        refit: use the timings of the calibration in force (else the newest); measure nothing.
        polite: give way if other work begins on this machine meanwhile.
        open_runner: gives what times the fixed set.

    Returns:
        The calibration, with its number and when it was made.

    Raises:
        BundleError, CompilerError, StateError: a part cannot be used.
        MeasureError: nothing usable was measured.
        StoppedError: interrupted; timings made so far are kept.
        NotNowError: gave way; timings made so far are kept.
    """
    watch, machine = Stopwatch(), read_machine()
    found = _bundle(config, state)
    prior_of(found.bundle)  # refused before anything is measured, not after
    if refit:
        evidence = stored_evidence(state, machine)
    else:
        tell(Progress("planning", 0, 1, "looking for the compiler, choosing what to time"))
        between = gives_way(config, len(machine.cpus)) if polite else never
        pace = Pace(config.budget_s, watch, tell, between)
        planned = _plan(config, machine)
        runner = open_runner(config, planned.toolchain, machine)
        evidence = _timed(planned, runner, state, pace)
    tell(Progress("fitting", 0, 1, "fitting the model to this machine"))
    calibration = finished(fit(evidence, found.bundle), evidence.run, watch, refit=refit)
    passed_over = tuple(CalibrationWarning(code, why=why) for code, why in found.notes)
    calibration = replace(calibration, warnings=(*calibration.warnings, *passed_over))
    calibration = replace(calibration, verdict=_verdict(calibration, state))
    stored = keep(state, evidence.run, calibration)
    tell(Progress("fitting", 1, 1))
    return stored


def _verdict(new: Calibration, state: State) -> CalibrationVerdict:
    """Beside the bundle alone and the calibration in force, where that is of this machine."""
    present = calibration_in_force(state)
    comparable = present is not None and is_comparable(new, present.body)
    verdict = judge_calibration(new, present if comparable else None)
    return verdict if verdict.believed or not present else replace(verdict, stays=present.id)


def keep(state: State, run: Run, calibration: Calibration, events: Notes = ()) -> StoredCalibration:
    """Store a calibration with events of bundles; in force only if it can be believed."""
    created, body = time.time(), calibration.to_json()
    number = state.finish(
        run, body, created, events, in_force=calibration_verdict(calibration).believed
    )
    return StoredRecord(number, created, calibration)


def finished(fitted: Calibration, run: Run, watch: Stopwatch, *, refit: bool) -> Calibration:
    """The calibration as it is stored: what was fitted, when its timings were made, how long."""
    return replace(
        fitted,
        elapsed_s=watch.elapsed_s,
        elapsed=watch.summary(),
        refit=refit,
        measured_at=stamp(run.started_at),
    )


def _bundle(config: Config, state: State) -> BundleInForce:
    """The bundle to fit on: a person's own, or the one in force with what to know about it."""
    found = bundle_in_force(state, config.state_dir)
    return BundleInForce(load_bundle(config.bundle)) if config.bundle else found


def _plan(config: Config, machine: Machine) -> Plan:
    """The prefix of the fixed set that the budget allows."""
    toolchain = toolchain_for_set(config.compiler, machine)
    chosen = plan.prefix_for(fixed_variants(), config.budget_s, len(machine.cpus))
    groups, left_out = plan.groups_of(chosen)
    return Plan(machine, toolchain, tuple(groups), len(chosen), tuple(left_out))


def _timed(plan: Plan, runner: Runner, state: State, pace: Pace) -> Evidence:
    """Time what an interrupted run has not; journal each kernel at once."""
    last = calibration_in_force(state)
    mark = mark_of(plan.machine, last.body.machine if last else None)
    run, known = _run_to_use(state, mark, plan.toolchain, plan.planned)
    journal = Journal(state, run, mark, plan.toolchain.identity)
    missing = [m for g in plan.groups if (m := journal.missing(g, known)) is not None]
    with _keeping_timings(state, run):
        with pace.watch.phase("compiling"):
            _compile(runner, missing, pace.tell)
        with pace.watch.phase("measuring"):
            collected = collect(runner, missing, journal, pace)
            stored = _stored(plan, journal)
            first, _ = judge(stored, {k.name: k for k in kernels()})
            pairs = timed_again(runner, plan.groups, first, pace)
    reused = _versions(plan.groups) - _versions(missing)
    evidence = _evidence(plan, journal, stored, reused)
    warnings = (*evidence.warnings, *drift(pairs), *_warnings(collected, reused))
    return replace(evidence, warnings=warnings, repeat_noise=repeat_noise(pairs))


def _versions(groups: Sequence[Group]) -> int:
    return sum(len(g.variants) for g in groups)


def _stored(plan: Plan, journal: Journal) -> tuple[StoredTiming, ...]:
    """All timings of the plan that are there now."""
    keys = journal.keys(plan.groups)
    known = newest(journal.state.timings(journal.run)).items()
    return tuple(timing for key, timing in known if key in keys)


def _evidence(
    plan: Plan, journal: Journal, stored: tuple[StoredTiming, ...], reused: int
) -> Evidence:
    """What was timed of a plan, and what it rests on."""
    toolchain = plan.toolchain
    return Evidence(
        run=journal.run,
        stored=stored,
        planned=plan.planned,
        reused=reused,
        machine=MachineFacts.of(plan.machine, journal.machine),
        toolchain=ToolchainFacts.of(toolchain),
        facts=facts_known(
            plan.machine, _vector_bytes(toolchain), toolchain.version, toolchain.flags
        ),
        warnings=plan.left_out,
    )


def _warnings(collected: Collected, reused: int) -> Iterator[CalibrationWarning]:
    if collected.waited_s > LEAST_WAITED_S:
        yield CalibrationWarning("waited", worst=collected.waited_s)
    if collected.skipped:
        yield CalibrationWarning("out-of-time", variants=collected.skipped)
    if reused:
        yield CalibrationWarning("resumed", variants=reused)


def _vector_bytes(toolchain: Toolchain) -> int:
    """Widest vectors of its code; 0 where this compiler does not tell what it predefines."""
    try:
        return toolchain.vector_bytes()
    except CompilerError:
        return 0


def _run_to_use(
    state: State, mark: str, toolchain: Toolchain, planned: int
) -> tuple[Run, dict[TimingKey, StoredTiming]]:
    """The run that was interrupted, with its timings, if it is recent; else a new one."""
    parts = (mark, toolchain.identity[:32], plan.set_identity(fixed_variants()))
    identity = ":".join((*parts, PROTOCOL, __version__))
    run = state.open_run()
    now = time.time()
    if run is None or run.identity != identity:
        return state.begin_run(identity, planned, now), {}
    timings = state.timings(run)
    last = max((t.measured_at for t in timings), default=run.started_at)
    if not 0 <= now - last <= RESUME_S:
        return state.begin_run(identity, planned, now), {}
    return run, newest(timings)


def _compile(runner: Runner, groups: Sequence[Group], tell: Tell) -> None:
    programs = [p for g in groups for p in (g.base, *g.variants)]
    what = runner.toolchain.preparing
    runner.prepare(programs, progress=lambda d, t: tell(Progress("compiling", d, t, what)))


@contextmanager
def _keeping_timings(state: State, run: Run) -> Iterator[None]:
    """An interruption says what is kept."""
    try:
        yield
    except KeyboardInterrupt as error:
        kept = sum(t.key.schedule != ORIGINAL for t in state.timings(run))
        raise StoppedError(
            f"interrupted; {kept} of {run.planned} timings are kept, "
            "and the calibration in force is unchanged",
            "Run `agent calibrate` again within a day to go on from here.",
        ) from error
