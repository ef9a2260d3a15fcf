"""``agent calibration use N``: a person's word on which calibration is in force."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.bundle.installed import FOLDER, bundle_in_force, outdated
from agent.calibration.calibration import calibration_in_force, stored_calibrations
from agent.calibration.verdict import calibration_verdict
from agent.errors import InputError, NothingToDoError
from agent.state import typed

if TYPE_CHECKING:
    from agent.calibration.calibration import StoredCalibration
    from agent.settings.config import Config
    from agent.state.state import State


@dataclass(frozen=True)
class ChosenCalibration:
    """The calibration put in force, and the number of the one before it (None: there was none)."""

    stored: StoredCalibration
    before: int | None

    def to_json(self) -> dict[str, object]:
        """The answer of ``agent calibration use`` (docs/reference/schemas/calibration-use.json)."""
        verdict = typed.to_json(calibration_verdict(self.stored.body))
        return {"calibration_id": self.stored.id, "before": self.before, "verdict": verdict}


def use_calibration(config: Config, state: State, number: int) -> ChosenCalibration:
    """Put a calibration in force that is kept, whatever its verdict.

    Raises:
        InputError: there is none of this number, or its bundle is not the one in force.
        NothingToDoError: it is in force.
    """
    before, kept = calibration_in_force(state), stored_calibrations(state)
    stored = next((c for c in kept if c.id == number), None)
    if stored is None:
        hint = "`agent history` lists those that are kept."
        raise InputError(f"there is no calibration {number} here", hint)
    if before and before.id == number:
        raise NothingToDoError(f"calibration {number} is in force already")
    _check_bundle(stored, config, state)
    state.use(number)
    return ChosenCalibration(stored, before.id if before else None)


def _check_bundle(stored: StoredCalibration, config: Config, state: State) -> None:
    """A head works on its own bundle only, and which one that is is not decided here."""
    from agent.bundle.bundle import default_bundle

    made_with = stored.body.bundle
    given_out = Path(made_with.path).parent in (
        config.state_dir / FOLDER,
        config.state_dir.resolve() / FOLDER,
        default_bundle().parent,
    )
    present = bundle_in_force(state, config.state_dir).bundle
    left = outdated(stored.id, made_with.digest, state)
    if left or (given_out and made_with.digest != present.digest):
        raise InputError(
            f"calibration {stored.id} was made with the bundle {made_with.name} "
            f"{made_with.version}, which is not the one in force",
            "Go back to that bundle with `agent bundle rollback`, or fit the present one: "
            "`agent calibrate --refit`.",
        )
