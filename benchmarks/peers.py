"""The same kernels through compilers, loop optimisers and autoschedulers, beside `agent tune`.

    python -m benchmarks.peers [--budget 20] [--kernel NAME ...] [--peer NAME ...]
        [--polybench DIR] [--state-dir DIR] [--json FILE] [--plot FILE.svg] [--list]

Every peer offers versions of a kernel's function, each a C file (with object files where it makes
those) and how it is compiled. One harness runs them all: it calls the function through a pointer,
with run-time sizes, as a program of a person's would; what differs from the function as written by
more than rounding is dropped and told. A peer's time counts from its first to its last step:
making, compiling, checking and timing its versions; it is not asked for another one once its budget
is over. At the end the best version of each peer is timed again, all of a kernel in turns.

What is not installed is left out and said, with how to install it. Nothing else may run meanwhile.
PolyBench is github.com/MatthiasJReisinger/PolyBenchC-4.2.1; nothing of it is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.advise.advise import Request, read_source
from agent.advise.calls import CallPlan, plan_of
from agent.advise.drivers import Drivers
from agent.advise.own_function import timing_case
from agent.advise.splice import SourceRegion
from agent.advise.verify import comparing_case
from agent.errors import AgentError
from agent.measure.compiler import Compiler
from agent.settings.config import Config
from benchmarks.peers_protocol import BASELINE, THREADS, Kernel, Peer, PeerError, Task, Version

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {f"{who}_NUM_THREADS": str(THREADS) for who in ("OMP", "HL")}
TRY_S, ROUND_S = 0.06, 0.12  # of calls in a process, where a call takes less
ROUNDS = 5

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
POLYBENCH = "2mm atax correlation doitgen floyd-warshall gemver lu mvt syrk trisolv".split()


@dataclass
class Trial:
    """What came of a peer's versions.

    Attributes:
        best: the fastest that does what the function does; ``seconds``: of a call of it.
        found_s: since the peer began, when that was timed; ``took_s``: when all was.
        curve: (seconds since it began, seconds of a call of the best so far).
        dropped: versions that cannot be used, and why.
    """

    best: Version | None = None
    seconds: float = math.inf
    found_s: float = 0.0
    took_s: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def take(self, version: Version, seconds: float, at_s: float) -> None:
        """A version was timed."""
        if seconds < self.seconds:
            self.best, self.seconds, self.found_s = version, seconds, at_s
            self.curve.append((at_s, seconds))


# --- the harness ----------------------------------------------------------------------------------


@dataclass
class Harness:
    """Runs versions of one kernel's function, and compares them with the function as written."""

    kernel: Kernel
    plan: CallPlan
    folder: Path
    expected: list[bytes] = field(default_factory=list)
    made: int = 0

    @classmethod
    def of(cls, kernel: Kernel, source: SourceRegion, folder: Path) -> Harness:
        """Of a kernel; the function as written is compiled with -O1, and run."""
        plan = plan_of(source)
        first, second = plan.calls[:2]
        harness = cls(kernel, replace(plan, calls=(first, second, first)), folder)
        program = harness.build(Version("as written", kernel.path, ("gcc", "-std=gnu11", "-O1")))
        for number in (0, 1):
            ran = harness._drivers(()).run(program, number, harness.plan, ENVIRONMENT)
            if ran.status != 0:
                raise PeerError(f"the function as written fails: {ran.words[:200]}")
            harness.expected.append(ran.output)
        return harness

    def build(self, version: Version, run_s: float = TRY_S) -> Path:
        """A program that does both calls, or times the first.

        Raises:
            PeerError: it does not compile.
        """
        self.made += 1
        compared = [comparing_case(self.plan, call) for call in self.plan.calls[:2]]
        cases = [*compared, timing_case(self.plan, self.plan.calls[0], run_s)]
        drivers = self._drivers(version.command)
        program = drivers.program(f"v{self.made}", version.file, cases, version.more)
        if isinstance(program, str):
            raise PeerError(f"{version.what}: {program.splitlines()[0][:200]}")
        return program

    def _drivers(self, command: Sequence[str]) -> Drivers:
        (self.folder / "made").mkdir(exist_ok=True)
        words, kernel = tuple(command), self.kernel
        compiler = Compiler(words, "", "", (), openmp=True, identity="")
        return Drivers(self.folder, kernel.path, kernel.function, compiler, kernel.cflags, None)

    def check(self, version: Version, program: Path) -> None:
        """Raises PeerError where it does something else than the function as written."""
        for number, expected in enumerate(self.expected):
            ran = self._drivers(()).run(program, number, self.plan, ENVIRONMENT)
            if ran.status != 0:
                raise PeerError(f"{version.what}: it fails, or takes too long")
            if not self.plan.same(expected, ran.output):
                raise PeerError(f"{version.what}: other results than as written")

    def seconds(self, version: Version, program: Path) -> float:
        """Of the shortest of some calls in a process of its own."""
        ran = self._drivers(()).run(program, 2, self.plan, ENVIRONMENT)
        if ran.status != 0:
            raise PeerError(f"{version.what}: it fails while it is timed, or takes too long")
        return float(ran.output)


def tried(peer: Peer, task: Task, harness: Harness) -> Trial:
    """Let a peer make versions, check and time them, until there are no more or time is over."""
    found, began = Trial(), time.monotonic()
    offered = peer.versions(task)
    try:
        for version in offered:
            try:
                program = harness.build(version)
                harness.check(version, program)
                seconds = harness.seconds(version, program)
            except PeerError as error:
                found.dropped.append(str(error))
            else:
                found.take(version, seconds, time.monotonic() - began)
            if time.monotonic() - began > task.budget_s:
                break
    except (PeerError, AgentError) as error:
        found.dropped.append(str(error))
    found.took_s = time.monotonic() - began
    return found


def final(harness: Harness, trials: Mapping[str, Trial]) -> dict[str, list[float]]:
    """The best of each peer in turns: seconds of a call, round by round."""
    best = {name: t.best for name, t in trials.items() if t.best is not None}
    programs = {name: harness.build(version, ROUND_S) for name, version in best.items()}
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS):
        order = list(programs) if number % 2 == 0 else list(programs)[::-1]
        for name in order:
            rounds[name].append(harness.seconds(best[name], programs[name]))
    return rounds


# --- all of it ------------------------------------------------------------------------------------


def peers() -> list[Peer]:
    """All that are known here, the agent among them."""
    from benchmarks.peers_compilers import compilers
    from benchmarks.peers_halide import Halide
    from benchmarks.peers_loops import Agent, Pluto

    return [*compilers(), Pluto(), Halide(), Agent()]


def kernels(polybench: Path | None, chosen: Sequence[str]) -> list[Kernel]:
    """Our own, or those of PolyBench that are named."""
    if polybench is None:
        own = [
            Kernel(name, ROOT / file, function, _sizes(sizes))
            for name, (file, function, sizes) in KERNELS.items()
        ]
    else:
        own = list(_polybench(polybench))
    unknown = set(chosen) - {k.name for k in own}
    if unknown:
        sys.exit(f"no such kernel: {', '.join(sorted(unknown))}")
    return [k for k in own if not chosen or k.name in chosen]


def _sizes(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (part.split("=") for part in text.split())}


def _polybench(root: Path) -> Iterator[Kernel]:
    sys.path.insert(0, str(Path(__file__).parent))
    from benchmarks.suites import polybench

    support = str(root / "utilities" / "polybench.c")
    for item in polybench(root, root, "LARGE"):
        if item.name in POLYBENCH:
            flags = (*item.cflags, support)
            yield Kernel(item.name, item.path, item.function, item.sizes, flags)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"peers-{name}-") as made:
        yield Path(made)


def compared(kernel: Kernel, asked: Sequence[Peer], budget_s: float, state: Path) -> dict[str, Any]:
    """One kernel through all peers: what each found, when, and the rounds at the end."""
    flags = tuple(flag for flag in kernel.cflags if flag.startswith("-"))
    request = Request(kernel.path, kernel.function, kernel.sizes, flags)
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


def mean_ratio(found: Mapping[str, Any], peer: str, other: str) -> tuple[float, int, int]:
    """Geometric mean of ``other``'s time over ``peer``'s, kernels of both, and ``peer``'s wins."""
    logs = []
    for kernel in found["kernels"].values():
        one, two = (kernel["peers"].get(name, {}).get("seconds") for name in (peer, other))
        if one and two:
            logs.append(math.log(two / one))
    mean = math.exp(statistics.fmean(logs)) if logs else math.nan
    return mean, len(logs), sum(x > 0 for x in logs)


def markdown(found: Mapping[str, Any]) -> str:
    """A table of speed over the baseline by kernel, and of the agent against each."""
    names = [n for n in found["peers"] if any(n in k["peers"] for k in found["kernels"].values())]
    lines = [f"| kernel | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for kernel, result in found["kernels"].items():
        base = result["peers"].get(BASELINE, {}).get("seconds")
        cells = (_cell(base, result["peers"].get(name, {})) for name in names)
        lines.append(f"| {kernel} | {' | '.join(cells)} |")
    lines += ["", "| peer | its time over ours | ours faster on | its time to find, s |"]
    lines += ["|---|---:|---:|---:|"]
    for name in names:
        mean, both, wins = mean_ratio(found, "agent tune", name)
        took = [
            k["peers"][name]["found_s"]
            for k in found["kernels"].values()
            if k["peers"].get(name, {}).get("seconds")
        ]
        if both and name != "agent tune":
            median = statistics.median(took)
            lines.append(f"| {name} | {mean:.2f} | {wins} of {both} | {median:.1f} |")
    return "\n".join(lines) + "\n"


def _cell(base: float | None, entry: Mapping[str, Any]) -> str:
    seconds = entry.get("seconds")
    if not base or not seconds:
        return "-"
    return f"{base / seconds:.2f} x ({entry['found_s']:.1f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=20.0, metavar="S")
    parser.add_argument("--kernel", action="append", default=[], metavar="NAME")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME")
    parser.add_argument("--polybench", type=Path, metavar="DIR")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="with a calibration")
    parser.add_argument("--json", type=Path, metavar="FILE")
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
    found: dict[str, Any] = {
        "machine": _machine(),
        "budget_s": told.budget,
        "peers": {p.name: known[p.name][1] for p in chosen},
        "kernels": {},
    }
    with _folder("state") as own:
        for kernel in kernels(told.polybench, told.kernel):
            _say(kernel.name)
            state = told.state_dir or own
            found["kernels"][kernel.name] = compared(kernel, chosen, told.budget, state)
            if told.json:
                told.json.write_text(json.dumps(found, indent=1) + "\n")
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
