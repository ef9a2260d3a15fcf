"""The same kernels through compilers, loop optimisers and autoschedulers, beside `agent tune`.

    python -m benchmarks.peers [--budget 20] [--only NAME ...] [--peer NAME ...]
        [--polybench DIR [--dataset LARGE]] [--state-dir DIR] [--json FILE [--resume]]
        [--within 45] [--plot FILE.svg] [--list]

Every peer offers versions of a kernel's function, each a C file (with object files where it makes
those) and how it is compiled. One harness runs them all: it calls the function through a pointer,
with run-time sizes, as a program of a person's would; what differs from the function as written by
more than rounding is dropped and told. A peer's time counts from its first to its last step:
making, compiling, checking and timing its versions; it is not asked for another one once its budget
is over. At the end the best version of each peer is timed again, all of a kernel in turns.

It says beforehand about how long it takes, and begins no kernel that would not end within
``--within`` minutes. The file of figures is written after each kernel; ``--resume`` goes on with
those that are not in it. What is not installed is left out and said, with how to install it.
Nothing else may run meanwhile.
PolyBench is github.com/MatthiasJReisinger/PolyBenchC-4.2.1; nothing of it is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.advise.advise import Request, read_source
from agent.errors import AgentError
from agent.settings.config import Config
from benchmarks.peers_harness import Harness, Trial, final, tried
from benchmarks.peers_protocol import ROOT, THREADS, Kernel, Peer, PeerError, Task
from benchmarks.peers_tables import markdown

REST_S = 30.0  # about what peers that are not told the time take of a kernel, and the rounds
QUICK = "atax bicg durbin gemver gesummv jacobi-1d mvt trisolv".split()  # under 1 ms at MEDIUM
STACK = "-DPOLYBENCH_STACK_ARRAYS"  # so that a file needs nothing of polybench.c

KERNELS = {  # file, function, sizes
    "gemm": ("agent/kernels/gemm.c", "gemm", "ni=480 nj=500 nk=520"),
    "gemm_lda": (
        "tests/cases/plant/gemm_lda.c",
        "gemm_lda",
        "m=300 n=320 k=340 lda=340 ldb=320 ldc=320",
    ),
    "conv2d": ("agent/kernels/conv2d.c", "conv2d", "no=32 nc=32 ny=56 nx=56 nw=3"),
    "covariance": ("agent/kernels/covariance.c", "covariance", "n=400 m=300"),
    "jacobi2d": ("agent/kernels/jacobi2d.c", "jacobi2d", "steps=20 n=1000"),
    "heat3d": ("agent/kernels/heat3d.c", "heat3d", "n=160"),
    "blur": ("agent/kernels/blur.c", "blur", "ny=2000 nx=2000"),
    "distances": ("agent/kernels/distances.c", "distances", "n=800 m=800"),
}


def peers() -> list[Peer]:
    """All that are known here, the agent among them."""
    from benchmarks.peers_compilers import compilers
    from benchmarks.peers_halide import Halide
    from benchmarks.peers_loops import Agent, Pluto
    from benchmarks.peers_tvm import Tvm

    return [*compilers(), Pluto(), Halide(), Tvm(), Agent()]


def kernels(polybench: Path | None, dataset: str | None, chosen: Sequence[str]) -> list[Kernel]:
    """Our own, or PolyBench's; all, or those that are named."""
    if polybench is None:
        own = [
            Kernel(name, ROOT / file, function, _sizes(sizes))
            for name, (file, function, sizes) in KERNELS.items()
        ]
    else:
        own = list(_polybench(polybench, dataset))
    unknown = set(chosen) - {k.name for k in own}
    if unknown:
        sys.exit(f"no such kernel: {', '.join(sorted(unknown))}")
    return [k for k in own if not chosen or k.name in chosen]


def _sizes(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (part.split("=") for part in text.split())}


def _polybench(root: Path, dataset: str | None) -> Iterator[Kernel]:
    """At the sizes of a data set; those of ``QUICK`` at larger ones where none is named."""
    sys.path.insert(0, str(Path(__file__).parent))
    from benchmarks.suites import polybench

    chosen = polybench(root.absolute(), root, dataset or "MEDIUM")
    larger = polybench(root.absolute(), root, dataset or "LARGE")
    for usual, large in zip(chosen, larger, strict=True):
        item = large if usual.name in QUICK else usual
        flags = (*item.cflags, STACK)
        yield Kernel(item.name, item.path, item.function, item.sizes, flags)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"peers-{name}-") as made:
        yield Path(made)


def compared(kernel: Kernel, asked: Sequence[Peer], budget_s: float, state: Path) -> dict[str, Any]:
    """One kernel through all peers: what each found, when, and the rounds at the end.

    Raises:
        PeerError, AgentError: it is not read, or the function as written cannot be run.
    """
    request = Request(kernel.path, kernel.function, kernel.sizes, kernel.cflags)
    source = read_source(Config(state), request)
    with _folder(kernel.name) as place:
        harness = Harness.of(kernel, source, place)
        trials = {}
        for peer in asked:
            own = place / peer.name.replace(" ", "_")
            own.mkdir()
            task = Task(kernel, source, own, budget_s, state)
            trials[peer.name] = tried(peer, task, harness)
            _say(f"  {peer.name}: {_told(trials[peer.name])}")
        rounds = final(harness, trials)
    found = {name: _entry(trial, rounds.get(name, [])) for name, trial in trials.items()}
    return {"sizes": dict(kernel.sizes), "peers": found}


def _entry(trial: Trial, rounds: Sequence[float]) -> dict[str, Any]:
    """What came of a peer, for the file: seconds of a call are the median of the last rounds."""
    return {
        "best": trial.best.what if trial.best else None,
        "seconds": statistics.median(rounds) if rounds else None,
        "rounds": list(rounds),
        "found_s": round(trial.found_s, 3),
        "took_s": round(trial.took_s, 3),
        "curve": [(round(at, 3), seconds) for at, seconds in trial.curve],
        "course": list(trial.best.course) if trial.best else [],
        "dropped": trial.dropped,
    }


def _told(trial: Trial) -> str:
    why = f"; {len(trial.dropped)} dropped: {trial.dropped[0]}" if trial.dropped else ""
    if trial.best is None:
        return f"nothing in {trial.took_s:.1f} s{why}"
    return f"{trial.seconds:.3g} s with {trial.best.what}, {trial.found_s:.1f} s{why}"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Schedule:
    """When kernels begin, where there are so many minutes for all.

    ``about_s``: seconds that a kernel takes, before one is known.
    """

    kernels: int
    about_s: float
    within_s: float

    def left_s(self, spent: Sequence[float]) -> float:
        """About how long the kernels that are left take, by those that are done."""
        mean = statistics.fmean(spent) if spent else self.about_s
        return mean * (self.kernels - len(spent))

    def fits(self, spent: Sequence[float], elapsed_s: float) -> bool:
        """Whether another kernel would end in time, if it takes as long as the longest."""
        return elapsed_s + max(spent, default=self.about_s) <= self.within_s


def begun(place: Path | None, facts: Mapping[str, Any], *, resume: bool) -> dict[str, Any]:
    """The figures to add to: none yet, or with ``resume`` those of the file, if it is of the same.

    A run is the same where all ``facts`` are: machine, budget, peers and their versions, data set.
    """
    if place is None or not resume or not place.exists():
        return {**facts, "kernels": {}}
    kept: dict[str, Any] = json.loads(place.read_text())
    other = [name for name in facts if kept.get(name) != facts[name]]
    if other:
        sys.exit(f"{place} is of another run: not the same {', '.join(other)}")
    return kept


def _written(found: Mapping[str, Any], place: Path) -> None:
    """At once, so that what is stopped leaves a whole file."""
    beside = place.with_name(f"{place.name}.part")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    beside.replace(place)


def run(
    found: dict[str, Any], todo: Sequence[Kernel], asked: Sequence[Peer], told: argparse.Namespace
) -> None:
    """Every kernel that there is time for, through all peers, into ``found`` and the file."""
    when = Schedule(len(todo), told.budget + REST_S, told.within * 60)
    began, spent = time.monotonic(), list[float]()
    with _folder("state") as own:
        for kernel in todo:
            start = time.monotonic()
            if not when.fits(spent, start - began):
                _say(f"{when.kernels - len(spent)} kernels left out: no time (go on with --resume)")
                return
            left = when.left_s(spent) / 60
            _say(f"{kernel.name} ({len(spent) + 1} of {when.kernels}, about {left:.0f} min left)")
            try:
                entry = compared(kernel, asked, told.budget, told.state_dir or own)
            except (PeerError, AgentError) as error:
                entry = {"sizes": dict(kernel.sizes), "peers": {}, "why": str(error)}
                _say(f"  left out: {error}")
            found["kernels"][kernel.name] = entry
            spent.append(time.monotonic() - start)
            if told.json:
                _written(found, told.json)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=20.0, metavar="S")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="kernels")
    parser.add_argument("--peer", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--polybench", type=Path, metavar="DIR")
    parser.add_argument("--dataset", metavar="NAME", help="PolyBench's sizes; MEDIUM and LARGE")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="with a calibration")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--resume", action="store_true", help="go on with what --json holds")
    parser.add_argument("--within", type=float, default=1e6, metavar="MINUTES")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--list", action="store_true", help="what is installed, and how to get it")
    told = parser.parse_args()
    known = {p.name: (p, p.version()) for p in peers()}
    if unknown := set(told.peer) - set(known):
        sys.exit(f"no such peer: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    for name, (peer, version) in known.items():
        _say(f"{name}: {version or f'not installed ({peer.install})'}")
    if told.list:
        return
    chosen = [p for n, (p, v) in known.items() if v and (not told.peer or n in told.peer)]
    facts = {
        "machine": _machine(),
        "budget_s": told.budget,
        "dataset": told.dataset or "MEDIUM and LARGE" if told.polybench else None,
        "peers": {p.name: known[p.name][1] for p in chosen},
    }
    found = begun(told.json, facts, resume=told.resume)
    wanted = kernels(told.polybench, told.dataset, told.only)
    run(found, [k for k in wanted if k.name not in found["kernels"]], chosen, told)
    print(markdown(found))
    if told.plot:
        from benchmarks.peers_plot import draw

        draw(found, told.plot)


def _machine() -> dict[str, Any]:
    from agent.measure.machine import read_machine

    machine = read_machine()
    return {"model": machine.model, "level": machine.level, "threads": THREADS}


if __name__ == "__main__":
    main()
