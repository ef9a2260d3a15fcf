"""The tables of an evaluation: on the terminal through rich, in files as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
NOTHING = "-"
WIDTH = 150  # where no terminal says how wide it is


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text; the first column is left-aligned."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(found: Mapping[str, Any]) -> list[Table]:
    """All tables of a report."""
    made = [
        _overview(found),
        _curve(found, "log_error", "Mean absolute log error by labels"),
        _curve(found, "spearman", "Spearman within a program by labels"),
        _by_target(found),
        _differences(found),
    ]
    return [table for table in made if table.rows]


def _overview(found: Mapping[str, Any]) -> Table:
    rows = []
    for name, arm in found["arms"].items():
        curve = found["mean"].get(name, {})
        budget = _nearest(curve)
        if budget is not None:
            cells = (_cell(curve[budget][key], form) for key, _, form in COLUMNS)
            rows.append((arm["title"], budget, *cells))
    count = len(found["compared"])
    title = f"Unseen programs, {f'mean over {count} targets' if count > 1 else 'one target'}"
    return Table(title, ("arm", "labels", *(c[1] for c in COLUMNS)), tuple(rows))


def _nearest(curve: Mapping[str, Any]) -> str | None:
    """48 labels, or the most there are below, or whatever there is."""
    budgets = sorted(map(int, curve))
    fitting = [b for b in budgets if b <= 48] or budgets[:1]
    return str(fitting[-1]) if fitting else None


def _curve(found: Mapping[str, Any], metric: str, title: str) -> Table:
    budgets = sorted({int(b) for curve in found["mean"].values() for b in curve})
    rows = tuple(
        (
            found["arms"][name]["title"],
            *(_cell(curve.get(str(b), {}).get(metric), "3f") for b in budgets),
        )
        for name, curve in found["mean"].items()
    )
    return Table(title, ("arm", *map(str, budgets)), rows)


def _by_target(found: Mapping[str, Any]) -> Table:
    rows = []
    for target in found["targets"]:
        for name in ("bundle", _focus(found)[0], "reference"):
            curve = target["arms"].get(name, {})
            if (budget := _nearest(curve)) is not None:
                cells = (_cell(curve[budget][key], form) for key, _, form in COLUMNS)
                rows.append((target["name"], found["arms"][name]["title"], budget, *cells))
    header = ("target", "arm", "labels", *(c[1] for c in COLUMNS))
    return Table("Target by target", header, tuple(rows))


def _differences(found: Mapping[str, Any]) -> Table:
    metrics = ("log_error", "spearman", "top_share", "seconds_log_error")
    by_arm: dict[tuple[str, int], dict[str, Any]] = {}
    for d in found["differences"]:
        by_arm.setdefault((d["against"], d["labels"]), {})[d["metric"]] = d
    rows = tuple(
        (
            found["arms"][name]["title"],
            str(labels),
            *(_difference(by_metric.get(m)) for m in metrics),
        )
        for (name, labels), by_metric in by_arm.items()
    )
    names = ("log error", "Spearman", "top pick", "seconds: log error")
    arm, count = _focus(found)
    ours = found["arms"].get(arm, {}).get("title", arm)
    title = f"{ours} ({count} labels), less the other arm (95 % interval)"
    return Table(title, ("against", "labels", *names), rows)


def _focus(found: Mapping[str, Any]) -> tuple[str, int]:
    focus = found["focus"] or {"arm": "bundle_fixed", "labels": 0}
    return focus["arm"], focus["labels"]


def _difference(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return NOTHING
    return f"{value['value']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}]"


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return NOTHING
    return f"{100 * value:.0f} %" if form == "%" else f"{value:.{form}}"


def remarks(found: Mapping[str, Any]) -> list[str]:
    """What is to be said in words."""
    count = _focus(found)[1]
    lines = [found["protocol"]["encoder"]["note"]]
    if worst := found["worst"]:
        error, rank = worst["log_error"], worst["spearman"]
        lines.append(
            f"worst machine with {count} labels: {error['target']} (log error "
            f"{error['value']:.3f}); worst ranked: {rank['target']} (Spearman {rank['value']:.3f})"
        )
    if gain := found["gains"].get("mean"):
        lines.append(
            f"{count} labels against the bundle alone: {100 * gain['log_error']:.0f} "
            f"% less log error in speed-ups, {100 * gain['seconds_log_error']:.0f} % in seconds"
        )
    lines += [_efficiency(found, row) for row in found["efficiency"]["mean"]]
    apart = [t["name"] for t in found["targets"] if t["name"] not in found["compared"]]
    lines += [f"no timings of the fixed set, so in no mean: {name}" for name in apart]
    lines += [f"left out: {s['why']}" for s in found["skipped"]]
    return lines


def _efficiency(found: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    metric = row["metric"].replace("_", " ")
    title = found["arms"][row["arm"]]["title"]
    if row["reached"]:
        words = "needs at most" if row["at_most"] else "needs"
        needs = f"{words} {row['labels']:.0f} labels ({row['times']:.1f} x)"
    else:
        needs = f"does not get there with {row['labels']:.0f} labels (> {row['times']:.1f} x)"
    return (
        f"to equal {metric} {row['wanted']:.3f} of the bundle with {_focus(found)[1]} labels, the "
        f"best arm without pre-training ({title}) {needs}"
    )


def markdown(found: Mapping[str, Any]) -> str:
    """All tables and remarks as Markdown."""
    parts = []
    for table in tables(found):
        rule = ["---", *["---:"] * (len(table.header) - 1)]
        lines = [table.header, tuple(rule), *table.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"**{table.title}**\n\n{body}\n")
    parts.append("\n".join(f"- {line}" for line in remarks(found)) + "\n")
    return "\n".join(parts)


def show(found: Mapping[str, Any], chosen: Sequence[str] = ()) -> None:
    """Print tables (those whose title begins with a word chosen, or all) and remarks."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Rich

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH, no_color=True)
    for table in tables(found):
        if chosen and not table.title.startswith(tuple(chosen)):
            continue
        shown = Rich(title=table.title, box=box.SIMPLE_HEAD, title_justify="left")
        for number, name in enumerate(table.header):
            text = not number or name == "arm"
            shown.add_column(name, justify="left" if text else "right", no_wrap=text)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for line in remarks(found):
        console.print(line)
