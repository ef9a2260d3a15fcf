"""The other side of ``probe``: run an encoder nobody has run before, with next to nothing to reach.

    python -m agent.bundle.probe_child SECONDS MEMORY < request

What is trusted (numpy, onnxruntime) is imported first; then this process gives up files, sockets,
children, writing and most memory, and only then looks at what it was given. It answers with one
number on standard output and exit code 0, or with one of the other exit codes and nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.arrays import Singles
    from agent.bundle.bundle import Bundle
    from agent.bundle.encoder import Encoder


class ProbeOutcome(IntEnum):
    """Exit codes, clear of those Python and shells use."""

    FOUND = 0
    NOT_TAKEN = 81
    NO_MEMORY = 82
    NO_NUMBERS = 83
    COMPANY = 84


ROWS = 64  # invented, beside the golden ones
BATCH = 8_192  # as many rows at once as the agent ever embeds
SEED = 20_260
_MEMORY_WORDS = ("bad_alloc", "bad allocation", "allocate memory", "out of memory")
MOST_FILES = 1 << 16  # where /proc does not tell which are open
UNTOLD_SPACE = 4 << 30  # where it does not tell how much is in use
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def probe_request(bundle: Bundle) -> bytes:
    """What a child is given: a line of JSON, and the graph."""
    head = {"embedding": bundle.embedding, "golden": bundle.golden}
    return json.dumps(head, allow_nan=False).encode() + b"\n" + bundle.encoder


def _open_files() -> list[int]:
    """Descriptors that are open beyond the standard ones; all there may be, without /proc."""
    try:
        return [n for path in Path("/proc/self/fd").iterdir() if (n := int(path.name)) > 2]
    except OSError:
        return list(range(3, MOST_FILES))


def _address_space() -> int:
    """Bytes in use now, libraries and all."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return UNTOLD_SPACE
    return pages * resource.getpagesize()


def confine(seconds: int, memory: int) -> None:
    """Give up, for the rest of this process, what an encoder does not need.

    Of all that is open only the standard descriptors stay.

    Args:
        seconds: of time from now, and of processor time, after which the kernel ends this process.
        memory: bytes of address space beyond what is in use now (what the libraries take differs
            from machine to machine).
    """
    for number in _open_files():
        with contextlib.suppress(OSError):  # the one by which this list itself was read
            os.close(number)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)  # the parent waits longer, if it still lives
    limits = {
        resource.RLIMIT_AS: _address_space() + memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,  # no children, no threads (root is exempt)
        resource.RLIMIT_NOFILE: 3,  # those three: no file, no socket from here on
    }
    processor = int(time.process_time()) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))  # SIGXCPU, then SIGKILL
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def try_out(encoder: Encoder, golden: Singles, expected: Singles) -> float:
    """Largest difference from the golden embeddings, over all the ways of asking.

    Args:
        encoder: the encoder in question.
        golden: [g,F] float32 features.
        expected: [g,E] float32, their embeddings.

    Raises:
        _CompanyError: a row's embedding depends on the rows beside it, or on how many there are.
        BundleError: it fails, or gives something else than [n,E] finite numbers.
    """
    import numpy as np

    from agent.bundle.bundle import TOLERANCE

    rng = np.random.default_rng(SEED)
    mixed = rng.dirichlet(np.ones(len(golden)), ROWS) @ golden * rng.uniform(0.5, 2, (ROWS, 1))
    rows = np.concatenate([golden, mixed]).astype(np.float32)
    together = encoder.embed(rows)
    turned = rng.permutation(len(rows))
    many = np.resize(np.arange(len(rows)), BATCH)
    for which in (*np.arange(len(rows))[:, None], turned, many):
        found = encoder.embed(rows[which])
        size = np.maximum(1, np.abs(together[which]))
        if (np.abs(found - together[which]) > TOLERANCE * size).any():
            raise _CompanyError
    return float(np.abs(together[: len(golden)] - expected).max())


class _CompanyError(Exception):
    """An embedding that depends on the rows beside it."""


def _answer(content: bytes) -> tuple[ProbeOutcome, float]:
    import numpy as np

    from agent.bundle.bundle import Bundle
    from agent.bundle.encoder import Encoder
    from agent.errors import BundleError

    head, _, graph = content.partition(b"\n")
    said = json.loads(head)
    golden, expected = (np.asarray(x, np.float32) for x in said["golden"])
    outcome = ProbeOutcome.NOT_TAKEN
    bundle = Bundle(Path(), "", "", "", "", said["embedding"], "", graph, {}, {}, ([], []))
    try:
        encoder = Encoder(bundle)
        outcome = ProbeOutcome.NO_NUMBERS
        return ProbeOutcome.FOUND, try_out(encoder, golden, expected)
    except _CompanyError:
        return ProbeOutcome.COMPANY, 0.0
    except MemoryError:
        return ProbeOutcome.NO_MEMORY, 0.0
    except BundleError as error:
        short = isinstance(error.__cause__, MemoryError)
        short = short or any(words in error.message for words in _MEMORY_WORDS)
        return (ProbeOutcome.NO_MEMORY if short else outcome), 0.0


def main() -> None:
    """Confine this process, read the request, answer, end."""
    import numpy.random  # noqa: F401  # imported lazily elsewhere: nothing can be opened later

    import agent.bundle.encoder  # noqa: F401

    confine(*map(int, sys.argv[1:3]))
    try:
        outcome, difference = _answer(sys.stdin.buffer.read())
    except MemoryError:
        outcome, difference = ProbeOutcome.NO_MEMORY, 0.0
    if outcome == ProbeOutcome.FOUND:
        os.write(1, f"{difference:.6e}\n".encode())
    os._exit(outcome)  # no clean-up of onnxruntime's: it has nothing to save


if __name__ == "__main__":
    main()
