"""The plot of an evaluation on real programs: how far off each program is, by way to predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bundles.evaluation.programs.report import COLUMNS, RealReport
from bundles.evaluation.programs.scoring import RealFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "programs"
STYLES = {  # colours of Okabe and Ito, told apart by the colour-blind
    "bundle": ("#56B4E9", "o"),
    "bundle_anchored": ("#0072B2", "D"),
    "calibrated": ("#E69F00", "o"),
    "calibrated_anchored": ("#D55E00", "D"),
    "again": ("#999999", "|"),
    "repeated": ("#000000", "|"),
}
NOTHING = RealFigures()
PANELS = ("log_error", "spearman", "top_share")


def draw_programs(report: RealReport, out: Path) -> None:
    """Draw programs.svg and programs.png into ``out``."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    alone = report.ways["bundle"].programs
    order = sorted(alone, key=lambda name: alone[name].log_error or 0.0)
    figure = Figure(figsize=(13.5, 1.6 + 0.24 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, metric in zip(panels, PANELS, strict=True):
        _panel(axes, report, metric, order)
    names, titles = panels[0].get_legend_handles_labels()
    figure.legend(names, titles, loc="outside lower left", ncols=len(titles))
    title = f"{report.programs.name} on {report.target['name']}; lines: means over programs"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    with mpl.rc_context({"svg.hashsalt": NAME, "svg.fonttype": "none"}):
        figure.savefig(out / f"{NAME}.svg", metadata={"Date": None})
    figure.savefig(out / f"{NAME}.png", dpi=120)


def _panel(axes: Axes, report: RealReport, metric: str, order: Sequence[str]) -> None:
    """One figure of every program, a row each, by every way to predict."""
    for name in filter(report.ways.__contains__, STYLES):
        way, (colour, marker) = report.ways[name], STYLES[name]
        rows = ((way.programs.get(p, NOTHING), n) for n, p in enumerate(order))
        known = [(v, n) for row, n in rows if (v := getattr(row, metric)) is not None]
        places = ([v for v, _ in known], [n for _, n in known])
        axes.plot(*places, marker, color=colour, label=way.title, markersize=5, linestyle="none")
        if (mean := getattr(way.mean, metric)) is not None:
            axes.axvline(mean, color=colour, linewidth=0.8, alpha=0.6)
    axes.set_title(dict(COLUMNS)[metric], loc="left", fontsize=11)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
