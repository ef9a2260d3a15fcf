"""Speed against tuning time: a panel a kernel, a mark a peer, the agent's best so far as a line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = 4
MARKS = "o s ^ v D P X *".split()
LEAST_S, MOST_S = 0.05, 200.0  # what is found sooner is drawn at the first
TIMES, SPEEDS = (0.1, 1, 10, 100), (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


def draw(found: Mapping[str, Any], place: Path) -> None:
    """Write the drawing of a run's figures (SVG, or what the name says)."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "peers"  # the same figures give the same file
    from matplotlib import pyplot

    kernels, names = found["kernels"], list(found["peers"])
    rows = math.ceil(len(kernels) / COLUMNS)
    figure, panels = pyplot.subplots(
        rows, COLUMNS, figsize=(3.2 * COLUMNS, 2.8 * rows), squeeze=False, sharex=True
    )
    for axes, (kernel, result) in zip(panels.flat, kernels.items(), strict=False):
        _panel(axes, result["peers"], names)
        axes.set_title(kernel, fontsize=10)
    for axes in panels.flat[len(kernels) :]:
        axes.axis("off")
    handles = {
        h.get_label(): h for axes in panels.flat for h in axes.get_legend_handles_labels()[0]
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=5, fontsize=8)
    figure.supxlabel("seconds until it was found", y=0.10, fontsize=9)
    figure.supylabel("times as fast as gcc -O3 as written", fontsize=9)
    figure.tight_layout(rect=(0.01, 0.12, 1, 1))
    figure.savefig(place, metadata={"Date": None})
    pyplot.close(figure)


def _panel(axes: Any, peers: Mapping[str, Any], names: list[str]) -> None:
    base = peers.get("gcc -O3", {}).get("seconds")
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(LEAST_S * 0.8, MOST_S)
    axes.set_xticks(TIMES, [f"{x:g}" for x in TIMES])
    axes.set_yticks(SPEEDS, [f"{x:g}" for x in SPEEDS])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    for number, name in enumerate(names):
        entry = peers.get(name, {})
        if not base or not entry.get("seconds"):
            continue
        colour, own = f"C{number % 10}", name == "agent tune"
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
