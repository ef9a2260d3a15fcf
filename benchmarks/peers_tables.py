"""What a run of `benchmarks/peers.py` says: speeds by kernel, the agent against each peer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.peers_protocol import BASELINE

OURS = "agent tune"
BEST = "the best of these"
TUNING = (OURS, "TVM")  # peers that time versions on the way; all others take what a model says


def took_part(found: Mapping[str, Any]) -> list[str]:
    """The peers that have a version of some kernel."""
    entries = [kernel["peers"] for kernel in found["kernels"].values()]
    return [n for n in found["peers"] if any(e.get(n, {}).get("seconds") for e in entries)]


def mean_ratio(found: Mapping[str, Any], peer: str, other: str) -> tuple[float, int, int]:
    """Geometric mean of ``other``'s time over ``peer``'s, kernels of both, and ``peer``'s wins."""
    logs = []
    for kernel in found["kernels"].values():
        one, two = (kernel["peers"].get(name, {}).get("seconds") for name in (peer, other))
        if one and two:
            logs.append(math.log(two / one))
    mean = math.exp(statistics.fmean(logs)) if logs else math.nan
    return mean, len(logs), sum(x > 0 for x in logs)


def first_ahead(peers: Mapping[str, Any]) -> float | None:
    """Seconds from the agent's start to its first version that beats every peer that tunes nothing.

    Its own timings on the way are over the function as written: so are those of the peers here.
    None: no version does in the end, or no peer made one.
    """
    entry, base = peers.get(OURS, {}), peers.get(BASELINE, {}).get("seconds")
    others = [e["seconds"] for n, e in peers.items() if n not in TUNING and e.get("seconds")]
    if not base or not others or not entry.get("seconds") or entry["seconds"] >= min(others):
        return None
    reached = (at for at, speed in entry["course"] if base / speed < min(others))
    return float(min(reached, default=entry["found_s"]))


def markdown(found: Mapping[str, Any]) -> str:
    """Tables: speed over the baseline by kernel, the agent against each, what was left out."""
    kernels: Mapping[str, Any] = found["kernels"]
    names = took_part(found)
    lines = [
        f"| kernel | {' | '.join(names)} | ahead of what tunes nothing after |",
        f"|---|{'---:|' * (len(names) + 1)}",
    ]
    for kernel, result in kernels.items():
        base = result["peers"].get(BASELINE, {}).get("seconds")
        cells = [_cell(base, result["peers"].get(name, {})) for name in names]
        ahead = first_ahead(result["peers"])
        cells.append("-" if ahead is None else f"{ahead:.1f} s")
        lines.append(f"| {kernel} | {' | '.join(cells)} |")
    lines += ["", "| peer | its time over ours | ours faster on | its time to find, s |"]
    lines += ["|---|---:|---:|---:|", *_against_each(found, names)]
    left_out = (f"- {name}: {k['why']}" for name, k in kernels.items() if "why" in k)
    return "\n".join([*lines, "", *left_out]).rstrip() + "\n"


def _against_each(found: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """A row a peer, and one for the best of them on each kernel."""
    for name in (n for n in names if n != OURS):
        entries = (k["peers"].get(name, {}) for k in found["kernels"].values())
        took = [e["found_s"] for e in entries if e.get("seconds")]
        mean, both, wins = mean_ratio(found, OURS, name)
        if both:
            median = statistics.median(took)
            yield f"| {name} | {mean:.2f} | {wins} of {both} | {median:.1f} |"
    mean, both, wins = mean_ratio(with_best(found), OURS, BEST)
    if both:
        yield f"| {BEST} | {mean:.2f} | {wins} of {both} | |"


def with_best(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same figures with one more peer: on each kernel the fastest of all but the agent."""
    kernels = {}
    for kernel, result in found["kernels"].items():
        entries = [e for n, e in result["peers"].items() if n != OURS and e.get("seconds")]
        best = {BEST: min(entries, key=lambda e: e["seconds"])} if entries else {}
        kernels[kernel] = {"peers": {**result["peers"], **best}}
    return {"kernels": kernels}


def _cell(base: float | None, entry: Mapping[str, Any]) -> str:
    seconds = entry.get("seconds")
    if not base or not seconds:
        return "-"
    return f"{base / seconds:.2f} x ({entry['found_s']:.1f} s)"
