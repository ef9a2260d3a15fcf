"""Learning curves as SVG and PNG: log error and rank correlation against labels, a line an arm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bundles.evaluation.arms import BY_NAME, MEDIAN, LineStyle
from bundles.evaluation.report import EvaluationReport, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "learning-curves"
PANELS = (
    ("log_error", "Mean absolute log error (lower is better)"),
    ("spearman", "Spearman within a program (higher is better)"),
)
ZERO_AT = 3.5  # where 0 labels stand on the axis, in budgets: it has no logarithm


def draw_learning_curves(report: EvaluationReport, out: Path) -> None:
    """Draw the mean over targets into ``out``: learning-curves.svg and .png."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    budgets = report.mean_budgets
    for axes, (metric, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        _panel(axes, report, metric, budgets)
        axes.set_title(title, loc="left", fontsize=11)
    count = len(report.compared)
    figure.suptitle(
        f"Unseen programs, mean over {count} target{'s' if count > 1 else ''} and "
        f"{report.protocol.seeds} seeds; bands: 95 % by bootstrap over programs and seeds, "
        "less what is hard for all arms alike; dotted: no more labels than that",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    with mpl.rc_context({"svg.hashsalt": NAME, "svg.fonttype": "none"}):
        figure.savefig(out / f"{NAME}.svg", metadata={"Date": None})
    figure.savefig(out / f"{NAME}.png", dpi=120)


def _panel(axes: Axes, report: EvaluationReport, metric: str, budgets: Sequence[int]) -> None:
    right = _at(max([*budgets, 8]))
    ends = []
    for name, curve in report.mean.items():
        points = [
            (b, value, getattr(row, f"{metric}_band"))
            for b, row in sorted(curve.items())
            if (value := row[metric]) is not None
        ]
        if points:
            style = BY_NAME[name].style
            last = _line(axes, style, points, right)
            ends.append((last, report.arms[name].title, style.colour))
    axes.set_xticks([_at(b) for b in budgets], [str(b) for b in budgets], fontsize=9)
    axes.set_xlabel("timed versions on the new machine (logarithmic, and 0)")
    axes.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _frame(axes, report, metric)
    _name_lines(axes, ends, right)


def _at(budget: int) -> float:
    return float(np.log2(budget or ZERO_AT))


def _line(
    axes: Axes, style: LineStyle, points: Sequence[tuple[int, float, Interval]], right: float
) -> float:
    """Draw one arm; the height at which it ends. What has no more labels goes on level, dotted."""
    x, y = [_at(budget) for budget, _, _ in points], [value for _, value, _ in points]
    band = np.array([interval for _, _, interval in points])
    axes.fill_between(x, band[:, 0], band[:, 1], color=style.colour, alpha=0.13, linewidth=0)
    axes.plot(
        x, y, color=style.colour, marker=style.marker, linewidth=style.width,
        linestyle=style.line, markersize=5 if style.width < 2 else 8,
    )  # fmt: skip
    if x[-1] < right:
        axes.plot([x[-1], right], [y[-1], y[-1]], color=style.colour, linestyle=":", linewidth=1)
    return y[-1]


def _frame(axes: Axes, report: EvaluationReport, metric: str) -> None:
    """Show what is worth telling apart: the median ranks nothing and would squeeze the rest."""
    values = [
        value for name, curve in report.mean.items() for row in curve.values()
        if (value := row[metric]) is not None and (name != MEDIAN or metric == "log_error")
    ]  # fmt: skip
    low, high = min(values, default=0.0), max(values, default=1.0)
    if metric == "log_error":
        high = min(high, 2.5 * low)
    space = 0.06 * (high - low) + 1e-3
    axes.set_ylim(low - space, high + space)


def _name_lines(axes: Axes, ends: list[tuple[float, str, str]], right: float) -> None:
    """Names at the right margin, moved apart, tied to their lines; the value if out of sight."""
    low, high = axes.get_ylim()
    shown = sorted(
        (min(max(y, low), high), title if low <= y <= high else f"{title} ({y:.2f})", colour)
        for y, title, colour in ends
    )
    places = _apart([y for y, *_ in shown], (high - low) / 22, low, high)
    for (y, title, colour), place in zip(shown, places, strict=True):
        axes.plot(
            [right, right + 0.12, right + 0.3], [y, place, place],
            color=colour, linewidth=0.6, alpha=0.7, clip_on=False,
        )  # fmt: skip
        axes.text(right + 0.35, place, title, color=colour, fontsize=9, va="center")
    axes.set_xlim(_at(0) - 0.3, right + 0.1)


def _apart(values: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Rising places at least ``step`` apart, near the values, inside the frame if they fit."""
    places = list(values)
    for _ in range(200):
        moved = False
        for i in range(len(places) - 1):
            gap = step - (places[i + 1] - places[i])
            if gap > 1e-9:
                places[i] -= gap / 2
                places[i + 1] += gap / 2
                moved = True
        if places and places[0] < low:
            places[0] = low
        if places and places[-1] > high:
            places[-1] = high
        if not moved:
            break
    return places
