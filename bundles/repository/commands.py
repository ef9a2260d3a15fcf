"""Commands of ``bundles`` that publish: parse, one call, show. Heavy imports wait for the call."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent.errors import AgentError, Exit, InputError

if TYPE_CHECKING:
    from agent.terminal.wording import Block
    from bundles.repository.publish import Place

repo = typer.Typer(
    name="repo",
    help="A repository of bundles: make it, look at it, renew its signatures.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
As_Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
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
Rollout = Annotated[
    int, typer.Option(min=1, max=100, help="Percent of the channel's machines; 100: settled.")
]
Clock_Is_Right = Annotated[
    bool, typer.Option("--clock-is-right", help="Sign though the clock seems wrong.")
]
Fleet = Annotated[
    str | None,
    typer.Option(
        "--fleet", envvar="BUNDLES_FLEET", help="Ask this centre's fleet first (to stable only)."
    ),
]
Fleet_Token = Annotated[
    Path | None,
    typer.Option(envvar="BUNDLES_FLEET_TOKEN_FILE", help="A file with a staff token of the fleet."),
]
Again = Annotated[bool, typer.Option("--again", help="Though it was withdrawn before.")]


def attach(app: typer.Typer) -> None:
    """Add the commands to the ``bundles`` app."""
    app.add_typer(repo)
    for function, name, example in _COMMANDS:
        app.command(name, epilog=f"Example: `{example}`")(function)


@repo.command(epilog="Example: `bundles repo init /srv/bundles --keys /media/stick`")
def init(
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
        from bundles.repository import publish
        from bundles.repository import words as publish_words

        where = _place(directory, [keys] if keys else [], passphrase_file)
        tell(publish.init(where, root_keys, threshold, keys), publish_words.told_init)


@repo.command(epilog="Example: `bundles repo check /srv/bundles`")
def check(
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
        from bundles.repository import check as repo_check
        from bundles.repository import words as publish_words

        found = repo_check.check(_place(directory, [], None), root)
        tell(found, publish_words.told_check)
        if not found["ok"]:
            raise typer.Exit(Exit.NOT_TRUSTED)


@repo.command(epilog="Example: `bundles repo status /srv/bundles`")
def status(
    directory: Annotated[
        Path | None, typer.Argument(help="The repository.", envvar="BUNDLES_REPO")
    ] = None,
    as_json: As_Json = False,
) -> None:
    """Show what each channel offers, and how long signatures hold. Changes nothing."""
    with telling(as_json) as tell:
        from bundles.repository import publish
        from bundles.repository import words as publish_words

        tell(publish.status(_place(directory, [], None)), publish_words.told_status)


@repo.command(epilog="Example: `bundles repo renew pilot --repo /srv/bundles`")
def renew(
    role: Annotated[str, typer.Argument(help="`root`, `targets`, `pilot` or `stable`.")],
    repository: Repo = None,
    keys: Keys = None,
    passphrase_file: Passphrase_File = None,
    as_json: As_Json = False,
) -> None:
    """Sign a role again as it is, before its signature ends."""
    with telling(as_json) as tell:
        from bundles.repository import rotation
        from bundles.repository import words as publish_words

        where = _place(repository, keys, passphrase_file)
        tell(rotation.renew(where, role), publish_words.told_renewal)


def add(
    bundle: Annotated[Path, typer.Argument(help="The bundle's directory.")],
    channel: Annotated[Channel, typer.Option(help="Whose machines get it.")] = "pilot",
    rollout: Rollout = 100,
    again: Again = False,
    repository: Repo = None,
    keys: Keys = None,
    passphrase_file: Passphrase_File = None,
    as_json: As_Json = False,
) -> None:
    """Check a bundle as machines will, sign it, and offer it to machines of a channel."""
    with telling(as_json) as tell:
        from bundles.repository import publish
        from bundles.repository import words as publish_words

        where = _place(repository, keys, passphrase_file)
        done = publish.add(where, bundle, channel, rollout, again=again)
        tell(done, publish_words.told_offer)


def promote(
    name: Annotated[str, typer.Argument(help="A bundle of pilot: NAME or NAME@VERSION.")],
    to: Annotated[Channel, typer.Option(help="Whose machines get it.")],
    rollout: Rollout = 100,
    again: Again = False,
    fleet: Fleet = None,
    fleet_token_file: Fleet_Token = None,
    force: Annotated[bool, typer.Option("--force", help="Though the fleet is against it.")] = False,
    repository: Repo = None,
    keys: Keys = None,
    passphrase_file: Passphrase_File = None,
    as_json: As_Json = False,
) -> None:
    """Offer the same bytes to another channel, or to more machines of pilot."""
    with telling(as_json) as tell:
        from bundles.repository import publish
        from bundles.repository import words as publish_words

        where = _place(repository, keys, passphrase_file)
        if fleet and to != "pilot" and not force:
            from bundles.repository import ask_fleet

            wanted = publish.to_promote(where, name, to)
            ask_fleet.require_promote(ask_fleet.ask(fleet, fleet_token_file, wanted), wanted)
        done = publish.promote(where, name, to, rollout, again=again)
        tell(done, publish_words.told_offer)


def withdraw(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    channel: Annotated[
        Channel | None, typer.Option(help="One channel only. [all that know it]")
    ] = None,
    repository: Repo = None,
    keys: Keys = None,
    passphrase_file: Passphrase_File = None,
    as_json: As_Json = False,
) -> None:
    """Send machines back to the bundle before, by a newer signature."""
    with telling(as_json) as tell:
        from bundles.repository import publish
        from bundles.repository import words as publish_words

        where = _place(repository, keys, passphrase_file)
        tell(publish.withdraw(where, name, channel), publish_words.told_withdraw)


def timestamp(
    clock_is_right: Clock_Is_Right = False,
    repository: Repo = None,
    keys: Keys = None,
    as_json: As_Json = False,
) -> None:
    """Renew the short-lived signatures; say how long each holds. For a timer, every day."""
    with telling(as_json) as tell:
        from bundles.repository import publish
        from bundles.repository import words as publish_words

        where = _place(repository, keys, None)
        done = publish.timestamp(where, clock_is_right=clock_is_right)
        tell(done, publish_words.told_timestamp)
        if any(note["code"] == "expired" for note in done["notes"]):
            raise typer.Exit(Exit.NOT_TRUSTED)  # a timer that fails is seen


def rotate_key(
    role: Annotated[
        str,
        typer.Argument(help="`root`, `targets`, `pilot`, `stable`, `online`; or a key: `root-2`."),
    ],
    new_key_in: Annotated[
        Path | None,
        typer.Option(help="Where the new key goes, such as a USB stick. [REPO/keys]"),
    ] = None,
    clock_is_right: Clock_Is_Right = False,
    repository: Repo = None,
    keys: Keys = None,
    passphrase_file: Passphrase_File = None,
    as_json: As_Json = False,
) -> None:
    """Replace a key: lost, stolen, or as a drill. Machines follow by themselves."""
    with telling(as_json) as tell:
        from bundles.repository import rotation
        from bundles.repository import words as publish_words

        where = _place(repository, keys, passphrase_file)
        done = rotation.rotate_key(where, role, new_key_in, clock_is_right=clock_is_right)
        tell(done, publish_words.told_rotation)


def export(
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
        from bundles.repository import stick
        from bundles.repository import words as publish_words

        if valid and not air_gap:
            raise InputError("--valid is for a copy with signatures of its own", "Add --air-gap.")
        life = stick.parse_valid(valid or "400d") if air_gap else None
        where = _place(repository, keys, None)
        tell(stick.export(where, directory, life), publish_words.told_export)


def serve(
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
        from bundles.repository import words as publish_words

        public = server.public_of(_required(directory))
        made = server.Server(public, host, port, note if verbose else None)
        with server.until_stopped() as stopped, server.serving(made):
            note(f"Serving {public} at {made.url} (stop with Ctrl-C)")
            note(f"Try: agent update --check --from {made.url}")
            stopped.wait()
        tell({"action": "serve", "url": made.url, **made.tally.to_json()},
             publish_words.told_requests)  # fmt: skip


_COMMANDS: Sequence[tuple[Callable[..., None], str, str]] = (
    (add, "add", "bundles add my-bundle --channel pilot --rollout 10 --repo /srv/bundles"),
    (promote, "promote", "bundles promote default@4 --to stable --repo /srv/bundles"),
    (withdraw, "withdraw", "bundles withdraw default@4 --repo /srv/bundles"),
    (timestamp, "timestamp", "bundles timestamp --repo /srv/bundles"),
    (rotate_key, "rotate-key", "bundles rotate-key pilot --keys /media/a --new-key-in /media/b"),
    (export, "export", "bundles export --air-gap --valid 400d /media/stick/bundles"),
    (serve, "serve", "bundles serve /srv/bundles"),
)


def _required(directory: Path | None) -> Path:
    if directory is None:
        raise InputError("which repository?", "Give --repo DIR, or set BUNDLES_REPO.")
    return Path(os.path.abspath(directory))  # noqa: PTH100  `.` and `..` must have names


def _place(directory: Path | None, keys: Sequence[Path] | None, passphrases: Path | None) -> Place:
    import getpass
    from datetime import UTC, datetime

    from bundles.repository.keys import Passphrases
    from bundles.repository.publish import place

    ask = getpass.getpass if sys.stdin.isatty() else None
    said = Passphrases(passphrases, os.environ, ask)
    return place(_required(directory), datetime.now(UTC), said, keys or ())


@contextmanager
def telling(as_json: bool) -> Iterator[Callable[[Any, Callable[[Any], list[Block]]], None]]:
    """Shows the answer; an expected failure is an object too, with ``--json``."""
    from agent.terminal import console

    def tell(answer: Any, words: Callable[[Any], list[Block]]) -> None:
        console.answer(answer, None if as_json else words(answer))

    try:
        with _explained():
            yield tell
    except AgentError as error:
        if as_json:
            said = {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}
            console.answer({"error": said}, None)
        raise


@contextmanager
def _explained() -> Iterator[None]:
    """A disk that fails somewhere is no bug of ours."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise AgentError(f"{what}{error.strerror or error}") from error
