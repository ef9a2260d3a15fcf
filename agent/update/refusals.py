"""Why a repository is refused: python-tuf's errors in people's words."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Root, Snapshot, Timestamp

from agent.errors import UnreachableError, UntrustedError
from agent.update.source import TELL, Source, StatusError
from agent.web import printable

# A clock so far after the newest signature ever seen is more likely wrong than right.
LONG_S = 3_650 * 86_400.0
_ROLE = re.compile(r"(?:New |Final )?(?P<role>\w+)(?:\.json)? (?:is expired|was signed by )")
_OLDER = re.compile(
    r"must be >=|\.json version "
)  # the others: Expected NAME vN or version N, got M
_OLD_COPY = "It is an old copy of the repository, or someone replays one. Nothing was changed."
_BY_OUR_ROOT = (Root.type, Timestamp.type)  # what is verified first, by the root.json placed here
_ANOTHER_ROOT = (
    "Nothing was changed. The root.json of this machine may be another centre's: compare it with"
    " the one that the people who run the repository give out (--root FILE). If it is theirs, tell"
    " them."
)
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp() - 1


class OlderError(RepositoryError):
    """Something is older than what this machine has seen."""


@contextlib.contextmanager
def in_words(source: Source, signed_at: float = 0.0, now: float | None = None) -> Iterator[None]:
    """Turn what python-tuf raises into UnreachableError and UntrustedError.

    Args:
        source: the repository that is asked.
        signed_at: the newest time of signing seen before (0: none), in seconds since 1970.
        now: this machine's clock.
    """
    try:
        yield
    except ExpiredMetadataError as error:
        clock = time.time() if now is None else now
        raise UntrustedError(
            f"what {source.name} offers is out of date: {plain(error)}",
            _why_expired(_role_of(error), clock, signed_at),
        ) from error
    except OlderError as error:
        raise UntrustedError(f"{source.name}: {plain(error)}", _OLD_COPY) from error
    except BadVersionNumberError as error:
        raise _wrong_version(source, error) from error
    except UnsignedMetadataError as error:
        raise UntrustedError(
            f"{source.name} offers what cannot be trusted: {plain(error)}",
            _ANOTHER_ROOT if _role_of(error) in _BY_OUR_ROOT else TELL,
        ) from error
    except DownloadLengthMismatchError as error:
        words = f"{source.name} sends more than it may: {plain(error)}"
        raise UntrustedError(words, TELL) from error
    except StatusError as error:
        raise _not_given(source, error) from error
    except DownloadError as error:
        raise UnreachableError(f"{source.name}: {plain(error)}") from error
    except (RepositoryError, ValueError) as error:
        # ValueError: what python-tuf raises where signed metadata contradict themselves, such as
        # a role delegated to keys that are not listed.
        raise UntrustedError(
            f"{source.name} offers what cannot be trusted: {plain(error)}",
            f"{TELL} A proxy that answers with a page of its own looks like this too.",
        ) from error


def _role_of(error: RepositoryError) -> str:
    """The role that an error of python-tuf or of ours is about; "" where it does not say."""
    found = _ROLE.match(str(error))
    return found["role"] if found else ""


def _wrong_version(source: Source, error: BadVersionNumberError) -> UntrustedError:
    """Older than what python-tuf has in its cache; or parts of two versions together."""
    if _OLDER.search(str(error)):
        return UntrustedError(
            f"{source.name} is older than what this machine has already seen ({plain(error)})",
            _OLD_COPY,
        )
    return UntrustedError(
        f"{source.name} has files that do not belong together: {plain(error)}",
        f"It may be a copy that was made while it was being published. {TELL}",
    )


def _why_expired(role: str, now: float, signed_at: float) -> str:
    renewal = f"`bundles repo renew {role}`"
    if role in (Snapshot.type, Timestamp.type):
        renewal = "`bundles timestamp`, every day"
    centre = f"the centre has not renewed it ({renewal})"
    clock = f"the clock of this machine is wrong: it says {day(now)}"
    if signed_at and now > signed_at + LONG_S:
        return f"Most likely {clock}. If it is right, {centre}."
    return f"Either {centre}, or {clock}."


def _not_given(source: Source, error: StatusError) -> UnreachableError:
    missing = error.status_code == 404
    if missing and error.file == "timestamp.json":
        return UnreachableError(
            f"there is no bundle repository at {source.name}",
            "A repository is what holds `metadata` and `targets`; check the URL or the directory.",
        )
    if missing:
        return UnreachableError(
            f"{source.name} has no {error.file}, though it says so itself",
            "It may be in the middle of being published, or half copied. Try again later.",
        )
    return UnreachableError(
        f"{source.name} does not give {error.file} (HTTP {error.status_code})",
        "If the server asks for a log-in, put it into ~/.netrc. Else try again later.",
    )


def date(seconds: float) -> datetime:
    """A point in time, however far off a clock may be."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)


def day(seconds: float) -> str:
    """A point in time as people read it."""
    return f"{date(seconds):%Y-%m-%d %H:%M} UTC"


def plain(error: BaseException) -> str:
    """An error's words, safe to print: some of them come from the repository."""
    return printable(str(error) or type(error).__name__)
