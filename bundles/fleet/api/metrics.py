"""``/metrics`` in the text format of Prometheus 0.0.4: the released counts, and how it goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bundles.fleet.analysis.answers import CellsAnswer
from bundles.fleet.analysis.sites import PLANT_STATES, PlantsAnswer

TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(
    answer: CellsAnswer,
    answered: Mapping[int, int],
    released_at: int | None,
    plants: PlantsAnswer,
) -> str:
    """All metrics.

    Reports taken are told in steps of ten thresholds: exact ones, with the released counts taken
    off, would tell how many wait, and in a small fleet of what.
    """
    step = 10 * answer.threshold
    counts = {status: n - n % step if status < 300 else n for status, n in answered.items()}
    counts.setdefault(202, 0)  # that the line is there must not tell of a first report
    newest = max((cell.week for cell in answer.cells), default="")
    machines = [
        (
            f'week="{c.week}",bundle="{c.bundle}",version="{c.version}",channel="{c.channel}",'
            f'architecture="{c.architecture}",outcome="{c.outcome}"',
            c.machines,
        )
        for c in answer.cells
        if c.week == newest
    ]
    return "".join([
        *_metric("fleet_machines", "gauge", "Machines of the newest week, as released.", machines),
        *_metric(
            "fleet_reports_total", "counter", f"Answers to reports; 2xx in steps of {step}.",
            [(f'status="{status}"', n) for status, n in sorted(counts.items())],
        ),
        *_metric(
            "fleet_released_timestamp_seconds", "gauge", "When counts were last released.",
            [("", released_at or 0)],
        ),
        *_metric(
            "fleet_plants", "gauge",
            f"Tokens of machines; silent: no report for {plants.silent_weeks} weeks.",
            [(f'state="{x}"', sum(p.state == x for p in plants.plants)) for x in PLANT_STATES],
        ),
    ])  # fmt: skip


def _metric(name: str, kind: str, words: str, samples: Iterable[tuple[str, int]]) -> Iterable[str]:
    yield f"# HELP {name} {words}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n"
