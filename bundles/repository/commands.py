"""Commands of ``bundles`` that publish: parse, one call, show. Heavy imports wait for the call."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.errors import Exit, InputError
from agent.terminal.options import with_records
from bundles.repository.telling import telling
from bundles.terminal import As_Json

if TYPE_CHECKING:
    from bundles.repository.answers import Answer
    from bundles.repository.publisher import Publisher
    from bundles.repository.telling import Tell
    from bundles.repository.words import Words

    Change = Callable[[bool], Answer]


repo = typer.Typer(
    name="repo",
    help="A repository of bundles: make it, look at it, renew its signatures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Repo = Annotated[
    Path | None,
    typer.Option("--repo", envvar="BUNDLES_REPO", help="The repository's directory."),
]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--keys",
        envvar="BUNDLES_KEYS",
        help="Where private keys are, such as a USB stick; repeat it. Then REPO/keys is looked in.",
    ),
]
Passphrase_File = Annotated[
    Path | None,
    typer.Option(
        help="A file with the passphrase (several: one a line). "
        "Else BUNDLES_PASSPHRASE, else you are asked."
    ),
]
Channel = Literal["pilot", "stable"]
Clock_Is_Right = Annotated[
    bool, typer.Option("--clock-is-right", help="Sign though the clock seems wrong.")
]


@dataclass(frozen=True)
class RepositoryOptions:
    """Which repository, and what signs in it."""

    repository: Repo = None
    keys: Keys = None
    passphrase_file: Passphrase_File = None

    def publisher(self) -> Publisher:
        """Who changes the repository.

        Raises:
            InputError: no repository is given.
        """
        return _publisher(self.repository, self.keys, self.passphrase_file)


Again = Annotated[bool, typer.Option("--again", help="Though it was withdrawn before.")]
Reason = Annotated[
    str | None, typer.Option(help="Kept in the log of changes (`bundles repo log`).")
]
Rollout = Annotated[
    int, typer.Option(min=1, max=100, help="Percent of the channel's machines; 100: settled.")
]


@dataclass(frozen=True)
class AddOptions:
    """To whom a new bundle is offered, and why."""

    channel: Annotated[Channel, typer.Option(help="Whose machines get it.")] = "pilot"
    rollout: Rollout = 100
    again: Again = False
    force: Annotated[bool, typer.Option("--force", help="Though it was made with --quick.")] = False
    reason: Reason = None


@dataclass(frozen=True)
class PromoteOptions:
    """To whom a bundle of pilot is offered."""

    to: Annotated[Channel, typer.Option(help="Whose machines get it.")]
    rollout: Rollout = 10
    again: Again = False


@dataclass(frozen=True)
class ChangeOptions:
    """Whether it is done, and why."""

    reason: Reason = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be; change nothing.")
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask (only a terminal is asked).")
    ] = False

    def carry_out(
        self, where: Publisher, change: Change, tell: Tell, words: Words, *, as_json: bool
    ) -> None:
        """Say what would be, ask, do it, and note it down; as far as that is wanted.

        Args:
            where: the repository.
            change: makes the change; given True, only says what would be.
            tell: shows an answer.
            words: of the answer.
            as_json: for a program, which is not asked.
        """
        from agent.terminal.console import ask, note
        from bundles.repository.changes import checked_reason, note_change
        from bundles.repository.words import told_first

        reason = checked_reason(self.reason)
        if self.dry_run:
            tell({**change(True), "dry_run": True}, told_first(words))
            return
        if not (self.yes or as_json) and sys.stdin.isatty():
            tell(change(True), told_first(words))
            if not ask("Do it?"):
                note("Nothing was changed.")
                raise typer.Exit(Exit.NOTHING_TO_DO)
        done = change(False)
        if done["changed"]:
            note_change(where, done, reason)
        tell(done, words)


@dataclass(frozen=True)
class FleetOptions:
    """Whose word is asked before a bundle goes to all machines."""

    fleet: Annotated[
        str | None,
        typer.Option(
            "--fleet",
            envvar="BUNDLES_FLEET",
            help="Ask this centre's fleet first (to stable only).",
        ),
    ] = None
    fleet_token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="BUNDLES_FLEET_TOKEN_FILE", help="A file with a staff token of the fleet."
        ),
    ] = None
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Though the fleet is against it, or it was made with --quick."
        ),
    ] = False


def attach(app: typer.Typer) -> None:
    """Add the commands to the ``bundles`` app."""
    app.add_typer(repo)
    for function, name, example in _COMMANDS:
        app.command(name, epilog=f"Example: `{example}`")(function)


@repo.command("init", epilog="Example: `bundles repo init /srv/bundles --keys /media/stick`")
def repo_init(
    directory: Annotated[Path, typer.Argument(help="To be made.")],
    root_keys: Annotated[int, typer.Option(min=1, max=20, help="How many.")] = 3,
    threshold: Annotated[int, typer.Option(min=1, max=20, help="How many must sign.")] = 2,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="Where all keys but the online key go. [DIRECTORY/keys]"),
    ] = None,
    passphrase_file: Passphrase_File = None,
    as_json: As_Json = False,
) -> None:
    """Make a repository with new keys: 3 root keys of which 2 must sign, and one for each role."""
    with telling(as_json) as tell:
        from bundles.repository import making, words

        where = _publisher(directory, [keys] if keys else [], passphrase_file)
        tell(making.make_repository(where, root_keys, threshold, keys), words.told_init)


@repo.command("check", epilog="Example: `bundles repo check /srv/bundles`")
def repo_check(
    directory: Annotated[
        Path | None,
        typer.Argument(help="A repository, or an export of one.", envvar="BUNDLES_REPO"),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The root that machines trust. [the first one there]")
    ] = None,
    as_json: As_Json = False,
) -> None:
    """Do all that a machine would do, and say how long signatures hold. Changes nothing."""
    with telling(as_json) as tell:
        from bundles.repository import check, words

        found = check.check_repository(_publisher(directory), root)
        tell(found, words.told_check)
        if not found["ok"]:
            raise typer.Exit(Exit.NOT_TRUSTED)


@repo.command("status", epilog="Example: `bundles repo status /srv/bundles`")
def repo_status(
    directory: Annotated[
        Path | None, typer.Argument(help="The repository.", envvar="BUNDLES_REPO")
    ] = None,
    as_json: As_Json = False,
) -> None:
    """Show what each channel offers, and how long signatures hold. Changes nothing."""
    with telling(as_json) as tell:
        from bundles.repository import check, words

        tell(check.repository_status(_publisher(directory)), words.told_status)


@repo.command("log", epilog="Example: `bundles repo log /srv/bundles`")
def repo_log(
    directory: Annotated[
        Path | None, typer.Argument(help="The repository.", envvar="BUNDLES_REPO")
    ] = None,
    as_json: As_Json = False,
) -> None:
    """Show what was offered and withdrawn, when, by whom and why. Changes nothing."""
    with telling(as_json) as tell:
        from bundles.repository import changes, words

        tell(changes.read_changes(_publisher(directory)), words.told_log)


@repo.command("renew", epilog="Example: `bundles repo renew pilot --repo /srv/bundles`")
@with_records
def repo_renew(
    role: Annotated[str, typer.Argument(help="`root`, `targets`, `pilot` or `stable`.")],
    there: RepositoryOptions,
    as_json: As_Json = False,
) -> None:
    """Sign a role again as it is, before its signature ends."""
    with telling(as_json) as tell:
        from bundles.repository import renewal, words

        tell(renewal.renew_role(there.publisher(), role), words.told_renewal)


@with_records
def add(
    bundle: Annotated[Path, typer.Argument(help="The bundle's directory.")],
    offer: AddOptions,
    there: RepositoryOptions,
    as_json: As_Json = False,
) -> None:
    """Check a bundle as machines will, sign it, and offer it to machines of a channel."""
    with telling(as_json) as tell:
        from bundles.repository import publish, words

        where = there.publisher()
        to = publish.Audience(offer.channel, offer.rollout, offer.again, offer.force)

        def change(_: bool) -> Answer:
            return publish.add_bundle(where, bundle, to)

        done = ChangeOptions(offer.reason, yes=True)
        done.carry_out(where, change, tell, words.told_offer, as_json=as_json)


@with_records
def promote(
    name: Annotated[str, typer.Argument(help="A bundle of pilot: NAME or NAME@VERSION.")],
    offer: PromoteOptions,
    asked: FleetOptions,
    done: ChangeOptions,
    there: RepositoryOptions,
    as_json: As_Json = False,
) -> None:
    """Offer the same bytes to another channel, or to more machines of pilot."""
    with telling(as_json) as tell:
        from bundles.repository import publish, words

        where = there.publisher()
        if asked.fleet and offer.to != "pilot" and not asked.force:
            from bundles.repository import ask_fleet

            wanted = publish.bundle_to_promote(where, name, offer.to)
            ask_fleet.require_promote(asked.fleet, asked.fleet_token_file, wanted)

        def change(dry_run: bool) -> Answer:
            audience = publish.Audience(offer.to, offer.rollout, offer.again, asked.force, dry_run)
            return publish.promote_bundle(where, name, audience)

        done.carry_out(where, change, tell, words.told_offer, as_json=as_json)


@with_records
def withdraw(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    *,
    channel: Annotated[
        Channel | None, typer.Option(help="One channel only. [all that know it]")
    ] = None,
    done: ChangeOptions,
    there: RepositoryOptions,
    as_json: As_Json = False,
) -> None:
    """Send machines back to the bundle before, by a newer signature."""
    with telling(as_json) as tell:
        from bundles.repository import publish, words

        where = there.publisher()

        def change(dry_run: bool) -> Answer:
            return publish.withdraw_bundle(where, name, channel, dry_run=dry_run)

        done.carry_out(where, change, tell, words.told_withdraw, as_json=as_json)


def timestamp(
    clock_is_right: Clock_Is_Right = False,
    repository: Repo = None,
    keys: Keys = None,
    as_json: As_Json = False,
) -> None:
    """Renew the short-lived signatures; say how long each holds. For a timer, every day."""
    with telling(as_json) as tell:
        from bundles.repository import renewal, words

        where = _publisher(repository, keys)
        done = renewal.renew_online(where, clock_is_right=clock_is_right)
        tell(done, words.told_timestamp)
        if any(note["code"] == "expired" for note in done["notes"]):
            raise typer.Exit(Exit.NOT_TRUSTED)  # a timer that fails is seen


@with_records
def rotate_key(
    role: Annotated[
        str,
        typer.Argument(help="`root`, `targets`, `pilot`, `stable`, `online`; or a key: `root-2`."),
    ],
    *,
    new_key_in: Annotated[
        Path | None,
        typer.Option(help="Where the new key goes, such as a USB stick. [REPO/keys]"),
    ] = None,
    clock_is_right: Clock_Is_Right = False,
    there: RepositoryOptions,
    as_json: As_Json = False,
) -> None:
    """Replace a key: lost, stolen, or as a drill. Machines follow by themselves."""
    with telling(as_json) as tell:
        from bundles.repository import rotation, words

        where = there.publisher()
        done = rotation.replace_key(where, role, new_key_in, clock_is_right=clock_is_right)
        tell(done, words.told_rotation)


def export_repository(
    directory: Annotated[Path, typer.Argument(help="A new directory, or an earlier export.")],
    air_gap: Annotated[
        bool, typer.Option("--air-gap", help="With signatures of its own that hold long.")
    ] = False,
    valid: Annotated[
        str | None, typer.Option(help="With --air-gap: how long they hold. [400d]")
    ] = None,
    repository: Repo = None,
    keys: Keys = None,
    as_json: As_Json = False,
) -> None:
    """Copy what machines need to a USB stick (--air-gap) or a web server's directory."""
    with telling(as_json) as tell:
        from bundles.repository import stick, words

        if valid and not air_gap:
            raise InputError("--valid is for a copy with signatures of its own", "Add --air-gap.")
        life = stick.parse_valid(valid or "400d") if air_gap else None
        where = _publisher(repository, keys)
        tell(stick.export_copy(where, directory, life), words.told_export)


def serve_repository(
    directory: Annotated[
        Path | None,
        typer.Argument(help="A repository, or an export of one.", envvar="BUNDLES_REPO"),
    ] = None,
    host: Annotated[str, typer.Option(help="Agents take http from loopback only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 8000,
    verbose: Annotated[bool, typer.Option("--verbose", help="A line for every request.")] = False,
    as_json: As_Json = False,
) -> None:
    """Serve a repository on this machine, for trying it out; stop with Ctrl-C."""
    with telling(as_json) as tell:
        from agent.terminal.console import note
        from bundles.repository import serve as server
        from bundles.repository import words

        public = server.public_of(_required(directory))
        made = server.Server(public, host, port, note if verbose else None)
        with server.until_stopped() as stopped, server.serving(made):
            note(f"Serving {public} at {made.url} (stop with Ctrl-C)")
            note(server.what_to_try(public, made.url))
            stopped.wait()
        tell({"action": "serve", "url": made.url, **made.tally.to_json()},
             words.told_requests)  # fmt: skip


_COMMANDS: Sequence[tuple[Callable[..., None], str, str]] = (
    (add, "add", "bundles add my-bundle --channel pilot --rollout 10 --repo /srv/bundles"),
    (promote, "promote", "bundles promote default@4 --to stable --repo /srv/bundles"),
    (withdraw, "withdraw", "bundles withdraw default@4 --repo /srv/bundles"),
    (timestamp, "timestamp", "bundles timestamp --repo /srv/bundles"),
    (rotate_key, "rotate-key", "bundles rotate-key pilot --keys /media/a --new-key-in /media/b"),
    (export_repository, "export", "bundles export --air-gap --valid 400d /media/stick/bundles"),
    (serve_repository, "serve", "bundles serve /srv/bundles"),
)


def _required(directory: Path | None) -> Path:
    if directory is None:
        raise InputError("which repository?", "Give --repo DIR, or set BUNDLES_REPO.")
    return Path(os.path.abspath(directory))  # noqa: PTH100  `.` and `..` must have names


def _publisher(
    directory: Path | None, keys: Sequence[Path] | None = None, passphrases: Path | None = None
) -> Publisher:
    import getpass
    from datetime import UTC, datetime

    from bundles.repository.passphrases import Passphrases
    from bundles.repository.publisher import publisher_at

    ask = getpass.getpass if sys.stdin.isatty() else None
    said = Passphrases(passphrases, os.environ, ask)
    return publisher_at(_required(directory), datetime.now(UTC), said, keys or ())
