"""Points in time: when the centre signed, what the clock says, and what is odd about the two."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Signed

DAY_S = 86_400.0
STALE_S = 14 * DAY_S  # a live timestamp ends after seven days; what is made for sticks does not
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp() - 1


def utc_datetime(seconds: float) -> datetime:
    """A point in time, however far off a clock may be."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)


def utc_minute(seconds: float) -> str:
    """A point in time as people read it."""
    return f"{utc_datetime(seconds):%Y-%m-%d %H:%M} UTC"


def signed_at(timestamp: Signed) -> float:
    """When the centre signed its timestamp, in seconds since 1970.

    Raises:
        RepositoryError: it does not say so.
    """
    text = timestamp.unrecognized_fields.get("signed_at")
    try:
        if not isinstance(text, str) or not _TIME.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        raise RepositoryError("timestamp.json does not say when it was signed") from None


def odd_times(
    newest: float, signed: float, now: float, *, local: bool
) -> tuple[tuple[str, str], ...]:
    """What is odd about the times: the clock, or a server that offers what is on sticks.

    Args:
        newest: time of signing that was ever seen, in seconds since 1970.
        signed: when what is offered was signed.
        now: this machine's clock.
        local: what is offered lies on a medium here.
    """
    if now < newest - DAY_S:
        words = (
            f"the clock of this machine says {utc_minute(now)}, but the repository was signed on"
        )
        return (("clock-behind", f"{words} {utc_minute(newest)}: set the clock"),)
    if not local and now > signed + STALE_S:
        words = (
            f"the repository was last signed on {utc_minute(signed)}, where a live one is signed"
        )
        return (("old-signature", f"{words} every week: it may be an old copy of it"),)
    return ()
