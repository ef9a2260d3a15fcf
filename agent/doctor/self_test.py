"""`agent self-test`: every part tried once, for real, after an installation.

Nothing that it makes stays: programs are compiled into a folder of their own that is removed.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor.findings import BROKEN, Finding, answer_of, look, ok, problem
from agent.progress import Progress, Tell
from agent.settings.config import Config
from agent.state.file import make_directory
from agent.state.owner import act_as_owner
from agent.state.state import read_state

if TYPE_CHECKING:
    from agent.bundle.bundle import Bundle
    from agent.loopnest.program import Program
    from agent.model.observations import Observations
    from agent.model.prior import Prior

KERNEL = "transpose"
BUDGET_S = 0.5  # of timing: whether it works, not how exactly
WIDTH = 4  # of the made-up embeddings
SEED = 20_261
Part = Callable[[Config], Iterator[Finding]]


def self_test(config: Config, tell: Tell) -> dict[str, object]:
    """Try every part; the answer (docs/reference/schemas/self-test.json)."""
    parts: tuple[tuple[str, Part], ...] = (
        ("state directory", state_directory),
        ("bundle", bundle_intact),
        ("measuring", measuring),
        ("fitting", fitting),
        ("prediction", prediction),
    )
    findings: list[Finding] = []
    for number, (name, part) in enumerate(parts):
        tell(Progress("testing", number, len(parts), name))
        findings += look(name, lambda part=part: part(config), problem)  # type: ignore[misc]
    return {**answer_of(findings), "state_dir": str(config.state_dir)}


def bundle_intact(config: Config) -> Iterator[Finding]:
    """The bundle in force is whole, and computes in its child what it computed at the centre."""
    from agent.bundle.probe import probe

    found = _bundle(config)
    probe(found)
    yield ok("bundle", f"{found.name} {found.version} works")


def measuring(config: Config) -> Iterator[Finding]:
    """A kernel of the fixed set and a version of it run, are timed, and give the same results."""
    from agent.measure.machine import read_machine
    from agent.measure.resolve import toolchain_for_set
    from agent.measure.worker_runner import WorkerRunner

    machine = read_machine()
    toolchain = toolchain_for_set(config.compiler, machine)
    base, version = _programs()
    usable = config.state_dir if os.access(config.state_dir, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="self-test-", dir=usable) as place:
        runner = WorkerRunner(toolchain, Path(place), machine=machine)
        timed = runner.measure(base, [version], budget_s=BUDGET_S)
    for timing in (timed.base, *timed.timings):
        if timing.outcome != "ok":
            words = f"{KERNEL} with {toolchain.version}: {timing.outcome} {timing.detail or ''}"
            yield problem("measuring", words.rstrip(), "Try another compiler with --compiler.")
            return
    yield ok("measuring", f"{toolchain.described}, gives right results")


def fitting(_: Config) -> Iterator[Finding]:
    """Every head that a calibration may choose is fitted on made-up rows, and read back."""
    import numpy as np

    from agent.model.heads import BoostedHead, PairHead, head_from_json
    from agent.model.linear import RidgeHead
    from agent.model.select import best_head

    prior, rows = _made_up_labels()
    chosen = best_head(prior, rows, SEED)[0]
    both = PairHead(BoostedHead.fit(prior, rows, SEED), RidgeHead.fit(prior, rows))
    for head in (chosen, both):
        fitted = head.predict(rows.design, rows.kind)
        again = head_from_json(head.to_json()).predict(rows.design, rows.kind)
        if not (np.isfinite(fitted).all() and np.allclose(fitted, again, rtol=0.01)):
            words = "a fitted head gives no finite numbers, or others when it is read back"
            yield problem("fitting", words, BROKEN)
            return
    yield ok("fitting", "ridge and boosted trees are fitted, compared and read back")


def prediction(config: Config) -> Iterator[Finding]:
    """A prediction is made, of finite numbers."""
    from agent.bundle.installed import bundle_for
    from agent.calibration.calibration import calibration_in_force
    from agent.calibration.predictor import load_predictor
    from agent.measure.machine import read_machine

    base, version = _programs()
    with read_state(config.state_dir) as state:
        found = bundle_for(config.bundle, state, config.state_dir).bundle
        predictor = load_predictor(calibration_in_force(state), found, read_machine())
    told = predictor.predict(base, [version])[0]
    if all(map(math.isfinite, (told.speedup, told.seconds))) and told.seconds > 0:
        by = "by this machine's calibration" if predictor.calibration_id else "by the bundle alone"
        yield ok("prediction", f"{KERNEL} is predicted {by}")
    else:
        advice = "Run `agent calibrate`; report it if it happens again."
        yield problem("prediction", "a prediction is no finite number", advice)


def state_directory(config: Config) -> Iterator[Finding]:
    """What is written to the state directory is on the disk, and is read back; root is its owner.

    Raises:
        StateError: the directory cannot be made or written.
    """
    act_as_owner(config.state_dir)
    make_directory(config.state_dir)
    content = os.urandom(64 << 10)
    try:
        with tempfile.NamedTemporaryFile(prefix="self-test-", dir=config.state_dir) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            same = Path(file.name).read_bytes() == content
    except OSError as error:
        words = f"{config.state_dir} cannot be written: {error.strerror}"
        yield problem("state directory", words, "See what `agent doctor` says of disk and owner.")
        return
    if same:
        yield ok("state directory", f"{config.state_dir} keeps what is written")
    else:
        words = f"{config.state_dir} gives back something else than was written"
        yield problem("state directory", words, "The disk or its file system is failing.")


def _programs() -> tuple[Program, Program]:
    """A kernel of the fixed set and the version of it that is in the set too."""
    from agent.kernels.fixed_set import fixed_variants, load_kernel
    from agent.loopnest.schedules.legality import transform

    planned = next(v for v in fixed_variants() if v.kernel.name == KERNEL)
    base = load_kernel(planned.kernel)
    return base, transform(base, planned.schedule)


def _made_up_labels() -> tuple[Prior, Observations]:
    """A prior, and as many labels as it takes for every kind of head to be tried."""
    import numpy as np

    from agent.model.observations import SECONDS, SPEEDUP, Observations
    from agent.model.prior import Prior
    from agent.model.select import BOOSTING_LABELS, BOOSTING_PROGRAMS

    random = np.random.default_rng(SEED)
    each = -(-BOOSTING_LABELS // BOOSTING_PROGRAMS)
    kind = np.array(([SPEEDUP] * each + [SECONDS]) * BOOSTING_PROGRAMS)
    design = random.normal(size=(len(kind), WIDTH + 1))
    design[:, -1] = kind == SECONDS
    noise = random.normal(scale=0.1, size=len(kind))
    group = np.repeat(np.arange(BOOSTING_PROGRAMS), each + 1)
    target = np.tanh(2.0 * design[:, 0]) + noise
    rows = Observations(design, target, np.full(len(kind), 0.1), kind, group)
    return Prior(np.zeros(WIDTH + 1), np.eye(WIDTH + 1)[:, :2], 0.3, 0.3), rows


def _bundle(config: Config) -> Bundle:
    from agent.bundle.bundle import load_bundle
    from agent.bundle.installed import bundle_in_force

    if config.bundle is not None:
        return load_bundle(config.bundle)
    with read_state(config.state_dir) as state:
        return bundle_in_force(state, config.state_dir).bundle
