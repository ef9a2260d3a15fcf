"""Before anything is signed: nobody else is at work, nothing is half-done, the clock is right."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from tuf.api.metadata import Timestamp

from agent.errors import BusyError, InputError
from agent.system.refused import lock_file
from bundles.repository.journal import PUBLIC, RepositoryError, is_interrupted, recover
from bundles.repository.repository import SIGNED_AT, Repository, parse_time

LOCK = "lock"
WAIT_S = 10.0
BACKWARDS = timedelta(hours=1)
FORWARDS = timedelta(days=30)


@contextmanager
def locked(directory: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Publish alone; what a publisher left half-done is finished first.

    Raises:
        RepositoryError: there is no repository, or it cannot be written.
        BusyError: another publisher is still at work after ``wait_s``.
    """
    require_repository(directory)
    try:
        handle = (directory / LOCK).open("a")
    except OSError as error:
        raise RepositoryError(f"{directory} cannot be written: {error.strerror}") from error
    with handle:
        _take(handle.fileno(), directory, wait_s)
        recover(directory)
        yield


def _take(descriptor: int, directory: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            lock_file(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, directory)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise BusyError(
                    f"another publisher is at work in {directory}", "Wait for it to end."
                ) from None
            time.sleep(0.05)
        else:
            return


def require_repository(directory: Path) -> None:
    """RepositoryError where there is no repository."""
    if not (directory / PUBLIC / "metadata").is_dir() and not is_interrupted(directory):
        raise RepositoryError(
            f"{directory} is not a bundle repository",
            "Give --repo DIR or set BUNDLES_REPO; `bundles repo init DIR` makes one.",
        )


def require_right_clock(repository: Repository, *, new_online_key: bool = False) -> None:
    """Refuse to sign where this computer's clock is plainly wrong.

    Machines remember the latest time of signing and never believe an earlier one, so a signature
    from the future would make them refuse everything until that time has come.

    Args:
        repository: as it is published.
        new_online_key: the key of such signatures is being replaced. Then machines begin to count
            anew, so a clock behind the last of them is no hindrance: this is the repair.

    Raises:
        InputError: the clock is behind the last signature, or far ahead of it.
    """
    said = repository.open(Timestamp.type).signed.unrecognized_fields.get(SIGNED_AT)
    if said is None:
        return
    last, now = parse_time(said), repository.now
    told = f"this computer's clock says {now:%Y-%m-%d %H:%M} UTC"
    if now < last - BACKWARDS and not new_online_key:
        raise InputError(
            f"{told}, but the repository was signed at {last:%Y-%m-%d %H:%M} UTC already",
            "Set the clock. If it is right, it was wrong then: run `bundles rotate-key online`.",
        )
    if now > last + FORWARDS:
        raise InputError(
            f"{told}, {(now - last).days} days after the last signature: is that right? "
            "Machines would never again believe an earlier time",
            "If the clock is right, add --clock-is-right."
            if new_online_key
            else "If the clock is right, run `bundles timestamp --clock-is-right` first.",
        )
