"""Many emitted programs in one shared object, run in a child process with a time limit."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.loopnest.program import DType

# No contraction to fused multiply-add: it depends on what the compiler sees around an expression.
EXACT = ("-std=gnu99", "-march=native", "-fopenmp", "-ffp-contract=off", "-fPIC", "-shared")
NUMPY_SCALARS = {
    d: np.dtype(d.value.removesuffix("_t").replace("float", "float32")).type for d in DType
}
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


@dataclass(frozen=True)
class Run:
    """One call: the source that defines the entry, and its arguments in order."""

    source: str
    arrays: Mapping[str, np.ndarray]
    scalars: Sequence[np.generic] = ()
    entry: str = "loopnest_run"


def build(sources: Sequence[str], folder: Path, flags: Sequence[str], entry: str) -> Path:
    """A shared object in which entry ``n`` is called ``run_n``."""
    files = []
    for number, source in enumerate(sources):
        path = folder / f"v{number}.c"
        path.write_text(f"#define {entry} run_{number}\n{source}")
        files.append(str(path))
    library = folder / "lib.so"
    command = ["gcc", *EXACT, *flags, *files, "-lm", "-o", str(library)]
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
    unique = list(dict.fromkeys((r.source, r.entry) for r in runs))
    library = build([s for s, _ in unique], folder, flags, "loopnest_run")
    data = {f"{n}/{name}": a for n, r in enumerate(runs) for name, a in r.arrays.items()}
    data |= {f"{n}/#{k}": s for n, r in enumerate(runs) for k, s in enumerate(r.scalars)}
    np.savez(folder / "in.npz", entry=[unique.index((r.source, r.entry)) for r in runs], **data)
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "passive"}
    if "-fsanitize=address,undefined" in flags:
        environment |= {"LD_PRELOAD": _asan(), "ASAN_OPTIONS": "detect_leaks=0"}
    child = subprocess.run(
        [sys.executable, __file__, str(library), str(folder)],
        env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert child.returncode == 0, f"{folder}: {child.stdout[-300:]}{child.stderr[-3000:]}"
    with np.load(folder / "out.npz") as out:
        return [{name: out[f"{n}/{name}"] for name in r.arrays} for n, r in enumerate(runs)]


def _asan() -> str:
    command = ["gcc", "-print-file-name=libasan.so"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _child(library: str, folder: Path) -> None:
    shared = ctypes.CDLL(library)
    out = {}
    with np.load(folder / "in.npz") as stored:
        data = dict(stored)
    entries = data.pop("entry")
    grouped: list[dict[str, np.ndarray]] = [{} for _ in entries]
    for key, value in data.items():
        number, name = key.split("/", 1)
        grouped[int(number)][name] = value
    for number, (entry, arguments) in enumerate(zip(entries, grouped, strict=True)):
        sys.stdout.write(f"run {number} entry {entry}\n")
        sys.stdout.flush()
        kept = {name: value.copy(order="C") for name, value in arguments.items()}
        pointers = [value.ctypes.data_as(ctypes.c_void_p) for value in kept.values()]
        getattr(shared, f"run_{entry}")((ctypes.c_void_p * len(pointers))(*pointers))
        out |= {f"{number}/{n}": v for n, v in kept.items() if not n.startswith("#")}
    np.savez(folder / "out.npz", **out)


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]))
