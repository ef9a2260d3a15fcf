"""``bundles fleet ...``: parse, one call, show. Heavy imports wait for the call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from agent.errors import InputError
from agent.terminal.console import note
from bundles.repository.telling import telling
from bundles.terminal import As_Json, needs, say

fleet = typer.Typer(
    name="fleet",
    help="The centre: take machines' reports, and see how bundles do.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
token = typer.Typer(help="Tokens: of machines that report, of programs that read.",
                    no_args_is_help=True, rich_markup_mode="markdown")  # fmt: skip
user = typer.Typer(help="People who sign in with a password.",
                   no_args_is_help=True, rich_markup_mode="markdown")  # fmt: skip
fleet.add_typer(token, name="token")
fleet.add_typer(user, name="user")
DEFAULT_DATABASE = "sqlite:///fleet.db"
Database_Option = Annotated[
    str,
    typer.Option(
        "--database",
        envvar="FLEET_DATABASE",
        help="`sqlite:///FILE` or `postgresql://USER@HOST/NAME` (password: PGPASSWORD, .pgpass).",
    ),
]
KEPT = "It is kept in the database, for all commands."


@fleet.command(
    epilog="Example: `bundles fleet serve --database postgresql://fleet@db/fleet "
    "--public-url https://fleet.example.org`"
)
def serve(
    database: Database_Option = DEFAULT_DATABASE,
    host: Annotated[str, typer.Option(help="To listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 8001,
    public_url: Annotated[
        str, typer.Option(help="As browsers know it; https: cookies need it. [http://HOST:PORT]")
    ] = "",
    threshold: Annotated[
        int | None,
        typer.Option(
            min=2, max=10_000, help=f"Fewer machines than this are never shown. {KEPT} [10]"
        ),
    ] = None,
    lower_threshold: Annotated[
        bool, typer.Option("--lower-threshold", help="Take a lower --threshold than is kept.")
    ] = False,
    late_weeks: Annotated[
        int | None,
        typer.Option(
            min=0, max=52, help=f"Weeks after its end that reports of a week are taken. {KEPT} [1]"
        ),
    ] = None,
    release_every: Annotated[
        int, typer.Option(min=1, max=168, help="Hours between releases of counts.")
    ] = 24,
    without_tokens: Annotated[
        bool, typer.Option("--without-tokens", help="Take reports from anybody who can connect.")
    ] = False,
    per_minute: Annotated[int, typer.Option(min=1, help="Reports of one token.")] = 6_000,
    sign_in: Annotated[
        Literal["password", "header", "oidc"], typer.Option(help="How staff are known.")
    ] = "password",
    proxy_header: Annotated[
        str, typer.Option(help="With `header`: which one names the person.")
    ] = "X-Forwarded-User",
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="With `header`: an address whose word is taken; repeat it. [loopback]"),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="With `header` and `oidc`: a name, or @DOMAIN, that may read; repeat it. [all]"
        ),
    ] = None,
    oidc_issuer: Annotated[str, typer.Option(help="With `oidc`: the provider's URL.")] = "",
    oidc_client: Annotated[str, typer.Option(help="With `oidc`: who this is to it.")] = "",
    oidc_secret_file: Annotated[
        Path | None, typer.Option(help="With `oidc`: a file with the client's secret.")
    ] = None,
) -> None:
    """Take reports and show the fleet; stop with Ctrl-C."""
    _needs_extra()
    from bundles.fleet.counting.rules import adopt
    from bundles.fleet.server import run
    from bundles.fleet.settings import Settings
    from bundles.fleet.storage.database import name, opened

    made = opened(database)
    try:
        hidden, late = adopt(made, threshold, late_weeks, lower=lower_threshold)
    finally:
        made.close()
    note(f"Database: {name(database)}")
    more: dict[str, Any] = {"proxies": tuple(proxy)} if proxy else {}
    here = f"[{host}]" if ":" in host else host
    run(
        Settings(
            database,
            public_url or f"http://{here}:{port}",
            threshold=hidden,
            late_weeks=late,
            release_every_s=release_every * 3600,
            tokens_needed=not without_tokens,
            per_minute=per_minute,
            sign_in=sign_in,
            proxy_header=proxy_header,
            oidc=_oidc(oidc_issuer, oidc_client, oidc_secret_file) if sign_in == "oidc" else None,
            allowed=tuple(allow or ()),
            **more,
        ),
        host,
        port,
    )


@fleet.command("import", epilog="Example: `bundles fleet import /media/stick/reports.jsonl --json`")
def import_(
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


@fleet.command(epilog="Example: `bundles fleet release`")
def release(
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
        from bundles.fleet.counting.release import release as releasing
        from bundles.fleet.settings import utc_now

        machines = releasing(opened.database, utc_now(), sure=clock_is_right)
        tell(opened.named({"action": "release", "machines": machines}), words.told_release)


@fleet.command(epilog="Example: `bundles fleet reopen 2026-W48`")
def reopen(
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
            this_week = weeks.parse(week)
        except ValueError as error:
            raise InputError(f"{week!r} is no week", "Write it like 2026-W48.") from error
        before, closed = rules.reopen(opened.database, utc_now(), this_week)
        told = {"before": weeks.shown(before), "closed": weeks.shown(closed)}
        tell(opened.named({"action": "reopen", **told}), words.told_reopened)


@fleet.command(epilog="Example: `bundles fleet demo fleet-demo`, then open what it prints.")
def demo(
    directory: Annotated[Path, typer.Argument(help="To be made: database and machines.")],
    machines: Annotated[int, typer.Option(min=2, max=100, help="Of each channel.")] = 6,
    budget: Annotated[str, typer.Option(help="Time of each calibration, such as 8s.")] = "8s",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 8001,
    serve_it: Annotated[bool, typer.Option("--serve/--no-serve", help="Show it then.")] = True,
) -> None:
    """Let real agents calibrate on this machine, and show what they report (some minutes)."""
    _needs_extra()
    from bundles.fleet.demo import make, settings_of
    from bundles.fleet.server import run

    make(directory, machines, budget, say)
    if serve_it:
        run(settings_of(directory, port), "127.0.0.1", port)


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

    database: Any
    name: str

    def named(self, answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"database": self.name}


@contextlib.contextmanager
def _open(address: str) -> Iterator[_Opened]:
    """Of what a centre made; says which it is, as the default depends on the current directory."""
    _needs_extra()
    from bundles.fleet.storage.database import name, opened

    database = opened(address, create=False)
    try:
        note(f"Database: {name(address)}")
        yield _Opened(database, name(address))
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


def _oidc(issuer: str, client: str, secret_file: Path | None) -> Any:
    from bundles.fleet.settings import Oidc

    if not (issuer and client and secret_file):
        hint = "Give --oidc-issuer, --oidc-client and --oidc-secret-file."
        raise InputError("signing in with OpenID Connect needs three options", hint)
    try:
        return Oidc(issuer, client, secret_file.read_text().strip())
    except OSError as error:
        raise InputError(f"{secret_file}: {error.strerror}", "Give the secret's file.") from error


def _now_s() -> int:
    import time

    return int(time.time())
