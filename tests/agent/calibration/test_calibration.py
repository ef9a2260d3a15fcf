"""A calibration as a typed value: the JSON of real ones comes back as it was."""

import json
import sqlite3

import pytest

from agent.calibration.calibration import Calibration, calibration_in_force
from agent.state.state import read_state
from tests.agent.state.states import OLDER, left_by_schema


def stored_text(state):
    """The newest calibration as the file holds it."""
    with sqlite3.connect(state / "state.sqlite") as db:
        return db.execute("SELECT body FROM calibration ORDER BY id DESC").fetchone()[0]


def same_again(text):
    found = Calibration.from_json(json.loads(text))
    return json.dumps(found.to_json(), separators=(",", ":")) == text


def test_a_real_calibration_is_written_again_byte_for_byte(calibrated):
    assert same_again(stored_text(calibrated))


@pytest.mark.parametrize("schema", OLDER)
def test_calibrations_of_older_agents_are_read_whole_and_written_as_they_were(tmp_path, schema):
    left_by_schema(schema, tmp_path)
    assert same_again(stored_text(tmp_path))
    with read_state(tmp_path) as state:
        found = calibration_in_force(state).body
    assert found.machine.fingerprint
    assert found.accuracy.calibrated.log_error > 0
    assert found.points is None  # not kept by that agent


def test_an_empty_record_is_a_calibration_of_which_nothing_is_known():
    assert Calibration.from_json({}) == Calibration()
