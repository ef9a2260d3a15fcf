"""python-tuf's client with our limits, our way of fetching and our time; and its cache on disk."""

from __future__ import annotations

import contextlib
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from agent.errors import UnreachableError, UntrustedError
from agent.update.refusals import printable_error
from agent.update.times import utc_datetime

if TYPE_CHECKING:
    from agent.update.source import RepositorySource

MAX_CACHED = 1 << 20  # bytes of a file in the cache, as of the largest role


def forget_cache(place: Path) -> None:
    """Remove python-tuf's cache, or whatever lies in its place."""
    if place.is_symlink() or not place.is_dir():
        with contextlib.suppress(OSError):
            place.unlink()
    shutil.rmtree(place, ignore_errors=True)


def _tidy(place: Path) -> None:
    """Remove from the cache what python-tuf would not get over.

    It opens whatever lies there and reads it to its end: it would wait for a named pipe for ever,
    and read a link to /dev/zero until the memory is full. Files called tmp... are left where the
    power went between writing and renaming.
    """
    history = place / "root_history"
    for folder in (place, history):
        if folder.is_symlink():
            folder.unlink()
    for path in (*place.glob("*"), *history.glob("*")):
        found = path.lstat()
        plain_file = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_CACHED
        if not plain_file and path not in (history, place / "root.json"):  # that link is not read
            forget_cache(path)
        elif path.name.startswith("tmp"):
            path.unlink(missing_ok=True)


class _RootFollower(Updater):
    """python-tuf's client, which says so where it stops before the newest root.

    python-tuf keeps every root it has verified, but counts those towards its limit too: it would
    stop at the same root for ever, and go on with keys that may have been revoked since.
    """

    def _load_root(self) -> None:
        kept = first = self._trusted_set.root.version
        while Path(self._dir, "root_history", f"{kept + 1}.root.json").exists():
            kept += 1
        most = kept + self.config.max_root_rotations
        self.config.max_root_rotations = most - first
        super()._load_root()
        if self._trusted_set.root.version >= most:
            raise UnreachableError(
                f"the repository has more newer roots than are followed in one go: version {most}"
                " is reached",
                "Run `agent update` again: it goes on from there. Nothing else was changed.",
            )


def open_updater(source: RepositorySource, root: bytes, place: Path, reference: float) -> Updater:
    """python-tuf with our limits, our way of fetching, and ``reference`` for the time of day.

    Raises:
        UntrustedError: ``root`` is not a root that signs itself.
        OSError: the cache cannot be written.
    """
    _tidy(place)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        updater = _RootFollower(
            metadata_dir=str(place),
            metadata_base_url=source.metadata_url,
            fetcher=source,
            config=UpdaterConfig(
                max_root_rotations=source.limits.roots,
                max_delegations=8,
                root_max_length=256 << 10,
                timestamp_max_length=16 << 10,
                snapshot_max_length=256 << 10,
                targets_max_length=MAX_CACHED,
            ),
            bootstrap=root,
        )
    except RepositoryError as error:
        raise UntrustedError(
            f"the trusted root of this machine cannot be used: {printable_error(error)}",
            "Put the root.json that the centre gives out in its place.",
        ) from error
    # python-tuf has no public way to be told the time; this is the time it compares expiry with.
    updater._trusted_set.reference_time = utc_datetime(reference)
    return updater


def fetch_target(updater: Updater, source: RepositorySource, target: TargetFile) -> bytes:
    """The content of a target, in memory; python-tuf's errors if it is not what was signed."""
    folder, slash, name = target.path.rpartition("/")
    if updater._trusted_set.root.consistent_snapshot:
        name = f"{next(iter(target.hashes.values()))}.{name}"
    content = source.download_bytes(f"{source.targets_url}/{folder}{slash}{name}", target.length)
    target.verify_length_and_hashes(content)
    return content
