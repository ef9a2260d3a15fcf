"""``bundles evaluate`` and ``bundles check-simulator``: parse, one call, show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from agent.errors import InputError
from agent.terminal.options import with_records
from bundles.evaluation.options import (
    BUDGETS,
    QUICK,
    EvaluationOptions,
    EvaluationProtocol,
    RealCampaign,
    RealOptions,
    parse_arms,
    parse_budgets,
)
from bundles.terminal import EVALUATE, As_Json, needs, say, show_json


def attach(app: typer.Typer) -> None:
    """Add the commands to the ``bundles`` app."""
    example = "bundles evaluate labels/*.parquet --leave target --out evaluation"
    app.command(epilog=f"Example: `{example}`")(evaluate)
    example = "bundles check-simulator labels/*.parquet"
    app.command("check-simulator", epilog=f"Example: `{example}`")(check_simulator)


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and how."""

    out: Annotated[Path, typer.Option(help="Directory of the report.")]
    labels: Annotated[
        list[Path] | None, typer.Argument(help="Label files: evaluated, or learned from.")
    ] = None
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluate this file (repeat for more); LABELS are only learned from."),
    ] = None
    bundle: Annotated[
        Path | None, typer.Option(help="To evaluate as it is. Default: the agent's.")
    ] = None
    leave: Annotated[
        str | None,
        typer.Option(help="`machine` or `target`: train encoders that never saw the one tested."),
    ] = None
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Draws of labels.")] = 5
    budgets: Annotated[str, typer.Option(help="Numbers of labels.")] = ",".join(map(str, BUDGETS))
    arms: Annotated[str, typer.Option(help="Some of the arms, by name. [all]")] = ""
    work: Annotated[
        Path | None, typer.Option(help="Directory of trained encoders. [OUT/cache]")
    ] = None
    processes: Annotated[int, typer.Option(min=1, max=256)] = 2
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run, for tests.")] = False

    def resolved(self) -> EvaluationOptions:
        """What they come to.

        Raises:
            InputError: there is no such arm, or no such number of labels.
        """
        protocol = QUICK
        if not self.quick:
            budgets = parse_budgets(self.budgets)
            protocol = EvaluationProtocol(budgets, self.seeds, (), self.processes)
        return EvaluationOptions(
            labels=tuple(self.labels or ()),
            out=self.out,
            work=self.work or self.out / "cache",
            data=tuple(self.data or ()),
            bundle=self.bundle,
            leave=self.leave,
            protocol=replace(protocol, arms=parse_arms(self.arms)),
            small=self.quick,
        )


@dataclass(frozen=True)
class RealProgramOptions:
    """Which real programs, how many of their schedules, and with what."""

    programs: Annotated[
        Path | None,
        typer.Option(metavar="LIST.json", help="Real programs to time and predict in place."),
    ] = None
    timings: Annotated[
        Path | None,
        typer.Option("--from", metavar="timings.jsonl", help="Score these timings again."),
    ] = None
    again: Annotated[
        Path | None,
        typer.Option(metavar="timings.jsonl", help="Those of another run, to compare with."),
    ] = None
    machine: Annotated[
        str, typer.Option(help="With --programs: a name for this class of machine.")
    ] = "this-machine"
    looked_at: Annotated[
        int, typer.Option(min=4, max=10_000, help="With --programs: schedules ranked of each.")
    ] = 60
    timed: Annotated[
        int, typer.Option(min=3, max=60, help="With --programs: of them, how many are timed.")
    ] = 12
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="With --programs: of timing, for each.")
    ] = 10.0
    seed: Annotated[int, typer.Option(min=0, help="With --programs: of what is drawn.")] = 0
    compiler: Annotated[
        str | None, typer.Option(metavar="CC", help="With --programs: the C compiler.")
    ] = None
    state_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="With --programs: whose calibration predicts, too."),
    ] = None

    def resolved(self, shared: EvaluateOptions) -> RealOptions:
        """What they come to, with the options that label files have, too.

        Raises:
            InputError: labels are given besides.
        """
        if shared.labels or shared.data or shared.leave:
            raise InputError(
                "--programs and --from evaluate no label files",
                "Evaluate those in a run of their own, with an --out of its own.",
            )
        campaign = RealCampaign(self.looked_at, self.timed, seed=self.seed, budget_s=self.seconds)
        return RealOptions(
            out=shared.out,
            programs=self.programs,
            timings=self.timings,
            again=self.again,
            bundle=shared.bundle,
            machine=self.machine,
            compiler=self.compiler,
            state_dir=self.state_dir,
            campaign=campaign,
        )


@with_records
def evaluate(options: EvaluateOptions, real: RealProgramOptions, as_json: As_Json = False) -> None:
    """Compare the bundle with its controls on machines and programs it never saw."""
    if real.programs or real.timings:
        _evaluate_programs(real.resolved(options), as_json)
    else:
        _evaluate_labels(options, as_json)


def _evaluate_programs(options: RealOptions, as_json: bool) -> None:
    needs("matplotlib", install=EVALUATE)
    from bundles.evaluation.programs.evaluate import evaluate_programs
    from bundles.evaluation.programs.report import real_remarks, real_tables
    from bundles.evaluation.tables import print_tables

    report = evaluate_programs(options, say)
    if as_json:
        show_json(report.to_json())
    else:
        print_tables(real_tables(report), real_remarks(report))


def _evaluate_labels(options: EvaluateOptions, as_json: bool) -> None:
    needs("torch", "pyarrow", "xgboost", "matplotlib", install=EVALUATE)
    from bundles.evaluation.evaluate import evaluate_labels
    from bundles.evaluation.tables import print_report

    report = evaluate_labels(options.resolved(), say)
    show_json(report.to_json()) if as_json else print_report(report)


def check_simulator(
    labels: Annotated[list[Path], typer.Argument(help="Label files of `bundles measure`.")],
    as_json: As_Json = False,
) -> None:
    """Compare simulated times with real labels, by kind of program and schedule."""
    needs("pyarrow")
    from bundles.evaluation.check_simulator import check_simulator_on, simulator_check_text

    found = [check_simulator_on(path) for path in labels]
    if as_json:
        show_json([c.to_json() for c in found])
    else:
        typer.echo(simulator_check_text(found))
