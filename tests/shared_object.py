"""Many emitted programs in one shared object, run in a child process with a time limit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.loopnest.emitter.emit import ENTRY
from agent.loopnest.program import DType
from tests.differential.case import defined, renamed

# No contraction to fused multiply-add: it depends on what the compiler sees around an expression.
EXACT = ("-std=gnu99", "-march=native", "-fopenmp", "-ffp-contract=off", "-fPIC", "-shared")
NUMPY_SCALARS = {
    d: np.dtype(d.value.removesuffix("_t").replace("float", "float32")).type for d in DType
}
CHILD = Path(__file__).with_name("shared_object_child.py")
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


@dataclass(frozen=True)
class Run:
    """One call: the source that defines ``loopnest_run``, and its arguments in order."""

    source: str
    arrays: Mapping[str, np.ndarray]
    scalars: Sequence[np.generic] = ()


def build(sources: Sequence[str], folder: Path, flags: Sequence[str]) -> Path:
    """A shared object in which the entry of source ``n`` is called ``loopnest_run_n``.

    They are one file, in which what a source defines has its number: to start a compiler costs
    more than most of them.
    """
    file, library = folder / "all.c", folder / "lib.so"
    numbered = (renamed(s, (*defined(s), ENTRY), f"_{n}") for n, s in enumerate(sources))
    file.write_text("\n".join(numbered))
    command = ["gcc", *EXACT, *flags, str(file), "-lm", "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=1200)
    return library


def run_all(
    runs: Sequence[Run],
    folder: Path,
    flags: Sequence[str] = ("-O2", "-ftree-vectorize"),
    timeout: float = 600,
) -> list[dict[str, np.ndarray]]:
    """The arrays after each run; every run starts from its own copy.

    Raises:
        AssertionError: the child crashed, was stopped by a sanitizer, or took too long.
    """
    unique = list(dict.fromkeys(r.source for r in runs))
    library = build(unique, folder, flags)
    calls = [(f"{ENTRY}_{unique.index(r.source)}", [a.tobytes() for a in _passed(r)]) for r in runs]
    (folder / "calls").write_bytes(pickle.dumps(calls))
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "passive"}
    if "-fsanitize=address,undefined" in flags:
        environment |= {"LD_PRELOAD": _asan(), "ASAN_OPTIONS": "detect_leaks=0"}
    child = subprocess.run(
        [sys.executable, "-I", "-S", CHILD, library, folder],
        env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert child.returncode == 0, f"{folder}: {child.stdout[-300:]}{child.stderr[-3000:]}"
    left = pickle.loads((folder / "left").read_bytes())
    return [
        {
            name: np.frombuffer(memory, a.dtype).reshape(a.shape)
            for (name, a), memory in zip(r.arrays.items(), found, strict=False)
        }
        for r, found in zip(runs, left, strict=True)
    ]


def _passed(run: Run) -> list[np.ndarray | np.generic]:
    return [*run.arrays.values(), *run.scalars]


def _asan() -> str:
    command = ["gcc", "-print-file-name=libasan.so"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
