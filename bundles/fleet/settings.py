"""How a centre is run; the command line makes one of these."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

THRESHOLD = 10
LATE_WEEKS = 1
LOOPBACK = ("127.0.0.1", "::1")
SignIn = Literal["password", "header", "oidc"]


def utc_now() -> datetime:
    """The clock, unless a test brings its own."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class VerdictLimits:
    """From when on, and how strictly, a bundle of pilot is judged.

    Attributes:
        fewest: machines on either side; with fewer it is not judged.
        worse_by: log error that pilot may be worse than stable (0.02: 2 %).
        most_refused: share of the machines that were offered it which may refuse it.
    """

    fewest: int = 50
    worse_by: float = 0.02
    most_refused: float = 0.10


USUAL_LIMITS = VerdictLimits()


@dataclass(frozen=True)
class OidcProvider:
    """An identity provider, by its discovery document."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class CentreSettings:
    """Of one centre.

    Attributes:
        database: its address, ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        public_url: as browsers know it; with https, cookies travel on https only.
        threshold: fewer machines than this are never shown; the database keeps it (``rules``).
        limits: of verdicts.
        late_weeks: for how many weeks after its end reports of a week are taken; kept too.
        release_every_s: seconds between releases of what was reported.
        tokens_needed: whether machines must present a token.
        per_minute: reports that one token may send in a minute.
        sign_in: how staff are known.
        proxy_header: with ``header``: which one names the person.
        proxies: with ``header``: addresses whose word is taken.
        oidc: with ``oidc``.
        allowed: with ``header`` and ``oidc``: names, or ``@DOMAIN`` of names, that may read; empty:
            whoever is vouched for.
        docs_url: where the documents are, as mkdocs makes them; empty: nowhere.
        sample: what is shown is invented, and every page says so.
        clock: injected in tests.
        seconds: of a clock that only goes on, for limits; injected in tests.
    """

    database: str
    public_url: str = "http://127.0.0.1:8001"
    threshold: int = THRESHOLD
    limits: VerdictLimits = USUAL_LIMITS
    late_weeks: int = LATE_WEEKS
    release_every_s: int = 86_400
    tokens_needed: bool = True
    per_minute: int = 6_000
    sign_in: SignIn = "password"
    proxy_header: str = "X-Forwarded-User"
    proxies: tuple[str, ...] = LOOPBACK
    oidc: OidcProvider | None = None
    allowed: tuple[str, ...] = ()
    docs_url: str = ""
    sample: bool = False
    clock: Callable[[], datetime] = utc_now
    seconds: Callable[[], float] = time.monotonic

    @property
    def secure(self) -> bool:
        """Whether browsers come by https."""
        return self.public_url.startswith("https://")
