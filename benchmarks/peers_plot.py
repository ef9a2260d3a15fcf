"""Speed against tuning time: a panel a kernel, a mark a peer, the agent's best so far as a line.

One more panel says what each peer has found of all kernels after so many seconds; of many kernels
it is the only one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers_protocol import BASELINE
from benchmarks.peers_tables import OURS, took_part

COLUMNS = 3
MOST_PANELS = 12
MARKS = "o s ^ v D P X *".split()
LEAST_S, MOST_S = 0.05, 200.0  # what is found sooner is drawn at the first
TIMES, SPEEDS = (0.1, 1, 10, 100), (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def draw(found: Mapping[str, Any], place: Path) -> None:
    """Write the drawing of a run's figures (SVG, or what the name says)."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "peers"  # the same figures give the same file
    from matplotlib import pyplot

    kernels, names = found["kernels"], took_part(found)
    alone = kernels if len(kernels) <= MOST_PANELS else {}
    rows, columns = math.ceil((len(alone) + 1) / COLUMNS), COLUMNS if alone else 1
    size = (3.2 * COLUMNS, 2.8 * max(rows, 2))
    figure, panels = pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharex=True)
    for axes, (kernel, result) in zip(panels.flat, alone.items(), strict=False):
        _panel(axes, result["peers"], names)
        axes.set_title(kernel, fontsize=10)
    _mean_panel(panels.flat[len(alone)], found, names)
    for axes in panels.flat[len(alone) + 1 :]:
        axes.axis("off")
    handles = {
        h.get_label(): h
        for axes in panels.flat[: len(alone) or 1]
        for h in axes.get_legend_handles_labels()[0]
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=5, fontsize=8)
    foot = 0.9 / size[1]
    figure.supxlabel("seconds until it was found", y=foot * 0.7, fontsize=9)
    figure.supylabel("times as fast as gcc -O3 as written", fontsize=9)
    figure.tight_layout(rect=(0.01, foot * 0.8, 1, 1))
    figure.savefig(place, metadata={"Date": None})
    pyplot.close(figure)


def speed_after(peers: Mapping[str, Any], name: str, after_s: float) -> float | None:
    """How many times as fast as the baseline what a peer had found of a kernel by then is.

    1: nothing yet, or nothing faster. None: there is no baseline. What was timed on the way counts
    for no more than the last rounds give.
    """
    base, entry = peers.get(BASELINE, {}).get("seconds"), peers.get(name, {})
    if not base:
        return None
    if not entry.get("seconds"):
        return 1.0
    before = [(at, base / seconds) for at, seconds in entry["curve"][:-1]]
    found = [*before, *entry["course"]]
    found.append((entry["found_s"], base / entry["seconds"]))
    best = max((speed for at, speed in found if at <= after_s), default=1.0)
    return float(min(best, base / entry["seconds"]))


def _mean_panel(axes: Any, found: Mapping[str, Any], names: list[str]) -> None:
    """Geometric means over all kernels; the baseline counts where a peer has nothing better."""
    _scales(axes)
    axes.set_title(f"all {len(found['kernels'])}, geometric mean of the best so far", fontsize=10)
    times = [LEAST_S * (MOST_S / LEAST_S) ** (n / 200) for n in range(201)]
    for number, name in enumerate(names):
        means = []
        for time in times:
            given = (speed_after(k["peers"], name, time) for k in found["kernels"].values())
            logs = [math.log(max(speed, 1.0)) for speed in given if speed]
            means.append(math.exp(sum(logs) / max(len(logs), 1)))
        colour = "black" if name == OURS else f"C{number % 10}"
        mark = {"marker": MARKS[number % len(MARKS)], "markevery": (190, 200), "ms": 5}
        axes.plot(times, means, color=colour, lw=1.2, label=name, **mark)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.9), max(high, 2.8))


def _scales(axes: Any) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(LEAST_S * 0.8, MOST_S)
    axes.set_xticks(TIMES, [f"{x:g}" for x in TIMES])
    axes.set_yticks(SPEEDS, [f"{x:g}" for x in SPEEDS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())


def _panel(axes: Any, peers: Mapping[str, Any], names: list[str]) -> None:
    base = peers.get(BASELINE, {}).get("seconds")
    _scales(axes)
    for number, name in enumerate(names):
        entry = peers.get(name, {})
        if not base or not entry.get("seconds"):
            continue
        colour, own = f"C{number % 10}", name == OURS
        at, speed = max(entry["found_s"], LEAST_S), base / entry["seconds"]
        axes.plot(
            at, speed, MARKS[number % len(MARKS)], color="black" if own else colour, label=name
        )
        if entry["course"]:
            times, speeds = zip(*entry["course"], strict=True)
            axes.step([*times, at], [*speeds, speed], where="post", color="black", lw=0.8)
    axes.axhline(1.0, color="grey", lw=0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.7), max(high, 2.8))
