"""``agent calibrate --if-due``: the hourly look, which mostly finds that nothing is to be done.

facts, nothing written -> (quiet?) -> facts again, alone -> a check, if only that is due
-> nothing to do, or calibrate
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.errors import DamagedError, NothingToDoError
from agent.state.state import read_state
from agent.upkeep import due
from agent.upkeep.checked import Reason

if TYPE_CHECKING:
    from agent.progress import Tell
    from agent.settings.config import Config
    from agent.state.state import State
    from agent.upkeep.checked import Checked
    from agent.upkeep.due import Due

HINT = "Without --if-due it is made again at once."
MakeCheck = Callable[["Config", "State", "Tell"], "Checked"]


def ask_whether_due(config: Config, now: float | None = None) -> Due:
    """What is due, found without writing anything and without the lock.

    Raises:
        NothingToDoError: nothing is.
        StateError: the state cannot be read.
    """
    try:
        with read_state(config.state_dir) as state:
            found = _found(config, state, now)
    except DamagedError as error:  # whoever calibrates sets it aside: a timer must come so far
        return due.Due((Reason("never", error.message),), check=False)
    if not found.reasons and not found.check:
        raise NothingToDoError(
            f"not due: nothing has changed since calibration {found.number}", HINT
        )
    return found


def confirm(
    config: Config,
    state: State,
    tell: Tell,
    check: MakeCheck | None = None,
    now: float | None = None,
) -> tuple[Reason, ...]:
    """Why to calibrate now; timed first, if all that is due is a check.

    What is due is asked again: somebody else may have calibrated while this machine was not quiet.

    Args:
        config: the settings.
        state: opened for writing, with the lock held.
        tell: shown the progress.
        check: finds whether the calibration holds; None: by timing.
        now: seconds since 1970; None: the clock's.

    Raises:
        NothingToDoError: nothing is due any more, or the calibration still holds.
    """
    found = _found(config, state, now)
    if found.reasons:
        return found.reasons
    if not found.check:
        raise NothingToDoError(f"not due: calibration {found.number} was made meanwhile", HINT)
    verdict = (check or _timed)(config, state, tell).found.verdict
    if verdict == "holds":
        raise NothingToDoError(f"not due: checked, calibration {found.number} still holds", HINT)
    if verdict == "unclear":
        words = f"not due: it could not be told whether calibration {found.number} still holds"
        raise NothingToDoError(words, HINT)
    return _found(config, state, now).reasons


def _timed(config: Config, state: State, tell: Tell) -> Checked:
    from agent.upkeep.drift import check_drift

    return check_drift(config, state, tell)


def _found(config: Config, state: State, now: float | None) -> Due:
    now = time.time() if now is None else now
    return due.what_is_due(state, config, due.look_around(config, now))
