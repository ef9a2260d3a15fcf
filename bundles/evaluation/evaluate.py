"""``bundles evaluate``: label files in; one table, one plot and one JSON out. Read top to bottom.

load -> refuse leaks -> an encoder for every left-out group -> benches -> run -> report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.arrays import Doubles, Singles
from agent.bundle.bundle import default_bundle, load_bundle
from agent.errors import AgentError
from bundles.evaluation.arms import BY_NAME, Bench, make_bench
from bundles.evaluation.case import Case, TooFewError, make_case, refuse_leaks, refuse_names
from bundles.evaluation.protocol import Protocol, run
from bundles.evaluation.reference import Reference, learn, left_out
from bundles.evaluation.summary import Results
from bundles.labels.labels import Labels, Target, load_labels
from bundles.training.trained import Trained, from_bundle

Say = Callable[[str], None]
LEAVE = ("machine", "target")
QUICK = Protocol(budgets=(0, 16, 48), seeds=2, processes=1)


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        labels: files of our machines: evaluated where no ``data`` is given, learned from else.
        data: files to evaluate.
        out: directory of the report; ``work``: of trained encoders.
        bundle: to evaluate as it is; None: the agent's.
        leave: ``machine`` or ``target``: train an encoder without it; None: use the bundle.
        protocol: budgets, seeds, arms.
        small: a small plain autoencoder, for tests.
    """

    labels: tuple[Path, ...]
    out: Path
    work: Path
    data: tuple[Path, ...] = ()
    bundle: Path | None = None
    leave: str | None = None
    protocol: Protocol = field(default_factory=Protocol)
    small: bool = False


def request(
    labels: Sequence[Path],
    data: Sequence[Path],
    out: Path,
    work: Path | None,
    bundle: Path | None,
    leave: str | None,
    budgets: str,
    seeds: int,
    arms: str,
    processes: int,
    quick: bool,
) -> Request:
    """A request from the options of the command; lists are separated by commas.

    Raises:
        AgentError: a budget is not a whole number of labels.
    """
    names = tuple(filter(None, arms.replace(" ", "").split(","))) or tuple(BY_NAME)
    protocol = replace(QUICK, arms=names)
    if not quick:
        protocol = Protocol(_numbers(budgets), seeds, names, processes)
    places = (out, work or out / "cache")
    return Request(tuple(labels), *places, tuple(data), bundle, leave, protocol, quick)


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and len(part) < 8 for part in parts):
        raise AgentError(f"--budgets {text[:40]!r} is not a list of numbers", "Such as 0,16,48.")
    return tuple(sorted(set(map(int, parts))))


def evaluate(request: Request, say: Say) -> dict[str, Any]:
    """Run the evaluation and write its report; the report as plain data.

    Raises:
        AgentError: a file cannot be used, a program is on both sides of the split, there is too
            little to evaluate, or a library is missing.
    """
    from bundles.evaluation import report

    started = time.monotonic()
    _check(request)
    _make_directory(request.out)
    files = {path: load_labels(path) for path in (*request.labels, *request.data)}
    _refuse(list(files.values()))
    cases, skipped = _cases(files, say)
    tested = [cases[p] for p in (request.data or request.labels) if p in cases]
    if not tested:
        raise AgentError(
            f"there is nothing left to evaluate: {skipped[0]['why']}",
            "Measure more programs, or give another file.",
        )
    known = [cases[p] for p in request.labels if p in cases]
    benches = _benches(request, tested, known, say)
    say(f"targets: {len(benches)}, seeds: {request.protocol.seeds}")
    cells = run(benches, request.protocol, say)
    names = {c.name: c.labels.program[c.test_base] for c in tested}
    results = Results.of(cells, names)
    found = report.as_json(results, [c.labels.target for c in tested], tested, _about(request))
    found |= {"skipped": skipped, "elapsed_s": round(time.monotonic() - started, 1)}
    report.write(found, request.out)
    return found


def _check(request: Request) -> None:
    if not request.labels and not request.data:
        raise AgentError("there is no label file to evaluate", "Give LABELS or --data FILE.")
    if request.bundle and request.leave:
        raise AgentError(
            "--bundle and --leave exclude each other",
            "--leave trains encoders of its own; --bundle takes the one given as it is.",
        )
    if request.leave not in (None, *LEAVE):
        raise AgentError(f"nothing is known of leaving out a {request.leave}", "machine or target.")
    if unknown := [name for name in request.protocol.arms if name not in BY_NAME]:
        raise AgentError(f"there is no arm {unknown[0]!r}", f"Arms: {', '.join(BY_NAME)}.")


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"cannot write to {out}: {error.strerror}", "Choose --out.") from error


def _refuse(files: Sequence[Labels]) -> None:
    names = [labels.target.name for labels in files]
    if twice := [n for n in names if names.count(n) > 1]:
        raise AgentError(f"two files are of the target {twice[0]}", "Give each target once.")
    for labels in files:
        refuse_names(labels)
    refuse_leaks(files)


def _cases(files: dict[Path, Labels], say: Say) -> tuple[dict[Path, Case], list[dict[str, str]]]:
    """Files ready to use; those with too few labels are left out, with a warning."""
    cases, skipped = {}, []
    for path, labels in files.items():
        try:
            cases[path] = make_case(labels)
        except TooFewError as error:
            say(f"warning: left out: {error.message}")
            skipped.append({"target": labels.target.name, "why": error.message})
    return cases, skipped


def _benches(
    request: Request, tested: Sequence[Case], known: Sequence[Case], say: Say
) -> list[Bench]:
    plain = _plain(request, say)
    learned: dict[tuple[str, ...], tuple[Trained, Reference | None]] = {}
    benches = []
    for case in tested:
        allowed = _allowed(request, case, known)
        key = tuple(c.name for c in allowed)
        if key not in learned:
            learned[key] = (
                _trained(request, case.labels.target, known, say),
                _reference(request, allowed, say),
            )
        trained, reference = learned[key]
        control = reference.predict(case) if reference else None
        benches.append(make_bench(case, trained, plain(case.labels.features), control))
    return benches


def _plain(request: Request, say: Say) -> Callable[[Singles], Doubles]:
    """The plain autoencoder, where it is asked for: it takes minutes to train the first time."""
    if "plain_autoencoder" not in request.protocol.arms:
        return lambda features: np.zeros((len(features), 1))
    from bundles.evaluation.autoencoder import SMALL, Size, plain_autoencoder

    return plain_autoencoder(SMALL if request.small else Size(), request.work, say)


def _allowed(request: Request, case: Case, known: Sequence[Case]) -> list[Case]:
    """The targets whose labels may be learned from when one is tested."""
    if not request.leave and not request.data:
        return []
    hidden = left_out(request.leave or "machine", case.labels.target)
    return [c for c in known if not hidden(c.labels.target)]


def _trained(request: Request, target: Target, known: Sequence[Case], say: Say) -> Trained:
    if not request.leave:
        return from_bundle(load_bundle(request.bundle or default_bundle()))
    from bundles.training.learn import encoder_without

    say(f"an encoder without the {request.leave} of {target.name}")
    hidden = left_out(request.leave, target)
    return encoder_without([c.labels for c in known], hidden, 0, request.work, say)


def _reference(request: Request, allowed: Sequence[Case], say: Say) -> Reference | None:
    if not allowed or "reference" not in request.protocol.arms:
        return None
    say(f"learning the control from {len(allowed)} reference targets")
    return learn(allowed)


def _about(request: Request) -> dict[str, Any]:
    """How it was evaluated, for the JSON."""
    encoder: dict[str, Any]
    if request.leave:
        encoder = {
            "kind": "trained-without",
            "leave": request.leave,
            "note": f"every encoder was trained without any label of the {request.leave} tested",
        }
    else:
        bundle = load_bundle(request.bundle or default_bundle())
        encoder = {
            "kind": "bundle",
            "name": bundle.name,
            "version": bundle.version,
            "digest": bundle.digest,
            "note": "the bundle as it is; machines such as the ones tested may have taught it",
        }
    protocol = request.protocol
    return {"encoder": encoder, "seeds": protocol.seeds, "budgets": list(protocol.budgets)}
