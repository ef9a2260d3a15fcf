"""`agent report`: what leaves this machine, if its site or its people want that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agent.commands.common import Json, StateDir, become_owner, print_answer, settings, writing
from agent.errors import Exit, InputError
from agent.terminal import console

if TYPE_CHECKING:
    from agent.settings.config import Config

COMMANDS: Final = typer.Typer()
_UNDELIVERED: Final = frozenset(("unreachable", "denied", "later"))
_NOTHING: Final = frozenset(("off", "nothing", "nowhere", "waiting", "unchanged"))
_HELP = "Tell the centre how good its bundle is here: aggregates only, and only if switched on."

Show = Annotated[bool, typer.Option("--show", help="Print the exact bytes; send nothing.")]
Export = Annotated[
    Path | None,
    typer.Option("--export", metavar="FILE", help="Write what waits to FILE, to be carried there."),
]
Now = Annotated[bool, typer.Option("--now", help="Try at once, also after a failure.")]
Found = dict[str, Any]  # docs/reference/schemas/report.json

report_app: Final = typer.Typer(help=_HELP, rich_markup_mode=None)
COMMANDS.add_typer(report_app, name="report", epilog="Example: agent report --show")


@report_app.callback(invoke_without_command=True)
def report(
    context: typer.Context,
    show: Show = False,
    export: Export = None,
    now: Now = False,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Tell the centre how good its bundle is here: aggregates only, and only if switched on."""
    from agent.report import flow

    if show + now + (export is not None) + (context.invoked_subcommand is not None) > 1:
        raise InputError("--show, --export, --now and a command exclude each other", "Choose one.")
    if context.invoked_subcommand is not None:
        return
    config = settings(state_dir=state_dir)
    if show:
        with writing(config, "report --show") as state:
            found = flow.waiting_reports(config, state)
        _show(found, as_json=as_json)
    else:
        _end(_delivered(config, export, at_once=now), as_json=as_json)


def _delivered(config: Config, export: Path | None, *, at_once: bool) -> Found:
    """Carried in a file, or sent."""
    from agent.report import flow
    from agent.report.carried import open_export

    if export is None:
        if off := flow.answer_if_off(become_owner(config)):
            return off
        with writing(config, "report") as state, console.progress() as tell:
            return flow.send_due_reports(config, state, tell, at_once=at_once)
    # Opened first: root may give itself up for the owner of the state, who may not write there.
    with open_export(export) as file:
        if off := flow.answer_if_off(become_owner(config)):
            return off
        with writing(config, "report") as state:
            return flow.export_reports(config, state, file)


@report_app.command(epilog="Example: agent report enable")
def enable(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Switch reporting on, after showing what would be sent."""
    from agent.report import consent, flow
    from agent.terminal import report_wording as wording

    config = settings(state_dir=state_dir)
    with writing(config, "report enable") as state:
        consent.check_site_allows(config)
        found = flow.waiting_reports(config, state)
    for line in (*wording.ASKED, *wording.waiting_blocks(found), *_bytes(found)):
        console.note(line)
    if not (yes or _agreed()):
        _end({**found, "outcome": "unchanged", "reports": []}, as_json=as_json)
        return
    with writing(config, "report enable") as state:
        consent.give_consent(config, state)
        found = flow.report_answer(config, state, "enabled")
    _end(found, as_json=as_json)


@report_app.command(epilog="Example: agent report disable")
def disable(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Switch reporting off, and drop what waits to be sent."""
    from agent.report import consent, flow

    config = settings(state_dir=state_dir)
    with writing(config, "report disable") as state:
        dropped = consent.withdraw_consent(state)
        found = flow.report_answer(config, state, "disabled", dropped=dropped)
    _end(found, as_json=as_json)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("there is nobody to ask", "`agent report enable --yes` does not ask.")
    return console.ask("Send reports like this from now on?")


def _bytes(found: Found) -> list[str]:
    last = [found["last"]["report"]] if found["last"] else []
    return list(found["reports"]) or last


def _show(found: Found, *, as_json: bool) -> None:
    """The bytes on stdout, what they are on stderr."""
    from agent.terminal import report_wording as wording

    if not as_json:
        for line in wording.waiting_blocks(found):
            console.note(line)
    print_answer(found, lambda _: list(_bytes(found)), as_json)


def _end(found: Found, *, as_json: bool) -> None:
    from agent.terminal import report_wording as wording

    print_answer(found, wording.report, as_json)
    if found["outcome"] in _NOTHING:
        raise typer.Exit(Exit.NOTHING_TO_DO)
    if found["outcome"] in _UNDELIVERED:
        raise typer.Exit(Exit.UNREACHABLE)
