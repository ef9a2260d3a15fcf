"""The main job: from the fixed set to a head for this machine, top to bottom.

    plan -> transform and emit -> compile -> measure, kernel by kernel, each journalled at once
         -> features -> embed -> fit and choose -> score on kernels not used in the fit -> save

The old calibration stays in force until the new one is whole. A run that was killed is taken up
where it stopped; a refit starts from the timings that are stored.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.calibration import experiment
from agent.calibration.collect import Journal, collect
from agent.calibration.experiment import Failure, Group, Sample
from agent.clock import stamp
from agent.errors import AgentError, CompilerError, MeasureError, StoppedError
from agent.kernels.fixed_set import Kernel, PlannedVariant, fixed_variants, kernels, load_kernel
from agent.loopnest.features.nest import lower
from agent.loopnest.program import Program
from agent.loopnest.schedules.legality import Dependences, transform
from agent.loopnest.schedules.schedule import ORIGINAL, parse_schedule
from agent.measure.machine import Machine, fingerprint, read_machine
from agent.measure.quiet import gives_way, never
from agent.measure.resolve import toolchain_for_set
from agent.measure.runner import Runner
from agent.measure.stats import noise_floor
from agent.measure.toolchain import Toolchain, toolchain_json
from agent.measure.worker import PROTOCOL
from agent.measure.worker_runner import WorkerRunner
from agent.progress import Progress, Stopwatch, Tell
from agent.settings.config import Config
from agent.state.state import Run, State, StoredTiming, TimingKey

if TYPE_CHECKING:
    from agent.arrays import Doubles
    from agent.bundle.bundle import Bundle
    from agent.model.observations import Observations
    from agent.model.select import Selection

SEED = 0


@dataclass(frozen=True)
class Evidence:
    """All that was timed for one calibration, and where it came from.

    ``facts``: of machine and toolchain, by name, for the bundle's prior.
    """

    stored: tuple[StoredTiming, ...]
    planned: int
    toolchain: dict[str, Any]
    facts: dict[str, float | None]
    reused: int
    warnings: tuple[dict[str, Any], ...]


def calibrate(
    config: Config, state: State, tell: Tell, *, refit: bool = False, polite: bool = False
) -> dict[str, Any]:
    """Calibrate this machine and put the result in force.

    Args:
        config: budget, bundle and compiler.
        state: opened for writing, with the lock held.
        tell: shown the progress.
        refit: use the stored timings of the newest calibration; measure nothing.
        polite: give way if other work begins on this machine meanwhile.

    Returns:
        The calibration as plain data (docs/reference/schemas/calibrate.json), with its id.

    Raises:
        BundleError, CompilerError, StateError: a part cannot be used.
        MeasureError: nothing usable was measured.
        StoppedError: interrupted; timings made so far are kept.
        NotNowError: gave way; timings made so far are kept.
    """
    from agent.bundle.bundle import load_bundle
    from agent.bundle.installed import bundle_in_force
    from agent.calibration.predictor import prior_of

    watch, machine = Stopwatch(), read_machine()
    found = bundle_in_force(state, config.state_dir)
    bundle = load_bundle(config.bundle) if config.bundle else found.bundle
    prior_of(bundle)  # refused before anything is measured, not after
    if refit:
        run, evidence = stored_evidence(state, machine)
    else:
        run, evidence = _measured(config, state, machine, watch, tell, polite=polite)
    tell(Progress("fitting", 0, 1, "fitting the model to this machine"))
    body = calibration_body(fit(evidence, bundle, machine), run, watch, refit=refit)
    if not config.bundle:
        body["warnings"] += [{"code": code, "why": why} for code, why in found.notes]
    created = time.time()
    number = state.finish(run, body, created)
    tell(Progress("fitting", 1, 1))
    return {**body, "calibration_id": number, "created_at": stamp(created)}


def calibration_body(fitted: Fitted, run: Run, watch: Stopwatch, *, refit: bool) -> dict[str, Any]:
    """The calibration as it is stored: what was fitted, when its timings were made, how long."""
    times = {"elapsed_s": watch.elapsed_s, "elapsed": watch.summary()}
    return {**fitted.body, **times, "refit": refit, "measured_at": stamp(run.started_at)}


def _measured(
    config: Config, state: State, machine: Machine, watch: Stopwatch, tell: Tell, *, polite: bool
) -> tuple[Run, Evidence]:
    """Time the prefix of the fixed set that the budget allows; journal each kernel at once."""
    tell(Progress("planning", 0, 1, "looking for the compiler, choosing what to time"))
    toolchain = toolchain_for_set(config.compiler, machine)
    mark = fingerprint(machine)
    plan = experiment.prefix_for(fixed_variants(), config.budget_s, len(machine.cpus))
    run, known = _run_to_use(state, mark, toolchain, len(plan))
    groups, warnings = _groups(plan)
    journal = Journal(state, run, mark, toolchain.identity)
    missing = [m for g in groups if (m := journal.missing(g, known)) is not None]
    reused = sum(len(g.variants) for g in groups) - sum(len(g.variants) for g in missing)
    runner = WorkerRunner(toolchain, config.state_dir / "cache", machine=machine)
    with _keeping_timings(state, run), watch.phase("compiling"):
        _compile(runner, missing, tell)
    with _keeping_timings(state, run), watch.phase("measuring"):
        asked = gives_way(config, len(machine.cpus)) if polite else never
        collected = collect(runner, missing, journal, config.budget_s, watch, tell, asked)
    warnings += [{"code": n.kind, "worst": n.value} for n in collected.drifts]
    if collected.skipped:
        warnings.append({"code": "out-of-time", "variants": collected.skipped})
    if reused:
        warnings.append({"code": "resumed", "variants": reused})
    keys = {journal.key(g, s) for g in groups for s in (ORIGINAL, *map(str, g.schedules))}
    stored = tuple(t for k, t in experiment.newest(state.timings(run)).items() if k in keys)
    facts = experiment.facts_known(
        machine, _vector_bytes(toolchain), toolchain.version, toolchain.flags
    )
    told = toolchain_json(toolchain)
    return run, Evidence(stored, len(plan), told, facts, reused, tuple(warnings))


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
    parts = (mark, toolchain.identity[:32], experiment.set_identity(fixed_variants()))
    identity = ":".join((*parts, PROTOCOL, __version__))
    run = state.open_run()
    now = time.time()
    if run is None or run.identity != identity:
        return state.begin_run(identity, planned, now), {}
    timings = state.timings(run)
    last = max((t.measured_at for t in timings), default=run.started_at)
    if not 0 <= now - last <= experiment.RESUME_S:
        return state.begin_run(identity, planned, now), {}
    return run, experiment.newest(timings)


def _groups(plan: Sequence[PlannedVariant]) -> tuple[list[Group], list[dict[str, Any]]]:
    """The plan by kernel, in the order of first appearance, every variant transformed."""
    wanted: dict[str, list[PlannedVariant]] = {}
    for variant in plan:
        wanted.setdefault(variant.kernel.name, []).append(variant)
    groups, warnings = [], []
    for variants in wanted.values():
        kernel = variants[0].kernel
        try:
            groups.append(group_of(kernel, tuple(variants)))
        except AgentError as error:  # e.g. its arrays do not fit in this machine's memory
            warnings.append({"code": "kernel-skipped", "kernel": kernel.name, "why": error.message})
    return groups, warnings


def group_of(kernel: Kernel, variants: tuple[PlannedVariant, ...]) -> Group:
    """A kernel with these versions of it, transformed."""
    schedules = tuple(v.schedule for v in variants)
    programs = tuple(variant_program(kernel, str(s)) for s in schedules)
    return Group(kernel, load_kernel(kernel), schedules, programs, source_digest(kernel))


def source_digest(kernel: Kernel) -> str:
    """Digest of a kernel's C file."""
    return hashlib.sha256(kernel.path.read_bytes()).hexdigest()[:32]


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


def stored_evidence(state: State, machine: Machine) -> tuple[Run, Evidence]:
    """The timings of the newest calibration, for a refit; MeasureError if there are none."""
    run, last = state.finished_run(), state.latest()
    if run is None or last is None:
        hint = "Run `agent calibrate` without --refit first."
        raise MeasureError("there are no stored timings to refit from", hint)
    digests = {source_digest(k) for k in kernels()}
    mark = fingerprint(machine)
    timings = experiment.newest(state.timings(run)).values()
    fitting = tuple(t for t in timings if t.key.source in digests and t.key.machine == mark)
    if not fitting:
        hint = "The machine or the fixed set has changed: run `agent calibrate`."
        raise MeasureError("the stored timings are of another machine or fixed set", hint)
    count = sum(t.key.schedule != ORIGINAL for t in fitting)
    planned = int(last.body["timings"]["planned"])
    toolchain = dict(last.body["toolchain"])
    facts = last.body.get("facts") or _facts_then(machine, toolchain)
    return run, Evidence(fitting, planned, toolchain, facts, count, ())


def _facts_then(machine: Machine, toolchain: dict[str, Any]) -> dict[str, float | None]:
    """What is still known of a calibration by a version that did not note facts."""
    version, flags = str(toolchain.get("version", "")), tuple(toolchain.get("flags", ()))
    return experiment.facts_known(machine, 0, version, flags)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A calibration as plain data, with what its heads predicted of kernels they had not seen.

    Attributes:
        body: the calibration.
        observations: n labels, the same ones in the same order for every bundle.
        predicted: [n] each by a head that was fitted without that kernel.
    """

    body: dict[str, Any]
    observations: Observations
    predicted: Doubles


def fit(evidence: Evidence, bundle: Bundle, machine: Machine) -> Fitted:
    """The calibration that the evidence gives on a bundle."""
    from agent.calibration.predictor import prior_of
    from agent.model.select import choose_head

    samples, failures = experiment.judge(evidence.stored, {k.name: k for k in kernels()})
    usable = [s for s in samples if not s.base]
    if not usable:
        raise MeasureError(_why_nothing(failures), "See `agent kernels`, and try another compiler.")
    observations, vectors = embed_samples(samples, bundle)
    prior = prior_of(bundle).on(experiment.facts_vector(evidence.facts))
    selection = choose_head(prior, observations, SEED)
    floor = noise_floor(experiment.noise_of(evidence.stored))
    body: dict[str, Any] = {
        "agent": __version__,
        "machine": {"fingerprint": fingerprint(machine), **machine.to_json()},
        "toolchain": evidence.toolchain,
        "facts": evidence.facts,
        "bundle": _bundle_facts(bundle),
        "timings": {
            "planned": evidence.planned,
            "usable": len(usable),
            "base_usable": len(samples) - len(usable),
            "reused": evidence.reused,
            "failed": [asdict(f) for f in failures],
        },
        "noise_floor": asdict(floor) if floor else None,
        "head": {
            "kind": selection.kind,
            "kinds": dict(selection.kinds),
            "verdicts": [v.to_json() for v in selection.verdicts],
            "coverage": dict(selection.coverage),
        },
        "accuracy": _accuracy(observations, selection),
        "warnings": [*evidence.warnings, *experiment.notices_of(evidence.stored)],
        "model": selection.head.to_json(),
        "reach": experiment.reach_of(vectors),
        "points": experiment.points_of(samples, observations, selection),
    }
    return Fitted(body, observations, selection.calibrated)


def _why_nothing(failures: Sequence[Failure]) -> str:
    if not failures:
        return "nothing usable was measured"
    first = failures[0]
    return (
        f"nothing usable was measured: {first.kernel} under {first.schedule!r}: "
        f"{first.outcome}. {first.detail}"
    ).rstrip()


def embed_samples(samples: Sequence[Sample], bundle: Bundle) -> tuple[Observations, Any]:
    """Embed every timed program once; labels beside their designs, and all embeddings [n, E]."""
    from agent.bundle.encoder import Encoder
    from agent.calibration.predictor import represent

    bases = {s.kernel.name: s.kernel for s in samples}
    names = [(name, ORIGINAL) for name in bases]
    names += [(s.kernel.name, s.schedule) for s in samples if not s.base]
    programs = [variant_program(bases[name], schedule) for name, schedule in names]
    seen = represent(Encoder(bundle), lower(programs))
    embedded = {n: (seen.vectors[i], float(seen.work[i])) for i, n in enumerate(names)}
    return experiment.observe(samples, embedded), seen.vectors


def variant_program(kernel: Kernel, schedule: str) -> Program:
    """A kernel under a schedule; transformed once a process."""
    key = (kernel.name, schedule)
    if key not in _PROGRAMS:
        base = load_kernel(kernel)
        _PROGRAMS[key] = transform(base, parse_schedule(schedule), _dependences(kernel.name))
    return _PROGRAMS[key]


_PROGRAMS: dict[tuple[str, str], Program] = {}


@cache
def _dependences(name: str) -> Dependences:
    return Dependences.of(load_kernel(next(k for k in kernels() if k.name == name)))


def _bundle_facts(bundle: Bundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "version": bundle.version,
        "digest": bundle.digest,
        "path": str(bundle.path),
    }


def _accuracy(observations: Observations, selection: Selection) -> dict[str, Any]:
    """Each way to predict on programs it has not seen."""
    from agent.model.score import accuracy, predict_the_median

    ways = {
        "calibrated": (selection.calibrated, selection.calibrated_sd),
        "bundle_alone": (selection.bundle_alone, None),
        "median_alone": (predict_the_median(observations), None),
    }
    return {name: accuracy(observations, *way).to_json() for name, way in ways.items()}
