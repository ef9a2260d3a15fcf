"""How near `agent tune` comes to what the machine can do, and how soon it is ahead of its peers.

    python -m benchmarks.peers_goals [--budget 30] [--only NAME ...] [--state-dir DIR] [--json FILE]

A product of matrices in double precision against the multiply-adds that the machine's threads can
do; functions that memory bounds against the bytes that they can read, or read and write, with as
much memory in use (`benchmarks.peers_peaks`; measured before and after each function, the higher
counts). What a function must move is counted once. All peers that are installed take part but those
that tune: how long until a version of the agent's is faster than each of them? A function takes
about the budget and 40 s; all of it with 30 s about 6 minutes. Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import compared, peers
from benchmarks.peers_peaks import Peaks, peaks
from benchmarks.peers_protocol import ROOT, Kernel
from benchmarks.peers_tables import OURS, TUNING, first_ahead

SOON_S = 10.0  # after which a version should be ahead


@dataclass(frozen=True)
class Bound:
    """A function with what bounds it.

    Attributes:
        kernel: with sizes.
        peak: which of ``Peaks``; ``work``: 10^9 operations or bytes of a call.
        memory: bytes that it uses.
        goal: share of the peak.
    """

    kernel: Kernel
    peak: str
    work: float
    memory: int
    goal: float

    def share(self, seconds: float, most: Peaks) -> float:
        """Of what the machine can do."""
        return self.work / seconds / float(getattr(most, self.peak))


def _kernel(name: str, **sizes: int) -> Kernel:
    return Kernel(name, ROOT / "agent" / "kernels" / f"{name}.c", name, sizes)


def _reading(name: str, ni: int, nj: int, element: int) -> Bound:
    size = ni * nj * element
    return Bound(_kernel(name, ni=ni, nj=nj), "read", size * 1e-9, size, 0.85)


def _product(m: int, n: int, k: int) -> Bound:
    sizes = {"m": m, "n": n, "k": k, "lda": k, "ldb": n, "ldc": n}
    kernel = Kernel("gemm_lda", ROOT / "tests/cases/plant/gemm_lda.c", "gemm_lda", sizes)
    return Bound(kernel, "gflops", 2e-9 * m * n * k, 8 * (m * k + k * n + m * n), 0.6)


BOUNDS = (
    _product(300, 320, 340),
    Bound(_kernel("triad", n=8_000_000), "triad", 24e-9 * 8_000_000, 24 * 8_000_000, 0.85),
    _reading("gemv", 6000, 8000, 4),
    _reading("column_sum", 6000, 8000, 4),
    _reading("gemv_transposed", 4000, 6000, 8),
)


def row(bound: Bound, found: Mapping[str, Any], most: Peaks) -> str:
    """A row of the table."""
    unit = "GFLOP/s" if bound.peak == "gflops" else "GB/s"
    entry, ahead = found["peers"].get(OURS, {}), first_ahead(found["peers"])
    peak = getattr(most, bound.peak)
    if not entry.get("seconds"):
        return f"| {bound.kernel.name} | - | {peak:.1f} {unit} | - | {bound.goal:.0%} | - |"
    rate, share = bound.work / entry["seconds"], bound.share(entry["seconds"], most)
    soon = "never" if ahead is None else f"{ahead:.1f} s"
    return (
        f"| {bound.kernel.name} | {rate:.1f} {unit} | {peak:.1f} {unit} | {share:.0%} "
        f"| {bound.goal:.0%} | {soon} |"
    )


HEAD = f"""\
| function | agent tune | the machine | share | goal | ahead of what tunes nothing ({SOON_S:g} s) |
|---|---:|---:|---:|---:|---:|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=30.0, metavar="S")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="with a calibration")
    parser.add_argument("--json", type=Path, metavar="FILE")
    told = parser.parse_args()
    asked = [p for p in peers() if p.version() and (p.name == OURS or p.name not in TUNING)]
    kept: dict[str, Any] = {"budget_s": told.budget, "functions": {}}
    lines = [HEAD]
    with tempfile.TemporaryDirectory(prefix="goals-") as own:
        for bound in BOUNDS:
            name = bound.kernel.name
            if told.only and name not in told.only:
                continue
            print(name, file=sys.stderr, flush=True)
            before = peaks(bound.memory)
            found = compared(bound.kernel, asked, told.budget, told.state_dir or Path(own))
            most = before.most(peaks(bound.memory))
            lines.append(row(bound, found, most))
            kept["functions"][name] = {**found, "peaks": asdict(most)}
            if told.json:
                told.json.write_text(json.dumps(kept, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
