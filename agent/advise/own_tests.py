"""The person's own tests, run with a new file in the place of theirs.

The file that was there stays on the disk as it is, under a second name beside it
(``.FILE.c.agent-kept``), while the new one has its name. A process of its own puts it back: it
waits for the end of a pipe from this one, so that it does so however this one ends. Only where
both end at once (a power cut) a person has to: ``mv .FILE.c.agent-kept FILE.c``. At no time is
there no whole file under the name. The file put back counts as changed just then, so that a build
makes anew what it made of the other.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.errors import InputError, MeasureError
from agent.system.child import ChildLimits, run_child

SHOWN = 4_000  # bytes of what the tests say, from its end
NO_LIMIT = 1 << 60
NO_CPU_LIMIT = 1 << 30  # seconds: Linux counts nanoseconds, and more run over
# What was built a moment ago must be older: the kernel's clock of files may move every 10 ms only.
PUT_BACK = 'cat >/dev/null; sleep 0.02; touch -c -- "$1"; exec mv -f -- "$1" "$2"'


@dataclass(frozen=True)
class OwnTests:
    """A command that says by its exit status whether the person's tests pass.

    Attributes:
        command: for the shell, run in this directory.
        limit_s: seconds that it may take.
    """

    command: str
    limit_s: float

    def try_out(self, path: Path) -> None:
        """Run them with a copy of ``path`` in its place, before anything is made for it.

        Raises:
            InputError: they fail, or nothing can be put there; ``path`` is as it was.
        """
        with in_place_of(path, path.read_bytes()):
            failed = self._failure()
        if failed is not None:
            raise InputError(
                f"the tests fail with {path} as it is ({self.command}):\n{failed}",
                "Give a command that succeeds as things are.",
            )

    def check(self, path: Path, new: bytes) -> None:
        """Run them with ``new`` in the place of ``path``.

        Raises:
            MeasureError: they fail; the message holds the end of what they say.
            InputError: ``new`` cannot be put there; ``path`` is as it was.
        """
        with in_place_of(path, new):
            failed = self._failure()
        if failed is not None:
            raise MeasureError(f"your tests fail with it ({self.command}):\n{failed}")

    def _failure(self) -> str | None:
        """What the tests say where they fail; None: they pass."""
        limits = ChildLimits(self.limit_s, NO_LIMIT, NO_LIMIT, output=0, cpu=NO_CPU_LIMIT)
        with TemporaryDirectory(prefix="agent-tests-") as folder:
            said = Path(folder, "said")
            said.touch()
            script = f"exec >{shlex.quote(str(said))} 2>&1\n{self.command}"
            run = run_child(["/bin/sh", "-c", script], limits)
            words = said.read_bytes()[-SHOWN:].decode("utf-8", "replace").strip()
        if run.status == 0:
            return None
        ended = f"stopped after {self.limit_s:.0f} s" if run.status is None else ""
        return "\n".join(filter(None, (words, ended))) or f"exit status {run.status}"


@contextmanager
def in_place_of(path: Path, new: bytes) -> Iterator[None]:
    """``new`` where ``path`` is, for a while.

    Raises:
        InputError: another run has a file there, or it cannot be put there.
    """
    place = path.resolve()
    kept = place.with_name(f".{place.name}.agent-kept")
    staged = place.with_name(f".{place.name[:100]}-{secrets.token_hex(8)}")
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(place, kept))
            stack.callback(staged.unlink, missing_ok=True)
            _stage(staged, new, place)
            _keep(place, kept)
            stack.enter_context(_guard(kept, place))
            staged.replace(place)
        except OSError as error:
            raise InputError(
                f"the new file cannot be put in place of {path}: {error.strerror}",
                "Run the tests in a copy of the project that can be written.",
            ) from error
        yield


@contextmanager
def _locked(place: Path, kept: Path) -> Iterator[None]:
    """No other run may be about to put a file there."""
    with place.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(place, kept) from error
        yield


def _taken(place: Path, kept: Path) -> InputError:
    return InputError(
        f"another run tests a file in the place of {place}, or was cut off doing so",
        f"Wait for it. If none is running, this puts back what was there: mv {kept} {place}",
    )


def _stage(staged: Path, new: bytes, place: Path) -> None:
    """The new file beside the old one, with its rights."""
    found = place.stat()
    with staged.open("xb") as file:
        file.write(new)
        os.fchmod(file.fileno(), found.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), found.st_uid, found.st_gid)


def _keep(place: Path, kept: Path) -> None:
    """A second name for the file that is there; InputError where another has it."""
    if kept.exists() and kept.samefile(place):  # of a run that ended before it replaced anything
        kept.unlink()
    try:
        os.link(place, kept)
    except FileExistsError as error:
        raise _taken(place, kept) from error


@contextmanager
def _guard(kept: Path, place: Path) -> Iterator[None]:
    """What puts ``kept`` back at the end, and at the end of this process, however it comes."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", PUT_BACK, "sh", str(kept), str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()
    if guard.returncode != 0:
        raise InputError(f"{place} could not be put back", f"Do it: mv {kept} {place}")
