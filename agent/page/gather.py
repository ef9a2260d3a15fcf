"""The record of this machine, read from its state; nothing is written."""

from __future__ import annotations

import platform
import time
from pathlib import Path

from agent import __version__
from agent.calibration.calibration import stored_calibrations
from agent.page.document import render
from agent.page.record import Record
from agent.state.state import read_state
from agent.terminal.calibration_wording import interrupted, kept_line
from agent.upkeep.checked import stored_checks
from agent.upkeep.records import read_status


def page_of(directory: Path) -> str:
    """The page of the state in ``directory``, as HTML; StateError if it is unreadable."""
    return render(gather(directory))


def gather(directory: Path) -> Record:
    """All that the page shows of the state in ``directory``; StateError if it is unreadable."""
    told = read_status(directory)
    notes = [f"This calibration cannot be relied on here: {n.message}." for n in told.notes]
    if told.unfinished:
        notes.append(interrupted(told.unfinished))
    with read_state(directory) as state:
        found, checks = stored_calibrations(state), stored_checks(state)
    if told.kept:
        notes.append(kept_line(told.kept, alone=told.calibration is None))
    name = platform.node() or "this machine"
    about = told.calibration.id if told.calibration else None
    return Record(found, about, checks, tuple(notes), name, __version__, time.time())
