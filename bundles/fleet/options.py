"""The options of ``bundles fleet serve``, as one record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agent.errors import InputError
from bundles.fleet.settings import (
    LOOPBACK,
    CentreSettings,
    OidcProvider,
    SignIn,
    VerdictLimits,
)

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


@dataclass(frozen=True)
class ServeOptions:
    """As they are given; the help of each says what it is."""

    database: Database_Option = DEFAULT_DATABASE
    host: Annotated[str, typer.Option(help="To listen on.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 8001
    public_url: Annotated[
        str, typer.Option(help="As browsers know it; https: cookies need it. [http://HOST:PORT]")
    ] = ""
    threshold: Annotated[
        int | None,
        typer.Option(
            min=2, max=10_000, help=f"Fewer machines than this are never shown. {KEPT} [10]"
        ),
    ] = None
    lower_threshold: Annotated[
        bool, typer.Option("--lower-threshold", help="Take a lower --threshold than is kept.")
    ] = False
    judge_from: Annotated[
        int,
        typer.Option(
            min=2,
            help="Machines on pilot, and on stable, from which a bundle is judged; with fewer the "
            "verdict is less often clear, and a bundle that is bad on a kind of machine that none "
            "of them is goes unseen.",
        ),
    ] = VerdictLimits.fewest
    worse_by: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            help="How much larger the errors of a bundle may be than those of stable (0.02: 2 %); "
            "with more a verdict is clear sooner, and a bundle so much worse is promoted.",
        ),
    ] = VerdictLimits.worse_by
    most_refused: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.0,
            help="The share of machines that may refuse a bundle; with more a bundle that is bad "
            "on one kind of machine is promoted.",
        ),
    ] = VerdictLimits.most_refused
    late_weeks: Annotated[
        int | None,
        typer.Option(
            min=0, max=52, help=f"Weeks after its end that reports of a week are taken. {KEPT} [1]"
        ),
    ] = None
    release_every: Annotated[
        int, typer.Option(min=1, max=168, help="Hours between releases of counts.")
    ] = 24
    without_tokens: Annotated[
        bool, typer.Option("--without-tokens", help="Take reports from anybody who can connect.")
    ] = False
    per_minute: Annotated[int, typer.Option(min=1, help="Reports of one token.")] = 6_000
    sign_in: Annotated[SignIn, typer.Option(help="How staff are known.")] = "password"
    proxy_header: Annotated[
        str, typer.Option(help="With `header`: which one names the person.")
    ] = "X-Forwarded-User"
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="With `header`: an address whose word is taken; repeat it. [loopback]"),
    ] = None
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="With `header` and `oidc`: a name, or @DOMAIN, that may read; repeat it. [all]"
        ),
    ] = None
    docs_url: Annotated[
        str, typer.Option(help="Where the documents are served; the pages link there.")
    ] = ""
    oidc_issuer: Annotated[str, typer.Option(help="With `oidc`: the provider's URL.")] = ""
    oidc_client: Annotated[str, typer.Option(help="With `oidc`: who this is to it.")] = ""
    oidc_secret_file: Annotated[
        Path | None, typer.Option(help="With `oidc`: a file with the client's secret.")
    ] = None

    def settings(self, threshold: int, late_weeks: int) -> CentreSettings:
        """How the centre is run, with the rules that its database keeps.

        Raises:
            InputError: --docs-url is no address; an option of OpenID Connect is missing, or its
                secret cannot be read.
        """
        here = f"[{self.host}]" if ":" in self.host else self.host
        return CentreSettings(
            self.database,
            self.public_url or f"http://{here}:{self.port}",
            threshold=threshold,
            limits=VerdictLimits(self.judge_from, self.worse_by, self.most_refused),
            late_weeks=late_weeks,
            release_every_s=self.release_every * 3600,
            tokens_needed=not self.without_tokens,
            per_minute=self.per_minute,
            sign_in=self.sign_in,
            proxy_header=self.proxy_header,
            proxies=tuple(self.proxy or LOOPBACK),
            oidc=self._provider() if self.sign_in == "oidc" else None,
            allowed=tuple(self.allow or ()),
            docs_url=self._documents(),
        )

    def _documents(self) -> str:
        if self.docs_url and not self.docs_url.startswith(("https://", "http://")):
            raise InputError(f"{self.docs_url!r} is no address of a site", "Write https://HOST/.")
        return self.docs_url.rstrip("/")

    def _provider(self) -> OidcProvider:
        file = self.oidc_secret_file
        if not (self.oidc_issuer and self.oidc_client and file):
            hint = "Give --oidc-issuer, --oidc-client and --oidc-secret-file."
            raise InputError("signing in with OpenID Connect needs three options", hint)
        try:
            return OidcProvider(self.oidc_issuer, self.oidc_client, file.read_text().strip())
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}", "Give the secret's file.") from error
