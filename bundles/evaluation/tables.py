"""The tables of an evaluation: on the terminal through rich, in files as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.terminal.console import width
from bundles.evaluation.arms import BUNDLE, BUNDLE_FIXED, REFERENCE
from bundles.evaluation.report import (
    COMPARED,
    Efficiency,
    EvaluationReport,
    Figures,
    Focus,
    PairedDifference,
)
from bundles.evaluation.statistics import LABELS

COLUMNS = (
    ("log_error", "log error", "3f"),
    ("factor", "factor", "2f"),
    ("mape", "MAPE", "%"),
    ("median_ape", "median APE", "%"),
    ("spearman", "Spearman", "3f"),
    ("top_share", "top pick", "3f"),
    ("pairwise", "pairs", "3f"),
    ("coverage", "80 % holds", "%"),
    ("seconds_log_error", "seconds: log error", "3f"),
    ("seconds_coverage", "80 % holds", "%"),
)
HEADER = ("labels", *(name for _, name, _ in COLUMNS))
NAMES = {metric: name for metric, name, _ in COLUMNS}
NOTHING = "-"


@dataclass(frozen=True)
class TextTable:
    """A title, a header and rows of text; the first column is left-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def report_tables(report: EvaluationReport) -> list[TextTable]:
    """All tables of a report that have rows."""
    made = [
        _overview(report),
        _curve(report, "log_error", "Mean absolute log error by labels"),
        _curve(report, "spearman", "Spearman within a program by labels"),
        _by_target(report),
        _differences(report),
    ]
    return [table for table in made if table.rows]


def _overview(report: EvaluationReport) -> TextTable:
    rows = tuple(_arm_rows(report, tuple(report.arms), report.mean))
    count = len(report.compared)
    title = f"Unseen programs, {f'mean over {count} targets' if count > 1 else 'one target'}"
    return TextTable(title, ("arm", *HEADER), rows)


def _by_target(report: EvaluationReport) -> TextTable:
    arms = (BUNDLE, _focus(report).arm, REFERENCE)
    rows = tuple(
        (target.name, *row)
        for target in report.targets
        for row in _arm_rows(report, arms, target.arms)
    )
    return TextTable("Target by target", ("target", "arm", *HEADER), rows)


def _arm_rows(
    report: EvaluationReport, arms: tuple[str, ...], curves: Mapping[str, Mapping[int, Figures]]
) -> Iterator[tuple[str, ...]]:
    """Of each arm that has figures: those with ``LABELS``, or the most there are below, or any."""
    for name in arms:
        if budgets := sorted(curves.get(name, {})):
            budget = ([b for b in budgets if b <= LABELS] or budgets[:1])[-1]
            cells = (_cell(curves[name][budget][metric], form) for metric, _, form in COLUMNS)
            yield (report.arms[name].title, str(budget), *cells)


def _curve(report: EvaluationReport, metric: str, title: str) -> TextTable:
    budgets = report.mean_budgets
    rows = tuple(
        (
            report.arms[name].title,
            *(_cell(curve[b][metric] if b in curve else None, "3f") for b in budgets),
        )
        for name, curve in report.mean.items()
    )
    return TextTable(title, ("arm", *map(str, budgets)), rows)


def _differences(report: EvaluationReport) -> TextTable:
    by_arm: dict[tuple[str, int], dict[str, PairedDifference]] = {}
    for d in report.differences:
        by_arm.setdefault((d.against, d.labels), {})[d.metric] = d
    rows = tuple(
        (report.arms[name].title, str(labels), *(_difference(found.get(m)) for m in COMPARED))
        for (name, labels), found in by_arm.items()
    )
    focus = _focus(report)
    ours = report.arms[focus.arm].title if focus.arm in report.arms else focus.arm
    title = f"{ours} ({focus.labels} labels), less the other arm (95 % interval)"
    return TextTable(title, ("against", "labels", *(NAMES[m] for m in COMPARED)), rows)


def _focus(report: EvaluationReport) -> Focus:
    return report.focus or Focus(BUNDLE_FIXED, 0)


def _difference(found: PairedDifference | None) -> str:
    if found is None:
        return NOTHING
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return NOTHING
    return f"{100 * value:.0f} %" if form == "%" else f"{value:.{form}}"


def report_remarks(report: EvaluationReport) -> list[str]:
    """What is to be said in words."""
    count = _focus(report).labels
    lines = [report.protocol.encoder.note]
    if worst := report.worst:
        error, rank = worst.log_error, worst.spearman
        lines.append(
            f"worst machine with {count} labels: {error.target} (log error "
            f"{error.value:.3f}); worst ranked: {rank.target} (Spearman {rank.value:.3f})"
        )
    if gain := report.gains.get("mean"):
        lines.append(
            f"{count} labels against the bundle alone: {100 * gain.log_error:.0f} "
            f"% less log error in speed-ups, {100 * gain.seconds_log_error:.0f} % in seconds"
        )
    if known := {t.name: t.ceiling for t in report.targets if t.ceiling is not None}:
        told = ", ".join(f"{name} {ceiling:.3f}" for name, ceiling in known.items())
        lines.append(f"no model can be shown to be better, since labels do not repeat: {told}")
    lines += [_efficiency(report, row) for row in report.efficiency.mean]
    apart = [t.name for t in report.targets if t.name not in report.compared]
    lines += [f"no timings of the fixed set, so in no mean: {name}" for name in apart]
    lines += [f"left out: {s.why}" for s in report.skipped]
    return lines


def _efficiency(report: EvaluationReport, row: Efficiency) -> str:
    if row.reached:
        words = "needs at most" if row.at_most else "needs"
        needs = f"{words} {row.labels:.0f} labels ({row.times:.1f} x)"
    else:
        needs = f"does not get there with {row.labels:.0f} labels (> {row.times:.1f} x)"
    return (
        f"to equal {row.metric.replace('_', ' ')} {row.wanted:.3f} of the bundle with "
        f"{_focus(report).labels} labels, the best arm without pre-training "
        f"({report.arms[row.arm].title}) {needs}"
    )


def report_markdown(report: EvaluationReport) -> str:
    """All tables and remarks as Markdown."""
    return markdown(report_tables(report), report_remarks(report))


def markdown(tables: Sequence[TextTable], remarks: Sequence[str]) -> str:
    """Tables, then remarks as a list."""
    parts = []
    for table in tables:
        rule = ["---", *["---:"] * (len(table.header) - 1)]
        lines = [table.header, tuple(rule), *table.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"**{table.title}**\n\n{body}\n")
    parts.append("\n".join(f"- {line}" for line in remarks) + "\n")
    return "\n".join(parts)


def print_report(report: EvaluationReport) -> None:
    """Print tables and remarks."""
    print_tables(report_tables(report), report_remarks(report))


def print_tables(tables: Sequence[TextTable], remarks: Sequence[str]) -> None:
    """Print tables, then remarks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=width(), no_color=True)
    for table in tables:
        shown = Table(title=table.title, box=box.SIMPLE_HEAD, title_justify="left")
        for number, name in enumerate(table.header):
            text = not number or name == "arm"
            shown.add_column(name, justify="left" if text else "right", no_wrap=text)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for line in remarks:
        console.print(line)
