"""`agent calibrate`, `status`, `history`, `kernels`: the model of this machine."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent.commands.common import (
    Compiler,
    Json,
    ModelOptions,
    Report,
    StateDir,
    become_owner,
    check_compiler,
    print_answer,
    settings,
    writing,
)
from agent.errors import AgentError, Exit, GaveWayError, InputError, NothingToDoError
from agent.terminal import console
from agent.terminal.options import with_records

if TYPE_CHECKING:
    from agent.calibration.calibration import StoredCalibration
    from agent.progress import Tell
    from agent.settings.config import Config
    from agent.state.state import State

COMMANDS: Final = typer.Typer()
_CODES: Final = {"holds": Exit.OK, "changed": Exit.PROBLEM, "unclear": Exit.NOT_NOW}


IfDue = Annotated[
    bool, typer.Option("--if-due", help="Only if it is old, or something has changed.")
]
WhenQuiet = Annotated[
    bool, typer.Option("--when-quiet", help="Wait for a quiet machine, give up after quiet_wait.")
]


@dataclass(frozen=True)
class CalibrateOptions:
    """When and how long it is measured, if at all."""

    budget: Annotated[
        str | None, typer.Option(metavar="T", help="Time to spend: 20s, 2m (default 45s).")
    ] = None
    refit: Annotated[bool, typer.Option("--refit", help="Measure nothing; use stored timings.")] = (
        False
    )
    if_due: IfDue = False
    when_quiet: WhenQuiet = False
    report: Report = None


@COMMANDS.command(epilog="Example: agent calibrate --if-due --when-quiet --budget 20s")
@with_records
def calibrate(options: CalibrateOptions, model: ModelOptions, as_json: Json = False) -> None:
    """Time the fixed set, fit the model to this machine."""
    if options.refit and (options.if_due or options.when_quiet):
        words = "--refit measures nothing, so --if-due and --when-quiet do not go with it"
        raise InputError(words, "Leave one of them out.")
    config = become_owner(model.settings(budget=options.budget))
    _check_options(config, options, model)
    if options.when_quiet:
        found = _calibrate_when_quiet(config, refit=False, if_due=options.if_due)
    else:
        found = _calibrate(config, refit=options.refit, if_due=options.if_due, polite=False)
    if options.report is not None:
        _write_page(options.report, config.state_dir)
    _answer(found, as_json=as_json)


def _answer(found: StoredCalibration, *, as_json: bool) -> None:
    from agent.calibration.calibration import answer_json
    from agent.terminal.calibration_wording import calibration_blocks

    print_answer(answer_json(found), lambda _: calibration_blocks(found), as_json)


def _check_options(config: Config, options: CalibrateOptions, model: ModelOptions) -> None:
    """What is found wrong, or not due, before anything is waited for or measured."""
    if options.report is not None:
        _check_place(options.report, config.state_dir)
    if options.if_due:
        _ask(config)
    if model.bundle is not None:
        _check_bundle(config)
    if not options.refit:
        check_compiler(model.compiler)


def _calibrate(config: Config, *, refit: bool, if_due: bool, polite: bool) -> StoredCalibration:
    with writing(config, "calibrate") as state, console.progress() as tell:
        if if_due:
            _confirm(config, state, tell)
        if not refit:
            _announce(config)
        if not (refit or polite):
            _tell_if_quiet(config)
        from agent.calibration.calibrate import calibrate as run

        return run(config, state, tell, refit=refit, polite=polite)


def _announce(config: Config) -> None:
    """What it will take."""
    from agent.calibration.plan import cost_s, prefix_for
    from agent.clock import duration
    from agent.kernels.fixed_set import fixed_variants
    from agent.measure.machine import read_machine
    from agent.settings.values import in_units

    cpus = len(read_machine().cpus)
    chosen = prefix_for(fixed_variants(), config.budget_s, cpus)
    programs = len({variant.kernel.name for variant in chosen})
    console.note(
        f"{len(chosen)} timings of {programs} programs, about {duration(cost_s(chosen, cpus))} "
        f"(budget {in_units(config.budget_s)}). Ctrl-C stops it, and what is timed is kept."
    )


def _tell_if_quiet(config: Config) -> None:
    """Who is there when it is measured is told before, not after, that figures will suffer."""
    from agent.measure.quiet import conditions_now, disturbance

    found = conditions_now()
    if why := disturbance(found, config):
        console.warn(
            f"this machine is not quiet: {why.words}. Timings will suffer, and the calibration may "
            "not be good enough to come into force; --when-quiet waits for a better moment."
        )
    elif found.busy is not None:
        console.note(f"This machine is quiet: other programs use {found.busy:.0%} of its CPUs.")


def _calibrate_when_quiet(config: Config, **how: bool) -> StoredCalibration:
    """Wait, measure, and wait again where it has to give way, as long as there is patience."""
    from agent.measure.quiet import wait

    end = time.monotonic() + config.quiet_wait_s
    while True:
        with console.progress() as tell:
            wait(config, tell, end)
        try:
            return _calibrate(config, **how, polite=True)
        except GaveWayError as error:
            console.note(f"{error.message}; waiting again")


def _check_bundle(config: Config) -> None:
    """A bundle named by mistake is the slip of who named it, not remembered as the machine's."""
    from agent.bundle.bundle import load_bundle

    if config.bundle is not None:
        load_bundle(config.bundle)


def _check_place(report: str, state_dir: Path) -> None:
    from agent.page.file import check_page_path

    check_page_path(Path(report), state_dir)


def _ask(config: Config) -> None:
    from agent.upkeep.upkeep import ask_whether_due

    try:
        ask_whether_due(config)
    except NothingToDoError:
        _forget_slips(config)
        raise


def _forget_slips(config: Config) -> None:
    """What failed before, by hand perhaps, is no trouble any more where nothing is due."""
    from agent.state.last_error import has_errors
    from agent.state.state import read_state

    with read_state(config.state_dir) as state:
        known = has_errors(state, "calibrate", "check")
    if known:
        with contextlib.suppress(AgentError), writing(config, "calibrate"):
            pass  # succeeds, and with that they are forgotten


def _confirm(config: Config, state: State, tell: Tell) -> None:
    from agent.upkeep.upkeep import confirm

    for reason in confirm(config, state, tell):
        console.note(f"due: {reason.message}")


@COMMANDS.command(epilog="Example: agent check --json")
def check(compiler: Compiler = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """See in seconds whether the calibration still holds; exit 9 if the machine has changed."""
    from agent.terminal.calibration_wording import check_blocks
    from agent.upkeep.drift import check_drift

    config = settings(state_dir=state_dir, compiler=compiler)
    check_compiler(compiler)
    with writing(config, "check") as state, console.progress() as tell:
        checked = check_drift(config, state, tell)
    print_answer(checked.to_json(), lambda _: check_blocks(checked.found), as_json)
    if (code := _CODES[checked.found.verdict]) != Exit.OK:
        raise typer.Exit(code)


@COMMANDS.command(epilog="Example: agent status --json")
def status(report: Report = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Show the calibration in force and how good it is."""
    from agent.terminal.calibration_wording import status_blocks
    from agent.upkeep.records import read_status

    config = become_owner(settings(state_dir=state_dir))
    if report is not None:
        _check_place(report, config.state_dir)
    told = read_status(config.state_dir)
    if report is not None:
        _write_page(report, config.state_dir)
    print_answer(told.to_json(), lambda _: status_blocks(told), as_json)


def _write_page(report: str, state_dir: Path) -> None:
    from agent.page.file import write_page
    from agent.page.gather import page_of

    write_page(Path(report), page_of(state_dir), state_dir)
    console.note(f"page written: {report}")


@COMMANDS.command(epilog="Example: agent history --limit 5")
def history(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List earlier calibrations, newest first."""
    from agent.terminal.calibration_wording import history_blocks
    from agent.upkeep.records import read_history

    found = read_history(become_owner(settings(state_dir=state_dir)).state_dir, limit)
    print_answer(found.to_json(), lambda _: history_blocks(found), as_json)


calibration_app: Final = typer.Typer(
    help="Which calibration is in force (`agent history` lists them).", rich_markup_mode=None
)
COMMANDS.add_typer(calibration_app, name="calibration")


@calibration_app.callback(invoke_without_command=True)
def calibration_root(context: typer.Context) -> None:
    """Which calibration is in force (`agent history` lists them)."""
    if context.invoked_subcommand is None:
        console.answer({}, context.get_help().split("\n"))


@calibration_app.command("use", epilog="Example: agent calibration use 3")
def calibration_use(
    number: Annotated[int, typer.Argument(metavar="N", help="Its id in `agent history`.")],
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Put a calibration in force that is kept, an older one or one not to be used."""
    from agent.terminal.calibration_wording import used_blocks
    from agent.upkeep.choice import use_calibration

    config = settings(state_dir=state_dir)
    with writing(config, "calibration use") as state:
        chosen = use_calibration(config, state, number)
    print_answer(chosen.to_json(), lambda _: used_blocks(chosen), as_json)


@COMMANDS.command(epilog="Example: agent kernels --json")
def kernels(state_dir: StateDir = None, as_json: Json = False) -> None:  # noqa: ARG001  as all have
    """List the fixed set and what each kernel stands for."""
    from agent.terminal.calibration_wording import fixed_set_blocks
    from agent.upkeep.records import fixed_set_entries, fixed_set_json

    entries = fixed_set_entries()
    print_answer(fixed_set_json(entries), lambda _: fixed_set_blocks(entries), as_json)
