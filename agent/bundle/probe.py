"""The first inference of an encoder that was fetched: in a child that can do no harm if it fails.

The rules for graphs (``onnx_rules``) say what an encoder may hold, not whether onnxruntime survives
it, nor whether it computes what its bundle says. A child process finds out: without files, sockets
or children of its own, with little memory and time. From it, one number is believed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from agent.bundle.bundle import TOLERANCE, Bundle
from agent.bundle.probe_child import BATCH, ProbeOutcome, probe_request
from agent.errors import BundleError
from agent.system.child import end_group, wait_for_end
from agent.system.refused import memory_file

CHILD = "agent.bundle.probe_child"
_ANSWER = re.compile(rb"\d\.\d{6}e[+-]\d\d\n")  # as "%.6e" writes a float32
_LONGEST_ANSWER = 32
_HINT = "It is not used. Make the bundle again, or tell whoever publishes it."


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """What a child may use.

    Attributes:
        seconds: of time, and of processor time, once its libraries are loaded.
        loading: seconds for loading those: trusted code, but perhaps from a slow disk.
        memory: bytes of address space beyond what Python, numpy and onnxruntime have taken when
            the bundle is first looked at. Measured (``benchmarks/probe.py``): those take 149 MiB;
            the default bundle needs 68 more for a whole batch, the widest network that fits in a
            bundle 154.
    """

    seconds: int = 10
    loading: int = 20
    memory: int = 192 * 2**20


def probe(bundle: Bundle, limits: ProbeLimits | None = None) -> float:
    """Largest difference of the encoder's embeddings from the bundle's golden ones.

    Rows are embedded alone, together, in another order and as a full batch, golden ones and some
    like them. May be called from several threads at once.

    Raises:
        BundleError: there are no golden rows; or the encoder crashes, hangs, wants too much memory,
            gives no numbers, is off by more than ``TOLERANCE``, or looks at other rows.
    """
    if not bundle.golden[0]:
        _refuse("it has no golden rows to try its encoder on")
    limits = limits or ProbeLimits()
    with _child(probe_request(bundle), limits) as child:
        in_time = wait_for_end(child, time.monotonic() + limits.loading + limits.seconds)
        end_group(child)
        if not in_time:
            _refuse(_slow(limits))
        if child.returncode != ProbeOutcome.FOUND:
            _refuse(_words(child.returncode, limits))
        difference = _number(child)
    if difference > TOLERANCE:
        _refuse(f"its encoder is off by {difference:.2g} on its own golden rows")
    return difference


def _refuse(what: str) -> NoReturn:
    raise BundleError(f"the bundle's encoder was tried and cannot be used: {what}", _HINT)


@contextlib.contextmanager
def _child(given: bytes, limits: ProbeLimits) -> Iterator[subprocess.Popen[bytes]]:
    """A child at work on ``given``, in a session of its own; it and its group end with the context.

    It confines itself (``probe_child.confine``): code between fork and exec is not safe where there
    are other threads. What it is given is an unnamed file in memory: a pipe would have to be fed.
    """
    command = [sys.executable, "-P", "-s", "-B", "-m", CHILD]
    try:
        with memory_file("probe") as file:
            file.write(given)
            file.seek(0)
            child = subprocess.Popen(
                [*command, str(limits.seconds), str(limits.memory)],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
    except OSError as error:
        _refuse(f"no process to try it in could be started ({error.strerror})")
    with child:
        try:
            yield child
        finally:
            end_group(child)


def _environment() -> Mapping[str, str]:
    """What Python needs to find the agent and its libraries; one thread each, and no reports."""
    kept = {x: os.environ[x] for x in ("LD_LIBRARY_PATH", "PYTHONHOME") if x in os.environ}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
    quiet = {"ORT_DISABLE_TELEMETRY": "1"}  # as agent.bundle.runtime has it
    return kept | one | quiet | {"PYTHONPATH": path}


def _number(child: subprocess.Popen[bytes]) -> float:
    """The number a child that ended wrote, as it would have written it."""
    answer = b""
    if child.stdout is not None:
        os.set_blocking(child.stdout.fileno(), False)  # something may still hold the other end
        with contextlib.suppress(BlockingIOError):
            answer = os.read(child.stdout.fileno(), _LONGEST_ANSWER)
    if not _ANSWER.fullmatch(answer):
        _refuse("the process it was tried in did not answer")
    return float(answer)


def _words(code: int, limits: ProbeLimits) -> str:
    """Why a child ended with this exit code (negative: the signal that ended it)."""
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return _slow(limits)
    if code < 0:
        name = signal.strsignal(-code) or f"signal {-code}"
        return f"its encoder crashes the process it is tried in ({name})"
    memory = f"its encoder needs more than {limits.memory >> 20} MiB for {BATCH} rows"
    known: dict[int, str] = {
        ProbeOutcome.NOT_TAKEN: "onnxruntime does not take its encoder, or with other widths",
        ProbeOutcome.NO_MEMORY: memory,
        ProbeOutcome.NO_NUMBERS: "its encoder fails on some rows, or gives no finite numbers",
        ProbeOutcome.COMPANY: "its encoder gives a row another embedding beside other rows",
    }
    return known.get(code, f"the process it was tried in failed (exit code {code})")


def _slow(limits: ProbeLimits) -> str:
    return f"its encoder takes longer than {limits.seconds} s for {BATCH} rows"
