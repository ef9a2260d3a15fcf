"""`agent calibrate`, `status`, `history`, `kernels`: the model of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from agent import console
from agent.commands.common import BundleDir, Compiler, Json, StateDir, answer, settings, writing

COMMANDS: Final = typer.Typer()
_INTERNAL = frozenset(("model", "reach", "facts", "points"))  # for predict and the page; long
Report = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE", help="Also write a page for a browser (HTML)."),
]


@COMMANDS.command(epilog="Example: agent calibrate --budget 20s")
def calibrate(
    budget: Annotated[
        str | None, typer.Option(metavar="T", help="Time to spend: 20s, 2m (default 45s).")
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Measure nothing; use stored timings.")] = (
        False
    ),
    report: Report = None,
    bundle: BundleDir = None,
    compiler: Compiler = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Time the fixed set, fit the model to this machine."""
    from agent import wording

    config = settings(state_dir=state_dir, bundle=bundle, compiler=compiler, budget=budget)
    with writing(config, "calibrate") as state:
        from agent.calibrate import calibrate as run
        from agent.page.file import check_place

        if report is not None:
            check_place(Path(report))  # before anything is measured

        with console.progress() as tell:
            found = run(config, state, tell, refit=refit)
    answer({k: v for k, v in found.items() if k not in _INTERNAL}, wording.calibration, as_json)
    if report is not None:
        _write_page(report, config.state_dir)


@COMMANDS.command(epilog="Example: agent status --json")
def status(report: Report = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Show the calibration in force and how good it is."""
    from agent import wording
    from agent.records import status as read

    config = settings(state_dir=state_dir)
    answer(read(config.state_dir), wording.status, as_json)
    if report is not None:
        _write_page(report, config.state_dir)


def _write_page(report: str, state_dir: Path) -> None:
    from agent.page.file import write_page
    from agent.page.gather import page_of

    write_page(Path(report), page_of(state_dir))
    console.note(f"page written: {report}")


@COMMANDS.command(epilog="Example: agent history --limit 5")
def history(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List earlier calibrations, newest first."""
    from agent import wording
    from agent.records import history as read

    answer(read(settings(state_dir=state_dir).state_dir, limit), wording.history, as_json)


@COMMANDS.command(epilog="Example: agent kernels --json")
def kernels(state_dir: StateDir = None, as_json: Json = False) -> None:  # noqa: ARG001  as all have
    """List the fixed set and what each kernel stands for."""
    from agent import wording
    from agent.records import fixed_set

    answer(fixed_set(), wording.kernels, as_json)
