"""``bundles fleet ...``: parse, one call, show. Heavy imports wait for the call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from agent.errors import InputError
from agent.terminal.console import note
from agent.terminal.options import with_records
from bundles.fleet.options import DEFAULT_DATABASE, Database_Option, ServeOptions
from bundles.repository.telling import telling
from bundles.terminal import As_Json, needs, say

if TYPE_CHECKING:
    from bundles.fleet.storage.database import Database

fleet = typer.Typer(
    name="fleet",
    help="The centre: take machines' reports, and see how bundles do.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
token = typer.Typer(help="Tokens: of machines that report, of programs that read.",
                    no_args_is_help=True, rich_markup_mode=None)  # fmt: skip
user = typer.Typer(help="People who sign in with a password.",
                   no_args_is_help=True, rich_markup_mode=None)  # fmt: skip
fleet.add_typer(token, name="token")
fleet.add_typer(user, name="user")


@fleet.command(
    "serve",
    epilog="Example: `bundles fleet serve --database postgresql://fleet@db/fleet "
    "--public-url https://fleet.example.org`",
)
@with_records
def serve_fleet(options: ServeOptions) -> None:
    """Take reports and show the fleet; stop with Ctrl-C."""
    _needs_extra()
    from bundles.fleet.counting.rules import adopt_rules
    from bundles.fleet.server import run_centre
    from bundles.fleet.storage.database import database_errors_explained, open_database, public_name

    database = open_database(options.database)
    try:
        with database_errors_explained(options.database):
            threshold, late_weeks = adopt_rules(
                database, options.threshold, options.late_weeks, lower=options.lower_threshold
            )
    finally:
        database.close()
    note(f"Database: {public_name(options.database)}")
    run_centre(options.settings(threshold, late_weeks), options.host, options.port)


@fleet.command("import", epilog="Example: `bundles fleet import /media/stick/reports.jsonl --json`")
def import_reports(
    file: Annotated[Path, typer.Argument(help="Made by `agent report --export`.")],
    database: Database_Option = DEFAULT_DATABASE,
    as_json: As_Json = False,
) -> None:
    """Count reports that were carried here in a file; those known already count once."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.counting.carried import take_file
        from bundles.fleet.settings import utc_now

        tell(opened.named(take_file(opened.database, file, utc_now())), words.told_import)


@fleet.command("release", epilog="Example: `bundles fleet release`")
def release_counts(
    database: Database_Option = DEFAULT_DATABASE,
    clock_is_right: Annotated[
        bool,
        typer.Option("--clock-is-right", help="The centre was off; close all weeks since then."),
    ] = False,
    as_json: As_Json = False,
) -> None:
    """Release what is ready now; a running centre does it by itself."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.counting.release import release_ready, still_waiting
        from bundles.fleet.settings import utc_now

        machines = release_ready(opened.database, utc_now(), sure=clock_is_right)
        with opened.database.reading() as connection:
            waiting = still_waiting(connection)
        told = {"action": "release", "machines": machines, **waiting._asdict()}
        tell(opened.named(told), words.told_release)


@fleet.command("reopen", epilog="Example: `bundles fleet reopen 2026-W48`")
def reopen_closed(
    week: Annotated[
        str, typer.Argument(help="Which one it is now, so that the clock is looked at.")
    ],
    database: Database_Option = DEFAULT_DATABASE,
    as_json: As_Json = False,
) -> None:
    """Open weeks again that a clock closed which was ahead. Their dedupe values are gone."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.counting import rules, weeks
        from bundles.fleet.settings import utc_now

        try:
            this_week = weeks.parse_week(week)
        except ValueError as error:
            raise InputError(f"{week!r} is no week", "Write it like 2026-W48.") from error
        before, closed = rules.reopen_weeks(opened.database, utc_now(), this_week)
        told = {"before": weeks.week_text(before), "closed": weeks.week_text(closed)}
        tell(opened.named({"action": "reopen", **told}), words.told_reopened)


@fleet.command("demo", epilog="Example: `bundles fleet demo fleet-demo`, then open what it prints.")
def demo_fleet(
    directory: Annotated[Path, typer.Argument(help="To be made: database and machines.")],
    machines: Annotated[int, typer.Option(min=2, max=100, help="Of each channel.")] = 6,
    budget: Annotated[str, typer.Option(help="Time of each calibration, such as 8s.")] = "8s",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 8001,
    serve_it: Annotated[bool, typer.Option("--serve/--no-serve", help="Show it then.")] = True,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="An invented fleet instead, in seconds; its pages say so."),
    ] = False,
) -> None:
    """Let real agents calibrate on this machine, and show what they report (some minutes)."""
    _needs_extra()
    from dataclasses import replace

    from bundles.fleet.demo import make_demo, make_sample, settings_of
    from bundles.fleet.server import run_centre
    from bundles.fleet.settings import THRESHOLD

    settings = settings_of(directory, port)
    if sample:
        make_sample(directory, say)
        settings = replace(settings, sample=True, threshold=THRESHOLD)
    else:
        make_demo(directory, machines, budget, say)
    if serve_it:
        run_centre(settings, "127.0.0.1", port)


@token.command("add", epilog="Example: `bundles fleet token add plant-nord`")
def token_add(
    name: Annotated[str, typer.Argument(help="Of the site or program that gets it.")],
    kind: Annotated[
        Literal["machine", "staff"], typer.Option(help="May report, or may read.")
    ] = "machine",
    database: Database_Option = DEFAULT_DATABASE,
    as_json: As_Json = False,
) -> None:
    """Make a token; it is shown once, and only its hash is kept."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.access import credentials

        secret = credentials.add_token(opened.database, name, kind, _now_s())
        made = {"action": "token-add", "name": name, "kind": kind, "token": secret}
        tell(opened.named(made), words.told_token)
        if not as_json:
            note(words.token_use(made))


@token.command("list", epilog="Example: `bundles fleet token list --json`")
def token_list(database: Database_Option = DEFAULT_DATABASE, as_json: As_Json = False) -> None:
    """Name every token, and whether it is in use."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.access import credentials

        with opened.database.reading() as connection:
            found = [each._asdict() for each in credentials.all_tokens(connection)]
        tell(opened.named({"action": "token-list", "tokens": found}), words.told_tokens)


@token.command("revoke", epilog="Example: `bundles fleet token revoke plant-nord`")
def token_revoke(
    name: Annotated[str, typer.Argument(help="Of the token.")],
    database: Database_Option = DEFAULT_DATABASE,
    as_json: As_Json = False,
) -> None:
    """Refuse a token from now on; a running centre knows within five seconds."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.access import credentials

        credentials.revoke_token(opened.database, name, _now_s())
        tell(opened.named({"action": "token-revoke", "name": name}), words.told_revoked)


@user.command("add", epilog="Example: `bundles fleet user add ada`")
def user_add(
    name: Annotated[str, typer.Argument(help="To sign in with.")],
    password_file: Annotated[
        Path | None, typer.Option(help="A file with the password. [you are asked]")
    ] = None,
    database: Database_Option = DEFAULT_DATABASE,
    as_json: As_Json = False,
) -> None:
    """Let somebody sign in, or give them a new password (it ends their sessions)."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.access import credentials

        credentials.set_password(opened.database, name, _password(password_file))
        tell(opened.named({"action": "user-add", "name": name}), words.told_user)


@user.command("list", epilog="Example: `bundles fleet user list --json`")
def user_list(database: Database_Option = DEFAULT_DATABASE, as_json: As_Json = False) -> None:
    """Name everybody who signs in with a password."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.access import credentials

        with opened.database.reading() as connection:
            found = credentials.all_users(connection)
        tell(opened.named({"action": "user-list", "users": found}), words.told_users)


@user.command("remove", epilog="Example: `bundles fleet user remove ada`")
def user_remove(
    name: Annotated[str, typer.Argument(help="Who signs in no more.")],
    database: Database_Option = DEFAULT_DATABASE,
    as_json: As_Json = False,
) -> None:
    """End somebody's sessions, and let them sign in no more."""
    with telling(as_json) as tell, _open(database) as opened:
        from bundles.fleet import words
        from bundles.fleet.access import credentials

        credentials.remove_user(opened.database, name)
        tell(opened.named({"action": "user-remove", "name": name}), words.told_no_user)


class _Opened(NamedTuple):
    """A database that is there, and what it is called."""

    database: Database
    name: str

    def named(self, answer: Mapping[str, object]) -> dict[str, object]:
        return {**answer, "database": self.name}


@contextlib.contextmanager
def _open(address: str) -> Iterator[_Opened]:
    """Of what a centre made; says which it is, as the default depends on the current directory."""
    _needs_extra()
    from bundles.fleet.storage.database import database_errors_explained, open_database, public_name

    database = open_database(address, create=False)
    try:
        note(f"Database: {public_name(address)}")
        with database_errors_explained(address):
            yield _Opened(database, public_name(address))
    finally:
        database.close()


def _needs_extra() -> None:
    needs("alembic", "argon2", "jinja2", "joserfc", "msgspec", "sqlalchemy", "starlette",
          "uvicorn", install="'calibration-agent[fleet]'")  # fmt: skip


def _password(file: Path | None) -> str:
    if file is not None:
        return file.read_text(errors="replace").rstrip("\n")
    import getpass
    import sys

    if not sys.stdin.isatty():
        raise InputError("there is nobody to ask for a password", "Give --password-file FILE.")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != first:
        raise InputError("the two are not the same", "Try again.")
    return first


def _now_s() -> int:
    import time

    return int(time.time())
