"""``bundles evaluate`` and ``bundles check-simulator``: parse, one call, show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from agent.terminal.options import with_records
from bundles.evaluation.options import (
    BUDGETS,
    QUICK,
    EvaluationOptions,
    EvaluationProtocol,
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


@with_records
def evaluate(options: EvaluateOptions, as_json: As_Json = False) -> None:
    """Compare the bundle with its controls on machines and programs it never saw."""
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
