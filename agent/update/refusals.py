"""Why a repository is refused: python-tuf's errors in people's words."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence

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
from agent.update.source import TELL, RepositorySource, StatusError
from agent.update.times import utc_minute
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

Told = tuple[type[UnreachableError | UntrustedError], str, str]  # the error, its words, a hint


class OlderError(RepositoryError):
    """Something is older than what this machine has seen."""


@contextlib.contextmanager
def told_in_words(
    source: RepositorySource, signed_at: float = 0.0, now: float | None = None
) -> Iterator[None]:
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
            f"what {source.name} offers is out of date: {printable_error(error)}",
            _why_expired(_role_of(error), clock, signed_at),
        ) from error
    except StatusError as error:
        raise _not_given(source, error) from error
    except (RepositoryError, DownloadError, ValueError) as error:
        # ValueError: what python-tuf raises where signed metadata contradict themselves, such as
        # a role delegated to keys that are not listed.
        told = next(told for kind, told in _TOLD if isinstance(error, kind))
        kind, words, hint = told(error)
        raise kind(words.format(source.name, printable_error(error)), hint) from error


def _role_of(error: Exception) -> str:
    """The role that an error of python-tuf or of ours is about; "" where it does not say."""
    found = _ROLE.match(str(error))
    return found["role"] if found else ""


def _wrong_version(error: Exception) -> Told:
    """Older than what python-tuf has in its cache; or parts of two versions together."""
    if _OLDER.search(str(error)):
        return UntrustedError, "{} is older than what this machine has already seen ({})", _OLD_COPY
    hint = f"It may be a copy that was made while it was being published. {TELL}"
    return UntrustedError, "{} has files that do not belong together: {}", hint


def _unsigned(error: Exception) -> Told:
    hint = _ANOTHER_ROOT if _role_of(error) in _BY_OUR_ROOT else TELL
    return UntrustedError, _DISTRUSTED, hint


_DISTRUSTED = "{} offers what cannot be trusted: {}"
_A_PROXY = f"{TELL} A proxy that answers with a page of its own looks like this too."
# The first kind that fits; the words take the repository's name and the error.
_TOLD: Sequence[tuple[type[Exception], Callable[[Exception], Told]]] = (
    (OlderError, lambda _: (UntrustedError, "{}: {}", _OLD_COPY)),
    (BadVersionNumberError, _wrong_version),
    (UnsignedMetadataError, _unsigned),
    (
        DownloadLengthMismatchError,
        lambda _: (UntrustedError, "{} sends more than it may: {}", TELL),
    ),
    (DownloadError, lambda _: (UnreachableError, "{}: {}", "")),
    (Exception, lambda _: (UntrustedError, _DISTRUSTED, _A_PROXY)),
)


def _why_expired(role: str, now: float, signed_at: float) -> str:
    renewal = f"`bundles repo renew {role}`"
    if role in (Snapshot.type, Timestamp.type):
        renewal = "`bundles timestamp`, every day"
    centre = f"the centre has not renewed it ({renewal})"
    clock = f"the clock of this machine is wrong: it says {utc_minute(now)}"
    if signed_at and now > signed_at + LONG_S:
        return f"Most likely {clock}. If it is right, {centre}."
    return f"Either {centre}, or {clock}."


def _not_given(source: RepositorySource, error: StatusError) -> UnreachableError:
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


def printable_error(error: BaseException) -> str:
    """An error's words, safe to print: some of them come from the repository."""
    return printable(str(error) or type(error).__name__)
