"""A bundle onto the disk: whole or not at all, whatever fails and whenever the power goes.

It is written into a staging directory on the same file system, every byte on the disk, checked,
tried in a child process, and renamed. Only then may the state database name it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle.installed import FOLDER, path_of
from agent.errors import BundleError, StateError
from agent.system.refused import sync_directory

if TYPE_CHECKING:
    from agent.bundle.bundle import Bundle

STAGING = ".new-"
SPARE_BYTES = 8 << 20  # left for the timings of a calibration


def install(state_dir: Path, content: bytes, digest: str) -> Bundle:
    """Put the bundle in an archive where ``path_of`` says; it is checked and was tried.

    Args:
        state_dir: locked by this process.
        content: of a ``.bundle`` file, as long as its signature says.
        digest: SHA-256 that its manifest must have.

    Raises:
        BundleError: it is not a bundle for this agent, or not the one of that digest.
        StateError: no room, or the directory cannot be written.
    """
    from agent.bundle.bundle import load_bundle
    from agent.bundle.probe import probe
    from agent.calibration.predictor import check_possible, prior_of
    from agent.measure.machine import read_machine
    from agent.update.archive import unpack, write_bundle

    files = unpack(content)
    with _staging(state_dir, len(content)) as place:
        write_bundle(files, place)
        bundle = load_bundle(place)
        if bundle.digest != digest:
            raise BundleError("the bundle's manifest is not the one that was signed")
        prior_of(bundle)
        probe(bundle)
        check_possible(bundle, read_machine())
        _put(place, path_of(state_dir, digest))
    return load_bundle(path_of(state_dir, digest))


def sweep(state_dir: Path, keep: Collection[str]) -> None:
    """Remove what a killed update left and bundles whose digest is not in ``keep``."""
    wanted = {path_of(state_dir, digest).name for digest in keep}
    for path in (state_dir / FOLDER).glob("*"):
        if path.name not in wanted:
            with contextlib.suppress(OSError):
                _remove(path)


@contextlib.contextmanager
def _staging(state_dir: Path, size: int) -> Iterator[Path]:
    folder = state_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for abandoned in folder.glob(f"{STAGING}*"):  # by an update that was killed
            _remove(abandoned)
        free = shutil.disk_usage(folder).free
        if free < size + SPARE_BYTES:
            raise StateError(
                f"{folder} has room for {free >> 20} MiB only; the bundle needs "
                f"{(size + SPARE_BYTES) >> 20}",
                "Free some space and run `agent update` again.",
            )
        place = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise StateError(
            f"the bundle cannot be written to {folder}: {error.strerror}",
            "Free space on that disk, or make the directory writable; nothing was changed.",
        ) from error


def _remove(path: Path) -> None:
    """Whatever is there; only a real directory is gone through."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)


def _put(place: Path, final: Path) -> None:
    """Rename durably; what is there already under this name was damaged and makes room."""
    _remove(final)
    place.rename(final)
    sync_directory(final.parent)
