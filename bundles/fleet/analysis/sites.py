"""Plants, by the token they share, and machines whose site labelled them."""

from __future__ import annotations

import re
from typing import Literal, get_args

from msgspec import Struct
from sqlalchemy import Connection, func, select

from agent.report.payload import ERROR_STEP, Channel, Outcome
from bundles.fleet.analysis.answers import Week
from bundles.fleet.counting import weeks
from bundles.fleet.storage.schema import labelled, tokens

PlantState = Literal["silent", "never", "heard"]
PLANT_STATES: tuple[PlantState, ...] = get_args(PlantState)
SILENT_WEEKS = 5  # a machine calibrates every 30 days unless told otherwise


class Plant(Struct, frozen=True):
    """Whether reports come with a token; ``last``: of a silent one, the week of the last report."""

    name: str
    state: PlantState
    last: Week | None


class PlantsAnswer(Struct, frozen=True):
    """Every token of machines that is in use; silent: no report for ``silent_weeks``."""

    silent_weeks: int
    plants: list[Plant]


class LabelledMachine(Struct, frozen=True):
    """What a machine said last that its site lets be named; errors are log errors."""

    label: str
    week: Week
    silent: bool
    bundle: str
    version: str
    channel: Channel
    architecture: str
    outcome: Outcome
    calibrated_error: float | None
    alone_error: float | None


class MachinesAnswer(Struct, frozen=True):
    """Machines with a label (``report_label``), by their labels."""

    silent_weeks: int
    machines: list[LabelledMachine]


def plants_answer(connection: Connection, this_week: int) -> PlantsAnswer:
    """Which plants report, silent ones first."""
    found = select(tokens.c.name, tokens.c.heard_week).where(
        tokens.c.kind == "machine", tokens.c.revoked_at.is_(None)
    )
    plants = [_plant(name, heard, this_week) for name, heard in connection.execute(found)]
    plants.sort(key=lambda plant: (PLANT_STATES.index(plant.state), plant.name))
    return PlantsAnswer(SILENT_WEEKS, plants)


def _plant(name: str, heard: int | None, this_week: int) -> Plant:
    if heard is None:
        return Plant(name, "never", None)
    if _silent(heard, this_week):
        return Plant(name, "silent", weeks.week_text(heard))
    return Plant(name, "heard", None)


def _silent(week: int, this_week: int) -> bool:
    return weeks.between(week, this_week) >= SILENT_WEEKS


def machines_answer(connection: Connection, this_week: int) -> MachinesAnswer:
    """The newest report of each label; press-2 comes before press-10."""
    newest = select(labelled.c.label, func.max(labelled.c.week).label("week")).group_by(
        labelled.c.label
    )
    last = newest.subquery()
    both = (labelled.c.label == last.c.label) & (labelled.c.week == last.c.week)
    rows = connection.execute(select(labelled).join(last, both))
    return MachinesAnswer(
        SILENT_WEEKS,
        [
            LabelledMachine(
                row.label,
                weeks.week_text(row.week),
                _silent(row.week, this_week),
                row.bundle,
                row.version,
                row.channel,
                row.architecture,
                row.outcome,
                _error(row.calibrated),
                _error(row.alone),
            )
            for row in sorted(rows, key=lambda row: _in_order(row.label))
        ],
    )


def _in_order(label: str) -> list[tuple[str, int]]:
    """Numbers as numbers, letters as letters."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", label)]


def _error(bins: int | None) -> float | None:
    return None if bins is None else round(bins * ERROR_STEP, 2)
