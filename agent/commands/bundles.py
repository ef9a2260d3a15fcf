"""`agent update` and `agent bundle`: which encoder this machine uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from agent.commands.common import (
    Json,
    StateDir,
    become_owner,
    print_answer,
    settings,
    writing,
    writing_at_times,
)
from agent.errors import Exit
from agent.terminal import console
from agent.terminal.options import with_records

COMMANDS: Final = typer.Typer()
Check = Annotated[bool, typer.Option("--check", help="Only say what there is.")]
Force = Annotated[
    bool, typer.Option("--force", help="Take it even if it is not shown to be as good here.")
]
Place = Annotated[
    str | None,
    typer.Option("--from", metavar="URL|DIR", help="Repository (default: as configured)."),
]
RootFile = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="FILE",
        help="The trusted root.json (default: /etc/calibration-agent/root.json).",
    ),
]
Channel = Annotated[str | None, typer.Option(metavar="C", help="stable (default) or pilot.")]


@dataclass(frozen=True)
class OfferOptions:
    """Whose offers are looked at."""

    place: Place = None
    root_file: RootFile = None
    channel: Channel = None


@COMMANDS.command(epilog="Example: agent update --from /media/usb/bundles --root root.json")
@with_records
def update(
    *,
    check: Check = False,
    force: Force = False,
    offer: OfferOptions,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take the bundle that the centre offers, if it is signed, whole and not worse here."""
    from agent.terminal import update_wording as wording
    from agent.update.flow import CHANGED, update_bundle

    where = {"repository": offer.place, "trusted_root": offer.root_file, "channel": offer.channel}
    config = settings(state_dir=state_dir, **where)
    with writing_at_times(config, "update") as (state, lock), console.progress() as tell:
        found = update_bundle(config, state, lock, tell, check=check, force=force)
    print_answer(found, wording.update, as_json)
    if found["outcome"] not in CHANGED:
        raise typer.Exit(Exit.NOTHING_TO_DO)


bundle_app: Final = typer.Typer(
    help="The bundles of this machine: list, show, go back, hold on to one.",
    rich_markup_mode=None,
)
COMMANDS.add_typer(bundle_app, name="bundle")


@bundle_app.callback(invoke_without_command=True)
def bundle_root(context: typer.Context) -> None:
    """The bundles of this machine: list, show, go back, hold on to one."""
    if context.invoked_subcommand is None:
        console.answer({}, context.get_help().split("\n"))


@bundle_app.command("list", epilog="Example: agent bundle list --json")
def bundle_list(state_dir: StateDir = None, as_json: Json = False) -> None:
    """List the bundles that are or were here, the one in force first."""
    from agent.terminal import update_wording as wording
    from agent.update.manage import listing

    found = listing(become_owner(settings(state_dir=state_dir)).state_dir)
    print_answer(found, wording.bundles, as_json)


@bundle_app.command("show", epilog="Example: agent bundle show built-in")
def bundle_show(
    which: Annotated[
        str | None,
        typer.Argument(metavar="[BUNDLE]", help="Name, digest or `built-in` (default: in force)."),
    ] = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show where a bundle came from: licence, provenance, evaluation, self-test."""
    from agent.terminal import update_wording as wording
    from agent.update.manage import describe_known

    config = become_owner(settings(state_dir=state_dir))
    print_answer(describe_known(config.state_dir, which), wording.shown_bundle, as_json)


@bundle_app.command("rollback", epilog="Example: agent bundle rollback")
def bundle_rollback(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Go back to the bundle before the one in force; updates do not undo it."""
    from agent.terminal import update_wording as wording
    from agent.update.manage import rollback

    config = settings(state_dir=state_dir)
    with writing(config, "bundle rollback") as state:
        found = rollback(config, state)
    print_answer(found, wording.went_back, as_json)


@bundle_app.command("pin", epilog="Example: agent bundle pin")
def bundle_pin(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Hold on to the bundle in force: updates leave it alone."""
    from agent.terminal import update_wording as wording
    from agent.update.manage import pin_bundle

    config = settings(state_dir=state_dir)
    with writing(config, "bundle pin") as state:
        found = pin_bundle(config, state)
    print_answer(found, wording.pinned, as_json)


@bundle_app.command("unpin", epilog="Example: agent bundle unpin")
def bundle_unpin(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Let updates change the bundle again."""
    from agent.terminal import update_wording as wording
    from agent.update.manage import unpin_bundle

    config = settings(state_dir=state_dir)
    with writing(config, "bundle unpin") as state:
        found = unpin_bundle(config, state)
    print_answer(found, wording.pinned, as_json)
