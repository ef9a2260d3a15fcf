"""The record of this machine, read from its state; nothing is written."""

from __future__ import annotations

import platform
import time
from pathlib import Path

from agent import __version__
from agent.page.document import render
from agent.page.record import Entry, Record
from agent.state.state import read_state
from agent.upkeep.records import status


def page_of(directory: Path) -> str:
    """The page of the state in ``directory``, as HTML; StateError if it is unreadable."""
    return render(gather(directory))


def gather(directory: Path) -> Record:
    """All that the page shows of the state in ``directory``; StateError if it is unreadable."""
    told = status(directory)
    notes = [f"This calibration cannot be relied on here: {n['message']}." for n in told["notes"]]
    if run := told["unfinished"]:
        notes.append(
            f"A calibration was interrupted after {run['timed']} of {run['planned']} timings; "
            "`agent calibrate` goes on from there."
        )
    with read_state(directory) as state:
        found = [Entry(c.id, c.created_at, c.body) for c in state.calibrations()]
        checks = [Entry(d.id, d.created_at, d.body) for d in state.drifts()]
    name = platform.node() or "this machine"
    return Record(tuple(found), tuple(checks), tuple(notes), name, __version__, time.time())
