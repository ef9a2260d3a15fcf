"""The worker process seen from Python: started, spoken to, and ended whatever it does.

The worker runs compiled programs, so nothing it says is trusted: an answer counts only if it
carries the number of the question, anything else on the line is counted and ignored, and every
wait has an end. It leads a process group of its own, which is killed when the context ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.errors import MeasureError
from agent.system.child import end_group, wait_for_end
from agent.system.private import open_code
from agent.system.refused import memory_file
from agent.system.tasks import check_error

START_LIMIT_S = 20.0
MAX_ANSWER = 1 << 23  # bytes of one answer, and of garbage that is put up with
MAX_STDERR = 2_000
PASSED = ("LD_LIBRARY_PATH", "TMPDIR")
SPINS = 20_000  # of an idle OpenMP thread: well under a millisecond, then it sleeps
PROTOCOL = "3"


class WorkerExitError(Exception):
    """The worker ended by itself, or said what no worker says."""

    def __init__(self, slot: int, status: int, words: str) -> None:
        super().__init__(f"worker ended with {status} in slot {slot}: {words}")
        self.slot = slot
        self.status = status
        self.words = words


class WorkerTimeoutError(Exception):
    """The worker did not answer in time; it has been killed."""

    def __init__(self, slot: int, limit_s: float) -> None:
        super().__init__(f"slot {slot} did not end within {limit_s:g} s")
        self.slot = slot
        self.limit_s = limit_s


class RefusedError(Exception):
    """The worker answered ``error``; its words are the message."""


def environment(cpus: Sequence[int]) -> dict[str, str]:
    """The worker's whole environment: OpenMP's threads bound one to a CPU, in this order.

    libgomp reads it when it is loaded and binds the first thread, in which serial programs run,
    to the first place. Idle threads spin for less than a sample, so that they sleep when the
    next program runs; a parallel region entered at once still finds them spinning.
    """
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    places = ",".join(f"{{{cpu}}}" for cpu in cpus)
    bound = {"OMP_PLACES": places, "OMP_PROC_BIND": "close"} if may_bind() else {}
    return (
        passed
        | bound
        | {
            "LC_ALL": "C",
            "OMP_NUM_THREADS": str(len(cpus)),
            "OMP_DYNAMIC": "false",
            "GOMP_SPINCOUNT": str(SPINS),
            "KMP_BLOCKTIME": "1",
        }
    )


def may_bind() -> bool:
    """Whether a process may be bound to CPUs here: some containers and snaps refuse it."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError:
        return False
    return True


def _why_not_run(executable: Path) -> str:
    """What to do where the file system is the reason."""
    with contextlib.suppress(OSError):
        if os.statvfs(executable).f_flag & os.ST_NOEXEC:
            mounted = next(place for place in executable.absolute().parents if place.is_mount())
            return f"Mount {mounted} with `exec`, or name another --state-dir DIR."
    return ""


def _by_descriptor(code: int) -> str | None:
    """A name of the very file that was checked; None where /proc is not there."""
    name = f"/proc/self/fd/{code}"
    return name if os.path.exists(name) else None  # noqa: PTH110  a name, no path of ours


class Worker:
    """A running worker; use as a context, which ends it.

    Args:
        command: the worker's executable, with arguments before the two descriptors.
        env: its environment.
    """

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        self.garbage = 0
        self._sequence = 0
        self._pending = b""
        self._stderr = memory_file("stderr")
        self._marker = memory_file("marker")
        read, write = os.pipe()
        self._answers = read
        self._poll = select.poll()
        self._poll.register(read, select.POLLIN)
        marker, code = self._marker.fileno(), -1
        try:
            code = open_code(Path(command[0]))
            self._process = subprocess.Popen(
                [*command, str(write), str(marker)],
                executable=_by_descriptor(code) or command[0],
                env=dict(env),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=(write, marker, code),
                start_new_session=True,
            )
        except OSError as error:
            self._close_files()
            check_error(error)
            words = f"cannot start the worker: {error.strerror}"
            raise MeasureError(words, _why_not_run(Path(command[0]))) from error
        finally:
            os.close(write)
            if code >= 0:
                os.close(code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ready(self) -> int:
        """Wait for the greeting; the clock ticks a second of its evidence.

        Raises:
            MeasureError: the worker did not start.
        """
        try:
            words = self._receive(START_LIMIT_S)
            if len(words) == 3 and words[:2] == ["ready", PROTOCOL] and words[2].isdigit():
                return int(words[2])
            problem = " ".join(words)
        except (WorkerExitError, WorkerTimeoutError) as failure:
            problem = str(failure)
        raise MeasureError(f"the measuring process did not start: {problem}")

    def ask(self, command: str, limit_s: float) -> list[str]:
        """Send one command; the words of its answer.

        Raises:
            RefusedError: the answer is ``error``.
            WorkerExitError: it ended; ``slot`` is the program that ran last.
            WorkerTimeoutError: no answer within ``limit_s``; the worker has been killed.
        """
        self._sequence += 1
        assert self._process.stdin is not None  # noqa: S101  it was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(os.fsencode(command) + b"\n")
            self._process.stdin.flush()
        words = self._receive(limit_s)
        if words[:1] == ["error"]:
            raise RefusedError(" ".join(words[1:]))
        return words

    def close(self) -> None:
        """Kill the worker's process group, reap it, and close everything."""
        end_group(self._process)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._close_files()

    def _close_files(self) -> None:
        os.close(self._answers)
        self._stderr.close()
        self._marker.close()

    def _receive(self, limit_s: float) -> list[str]:
        """The words of the answer to the last command; other lines are counted as garbage."""
        expected = f"@{self._sequence}"
        deadline = time.monotonic() + limit_s
        while True:
            words = self._line(deadline, limit_s).decode("ascii", "replace").split()
            if len(words) > 1 and words[0] == expected:
                return words[1:]
            self.garbage += 1

    def _line(self, deadline: float, limit_s: float) -> bytes:
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                end_group(self._process)
                raise WorkerTimeoutError(self._slot(), limit_s)
            chunk = os.read(self._answers, 1 << 16)
            self._pending += chunk
            if not chunk or len(self._pending) > MAX_ANSWER or self.garbage > MAX_ANSWER:
                self._bury()
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _bury(self) -> None:
        """Raise WorkerExitError with what is known of the death."""
        wait_for_end(self._process, time.monotonic() + 1.0)
        end_group(self._process)
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - MAX_STDERR))
        words = self._stderr.read().decode("utf-8", "replace").strip()
        raise WorkerExitError(self._slot(), self._process.returncode, words)

    def _slot(self) -> int:
        """The program the worker entered last, -1 where it entered none."""
        self._marker.seek(0)
        return int.from_bytes(self._marker.read(4) or b"\xff" * 4, sys.byteorder, signed=True)
