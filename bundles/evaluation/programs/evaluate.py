"""``bundles evaluate --programs``: a list of programs in; one table, one plot and one JSON out.

list -> calibration and bundle in force -> time what the journal lacks -> score -> report
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from agent.advise.advise import predictor_of
from agent.advise.anchoring import runner_for_anchors
from agent.bundle.bundle import default_bundle, load_bundle
from agent.calibration.calibration import calibration_in_force
from agent.calibration.facts import KnownFacts
from agent.calibration.journal import newest
from agent.errors import InputError
from agent.measure.machine import Machine, read_machine
from agent.measure.resolve import runner_for_programs
from agent.settings.config import Config
from agent.settings.resolve import load_config
from agent.state.file import make_directory
from agent.state.lock import hold
from agent.state.state import read_state
from bundles.evaluation.evaluate import make_directory as make_out
from bundles.evaluation.evaluate import write_text
from bundles.evaluation.options import RealOptions
from bundles.evaluation.programs.campaign import (
    SETTINGS,
    RealTimer,
    list_digest,
    time_programs,
)
from bundles.evaluation.programs.drawing import draw_programs
from bundles.evaluation.programs.listing import read_list
from bundles.evaluation.programs.records import RealHead, RealTimings, read_timings
from bundles.evaluation.programs.report import (
    RealReport,
    judge_timings,
    real_remarks,
    real_tables,
)
from bundles.evaluation.tables import markdown
from bundles.labels.journal import Line
from bundles.labels.measure import check_machine_name, target_of
from bundles.training.settings import Say

JOURNAL = "timings.jsonl"


def evaluate_programs(options: RealOptions, say: Say) -> RealReport:
    """Time the programs that are not timed yet, score, and write the report.

    Raises:
        InputError: the list, the journal or an option cannot be used.
        AgentError: nothing could be timed.
    """
    if (options.programs is None) == (options.timings is None):
        raise InputError(
            "give a list of programs, or a journal of their timings: one of the two",
            "--programs LIST.json times what is listed; --from timings.jsonl only scores.",
        )
    make_out(options.out)
    timings = read_timings(options.timings) if options.timings else _timed(options, say)
    again = read_timings(options.again) if options.again else None
    report = judge_timings(timings, load_bundle(options.bundle or default_bundle()), again)
    write_real_report(report, options.out)
    return report


def write_real_report(report: RealReport, out: Path) -> None:
    """Write programs.json, programs.md and the plot into a directory."""
    write_text(out / "programs.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_text(out / "programs.md", markdown(real_tables(report), real_remarks(report)))
    draw_programs(report, out)


def _timed(options: RealOptions, say: Say) -> RealTimings:
    """The journal in the output directory, whole."""
    assert options.programs is not None  # noqa: S101  the other option was checked
    programs, path = read_list(options.programs), options.out / JOURNAL
    check_machine_name(options.machine)
    named = {"state_dir": options.state_dir, "compiler": options.compiler}
    bundle = None if options.bundle is None else str(options.bundle)
    config = load_config(os.environ, {**named, "bundle": bundle})
    machine, predictor = read_machine(), predictor_of(config)
    runner, alone = runner_for_programs(config, settings=SETTINGS), runner_for_anchors(config)
    facts, fixed = _calibration(config, machine)
    campaign = options.campaign
    head = RealHead(
        programs=programs.name,
        digest=list_digest(programs),
        target=target_of(options.machine, machine, runner.toolchain, machine.threads),
        looked_at=campaign.looked_at,
        timed=campaign.timed,
        first=campaign.first,
        seed=campaign.seed,
        chosen_by=predictor.bundle.digest,
        facts=facts,
        fixed=fixed,
    )
    timer = RealTimer(config, predictor, runner, alone, campaign)
    make_directory(config.state_dir)
    with hold(config.state_dir, "evaluate"):
        time_programs(timer, programs, path, head, say)
    return read_timings(path)


def _calibration(config: Config, machine: Machine) -> tuple[KnownFacts | None, tuple[Line, ...]]:
    """Facts and timings of the calibration in force, if it is of this machine."""
    with read_state(config.state_dir) as state:
        stored = calibration_in_force(state)
        run = state.run_of(stored.id) if stored else None
        if stored is None or run is None or not stored.body.machine.is_of(machine):
            return None, ()
        timings = newest(state.timings(run)).values()
    kept = (
        {"key": {**asdict(t.key), "machine": "", "toolchain": ""}, "body": t.body} for t in timings
    )
    return stored.body.facts, tuple(json.loads(json.dumps(list(kept))))
