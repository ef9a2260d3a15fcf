"""``bundles evaluate``: label files in; one table, one plot and one JSON out. Read top to bottom.

load -> refuse leaks -> an encoder for every left-out group -> benches -> run -> report
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.arrays import Doubles, Singles
from agent.bundle.bundle import default_bundle, load_bundle
from agent.errors import AgentError
from bundles.evaluation.arms import BY_NAME, PLAIN, REFERENCE, Bench, make_bench
from bundles.evaluation.case import Case, TooFewError, make_case, refuse_leaks, refuse_names
from bundles.evaluation.options import LEAVE, EvaluationOptions
from bundles.evaluation.plot import draw_learning_curves
from bundles.evaluation.protocol import run_protocol
from bundles.evaluation.reference import Reference, learn_from_references, left_out
from bundles.evaluation.report import (
    BundleEncoder,
    EvaluationReport,
    LeftOutEncoder,
    SkippedTarget,
)
from bundles.evaluation.statistics import Results
from bundles.evaluation.summary import Evaluated, summarise
from bundles.evaluation.tables import report_markdown
from bundles.labels.labels import Labels, load_labels
from bundles.labels.target import Target
from bundles.training.settings import Say
from bundles.training.trained import Trained, from_bundle


def evaluate_labels(options: EvaluationOptions, say: Say) -> EvaluationReport:
    """Run the evaluation and write its report.

    Raises:
        AgentError: a file cannot be used, a program is on both sides of the split, there is too
            little to evaluate, or a library is missing.
    """
    started = time.monotonic()
    _refuse_options(options)
    make_directory(options.out)
    files = {path: load_labels(path) for path in (*options.labels, *options.data)}
    _refuse_files(list(files.values()))
    cases, skipped = _cases(files, say)
    tested = [cases[p] for p in (options.data or options.labels) if p in cases]
    if not tested:
        raise AgentError(
            f"there is nothing left to evaluate: {skipped[0].why}",
            "Measure more programs, or give another file.",
        )
    known = [cases[p] for p in options.labels if p in cases]
    benches = _benches(options, tested, known, say)
    say(f"targets: {len(benches)}, seeds: {options.protocol.seeds}")
    trials = run_protocol(benches, options.protocol, say)
    results = Results.of(trials, {c.name: c.labels.program[c.test_base] for c in tested})
    about = Evaluated(_encoder(options), options.protocol, tested, skipped)
    report = summarise(results, about)
    report = replace(report, elapsed_s=round(time.monotonic() - started, 1))
    write_report(report, options.out)
    return report


def write_report(report: EvaluationReport, out: Path) -> None:
    """Write evaluation.json, evaluation.md and the plot into a directory."""
    write_text(out / "evaluation.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_text(out / "evaluation.md", report_markdown(report))
    draw_learning_curves(report, out)


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)


def _refuse_options(options: EvaluationOptions) -> None:
    if not options.labels and not options.data:
        raise AgentError("there is no label file to evaluate", "Give LABELS or --data FILE.")
    if options.bundle and options.leave:
        raise AgentError(
            "--bundle and --leave exclude each other",
            "--leave trains encoders of its own; --bundle takes the one given as it is.",
        )
    if options.leave not in (None, *LEAVE):
        raise AgentError(f"nothing is known of leaving out a {options.leave}", "machine or target.")
    if unknown := [name for name in options.protocol.arms if name not in BY_NAME]:
        raise AgentError(f"there is no arm {unknown[0]!r}", f"Arms: {', '.join(BY_NAME)}.")


def make_directory(out: Path) -> None:
    """The directory of a report; AgentError where it cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"cannot write to {out}: {error.strerror}", "Choose --out.") from error


def _refuse_files(files: Sequence[Labels]) -> None:
    names = [labels.target.name for labels in files]
    if twice := [n for n in names if names.count(n) > 1]:
        raise AgentError(f"two files are of the target {twice[0]}", "Give each target once.")
    for labels in files:
        refuse_names(labels)
    refuse_leaks(files)


def _cases(
    files: dict[Path, Labels], say: Say
) -> tuple[dict[Path, Case], tuple[SkippedTarget, ...]]:
    """Files ready to use; those with too few labels are left out, with a warning."""
    cases, skipped = {}, []
    for path, labels in files.items():
        try:
            cases[path] = make_case(labels)
        except TooFewError as error:
            say(f"warning: left out: {error.message}")
            skipped.append(SkippedTarget(labels.target.name, error.message))
    return cases, tuple(skipped)


def _benches(
    options: EvaluationOptions, tested: Sequence[Case], known: Sequence[Case], say: Say
) -> list[Bench]:
    plain = _plain(options, say)
    learned: dict[tuple[str, ...], tuple[Trained, Reference | None]] = {}
    benches = []
    for case in tested:
        allowed = _allowed(options, case, known)
        key = tuple(c.name for c in allowed)
        if key not in learned:
            learned[key] = (
                _trained(options, case.labels.target, known, say),
                _reference(options, allowed, say),
            )
        trained, reference = learned[key]
        control = reference.predict(case) if reference else None
        benches.append(make_bench(case, trained, plain(case.labels.features), control))
    return benches


def _plain(options: EvaluationOptions, say: Say) -> Callable[[Singles], Doubles]:
    """The plain autoencoder, where it is asked for: it takes minutes to train the first time."""
    if PLAIN not in (options.protocol.arms or BY_NAME):
        return lambda features: np.zeros((len(features), 1))
    from bundles.evaluation.autoencoder import SMALL, AutoencoderSize, plain_autoencoder

    return plain_autoencoder(SMALL if options.small else AutoencoderSize(), options.work, say)


def _allowed(options: EvaluationOptions, case: Case, known: Sequence[Case]) -> list[Case]:
    """The targets whose labels may be learned from when one is tested."""
    if not options.leave and not options.data:
        return []
    hidden = left_out(options.leave or "machine", case.labels.target)
    return [c for c in known if not hidden(c.labels.target)]


def _trained(
    options: EvaluationOptions, target: Target, known: Sequence[Case], say: Say
) -> Trained:
    if not options.leave:
        return from_bundle(load_bundle(options.bundle or default_bundle()))
    from bundles.training.stages import encoder_without

    say(f"an encoder without the {options.leave} of {target.name}")
    hidden = left_out(options.leave, target)
    return encoder_without([c.labels for c in known], hidden, 0, options.work, say)


def _reference(options: EvaluationOptions, allowed: Sequence[Case], say: Say) -> Reference | None:
    if not allowed or REFERENCE not in (options.protocol.arms or BY_NAME):
        return None
    say(f"learning the control from {len(allowed)} reference targets")
    return learn_from_references(allowed)


def _encoder(options: EvaluationOptions) -> BundleEncoder | LeftOutEncoder:
    """What was evaluated, for the report."""
    if options.leave:
        note = f"every encoder was trained without any label of the {options.leave} tested"
        return LeftOutEncoder("trained-without", options.leave, note)
    bundle = load_bundle(options.bundle or default_bundle())
    note = "the bundle as it is; machines such as the ones tested may have taught it"
    return BundleEncoder("bundle", bundle.name, bundle.version, bundle.digest, note)
