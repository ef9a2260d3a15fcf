"""A program of others as a child process: within limits, and ended with all that it started.

What compilers are given was written by anybody: an include of a pipe never ends, macros can fill
the memory. The limits are the kernel's (setrlimit), so they hold for children's children too; a
shell sets them, since code between fork and exec is not safe where there are other threads.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.system.tasks import check_error, check_words

CHUNK = 1 << 16
LONGEST_LOOK_S = 0.1  # how late an interruption may be seen
# What another user's program gets of root's environment: how to find things, no secrets.
HANDED_ON = (
    "PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ", "CPATH",
    "C_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "PYTHONHOME",
)  # fmt: skip
# What cannot be limited (an odd shell, a lower limit of the parent's) does not stop the work. Stdin
# is a pipe from this process, on which nothing is ever written: it ends when this process does,
# however it does (SIGKILL), and the reader then ends its group. (PR_SET_PDEATHSIG would reach the
# compiler's driver only, not what the driver started.)
SHELL = "limited-sh"  # what it calls itself
LIMITED = """
exec 3<&0 </dev/null
{ read -r _; kill -KILL 0; } <&3 >/dev/null 2>&1 &
exec 3<&-
{ ulimit -c 0; ulimit -t $1; ulimit -v $2; ulimit -f $3; } 2>/dev/null
shift 3
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may use.

    Attributes:
        seconds: of time for all of it.
        memory: bytes of address space of each process.
        file: bytes of any file that it writes.
        output: bytes on its stdout, after which it is ended.
        words: bytes of its stderr that are kept; the rest is read and forgotten.
        cpu: seconds of processor time for each of its processes; None: as ``seconds``.
    """

    seconds: float
    memory: int
    file: int
    output: int
    words: int = 8_000
    cpu: int | None = None


@dataclass(frozen=True, slots=True)
class ChildRun:
    """How a child ended.

    Attributes:
        output: of its stdout, cut just over the limit.
        words: first words of its stderr.
        status: exit status, negative for a signal; None: it was ended for its time or output, or
            because somebody asked for it.
    """

    output: bytes
    words: str
    status: int | None


def run_child(
    command: Sequence[str],
    limits: ChildLimits,
    *,
    place: Path | None = None,
    environment: Mapping[str, str] | None = None,
    user: int | None = None,
    stopped: threading.Event | None = None,
) -> ChildRun:
    """Run ``command`` to its end, without input; whatever it started ends with it.

    It also ends with this process, even where that is killed.

    Args:
        command: what to run; the first word is the path of an executable.
        limits: what it may use.
        place: its working directory; None: this one.
        environment: None: what is ``inherited``.
        user: whose rights it gets, for root; None: those of this process.
        stopped: set by another thread to end it early.

    Raises:
        TaskLimitError: no process may be started. OSError: it cannot be for another reason.
    """
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", LIMITED, SHELL, *_units(limits), *command],
            cwd=place,
            env=inherited(user) if environment is None else environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **_rights(user),
        )
    except OSError as error:
        check_error(error)
        raise
    deadline = time.monotonic() + limits.seconds
    with process:
        try:
            output, words, whole = _read(process, limits, deadline, stopped or threading.Event())
            ended = whole and wait_for_end(process, deadline)
        finally:
            end_group(process)
    said = words.decode("utf-8", "replace").strip()
    if said.startswith(f"{SHELL}: ") and process.returncode:
        check_words(said)
    return ChildRun(bytes(output), said, process.returncode if ended else None)


def inherited(user: int | None) -> dict[str, str]:
    """What a child that becomes ``user`` gets of this environment; None: all of it."""
    if user is None:
        return dict(os.environ)
    return {name: os.environ[name] for name in HANDED_ON if name in os.environ}


def find_command(text: str) -> tuple[str, ...] | None:
    """The words of a command as a shell would split it, with the path of its executable first.

    ``ccache gcc`` and ``gcc -m32`` are commands too; a path with blanks in it is one word if there
    is such a file. None: there is no such executable.
    """
    words = [text]
    if not shutil.which(text):
        with contextlib.suppress(ValueError):  # a quotation mark that is never closed
            words = shlex.split(text)
    path = shutil.which(words[0]) if words else None
    return (str(Path(path).absolute()), *words[1:]) if path else None


def wait_for_end(process: subprocess.Popen[Any], deadline: float) -> bool:
    """Whether a child ends before ``deadline`` (monotonic); it is not reaped.

    Until it is, nobody else gets its number, and what it left in its group can be killed.
    """
    pause = 0.0005
    flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
    while os.waitid(os.P_PID, process.pid, flags) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return True


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of the process group that a child leads, and reap the child."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def other_owner(path: Path) -> int | None:
    """For root, the other user who may have written what lies at ``path``; else None.

    That is the owner of the file, of a link to it, or of a folder on the way there: one who can
    put another file in its place while it is looked at.
    """
    if os.geteuid() != 0:
        return None
    for place in (path.absolute(), path.resolve()):
        for part in (place, *place.parents):
            with contextlib.suppress(OSError):
                owner = part.lstat().st_uid
                if owner != 0 and _exists_here(owner):
                    return owner
    return None


def _exists_here(user: int) -> bool:
    """Whether this user namespace knows the user (who else owns a file is shown as nobody)."""
    with contextlib.suppress(OSError):
        ranges = [map(int, x.split()) for x in Path("/proc/self/uid_map").read_text().splitlines()]
        return any(first <= user < first + count for first, _, count in ranges)
    return True


def _units(limits: ChildLimits) -> tuple[str, ...]:
    """The limits in what ``ulimit`` counts in, none above what this process itself has."""
    wanted = {
        resource.RLIMIT_CPU: (int(limits.seconds) + 1 if limits.cpu is None else limits.cpu, 1),
        resource.RLIMIT_AS: (limits.memory, 1 << 10),
        resource.RLIMIT_FSIZE: (limits.file, 512),
    }
    units = []
    for kind, (most, unit) in wanted.items():
        own = resource.getrlimit(kind)[0]
        units.append(str((most if own == resource.RLIM_INFINITY else min(most, own)) // unit))
    return tuple(units)


def _rights(user: int | None) -> dict[str, Any]:
    """Arguments of Popen that make a child of root's another user's."""
    if user is None:
        return {}
    try:
        known = pwd.getpwuid(user)
    except KeyError:
        return {"user": user, "group": user, "extra_groups": []}
    groups = os.getgrouplist(known.pw_name, known.pw_gid)
    return {"user": user, "group": known.pw_gid, "extra_groups": groups}


def _read(
    process: subprocess.Popen[Any],
    limits: ChildLimits,
    deadline: float,
    stopped: threading.Event,
) -> tuple[bytearray, bytearray, bool]:
    """Output and first messages, and whether both came to their end within the limits."""
    output, words = bytearray(), bytearray()
    with selectors.DefaultSelector() as open_ends:
        open_ends.register(process.stdout, selectors.EVENT_READ, output)  # type: ignore[arg-type]
        open_ends.register(process.stderr, selectors.EVENT_READ, words)  # type: ignore[arg-type]
        while open_ends.get_map() and len(output) <= limits.output and not stopped.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for key, _ in open_ends.select(min(left, LONGEST_LOOK_S)):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    open_ends.unregister(key.fileobj)
                key.data.extend(chunk)
            del words[limits.words :]
        whole = not open_ends.get_map()
    return output[: limits.output + 1], words, whole
