"""A bit that flips in the state is damage, told as such: no answer changes, nothing is a bug.

benchmarks/bit_flips.py tries thousands.
"""

import collections
import contextlib
import random
import shutil
import sqlite3

import pytest

from agent.errors import DamagedError
from agent.state.file import FILE
from agent.state.state import open_state, read_state
from benchmarks.bit_flips import Campaign
from tests.conftest import agent


@pytest.fixture
def state(calibrated, tmp_path):
    ignored = shutil.ignore_patterns("cache")
    return shutil.copytree(calibrated, tmp_path / "state", ignore=ignored)


def edited(state, statement):
    with contextlib.closing(sqlite3.connect(state / FILE)) as db:
        db.execute(statement)
        db.commit()


def flipped(state, text, bit=7):
    """Flip a bit of the first letter of a text, wherever it stands in the file."""
    content = bytearray((state / FILE).read_bytes())
    content[content.index(text)] ^= 1 << bit
    (state / FILE).write_bytes(content)


def test_some_flips_of_one_bit_are_told_or_change_nothing(state):
    made = Campaign(state, collections.Counter(), [])
    draws = random.Random(14)
    for _ in range(60):
        made.flip(draws.randrange(8 * len(made.content)), run_commands=False)
    assert made.wrong == []
    assert made.found["told"] > 5
    assert made.found["same"] > 5


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("words", ["status", "history"])
def test_a_flipped_bit_in_a_stored_text_is_damage_for_every_command(state, words, bit):
    flipped(state, b'"fingerprint"', bit)
    ran = agent(*words.split(), "--state-dir", state)
    assert ran.code == 2, ran.err
    assert "a record that cannot be read" in ran.err
    assert "hint: Run `agent calibrate`" in ran.err
    assert not list(state.glob("state.corrupt-*"))
    with open_state(state) as opened:
        assert "a record of calibration cannot be read" in opened.notices[0]
    assert (state / "state.corrupt-1").exists()


OTHER_SHAPES = (
    "UPDATE calibration SET created_at = 'x'",
    "UPDATE calibration SET body = '[]'",
    "UPDATE calibration SET body = '{}'",
    "UPDATE calibration SET id = 7",
    "UPDATE run SET finished_at = NULL",
    "UPDATE run SET planned = 'many'",
    "DROP INDEX timing_run",
)


@pytest.mark.parametrize("statement", OTHER_SHAPES)
def test_what_nobody_wrote_so_is_damage_and_no_bug(state, statement):
    edited(state, statement)
    for words in ("status", "report --show"):  # which reads, and which writes
        ran = agent(*words.split(), "--state-dir", state)
        assert "bug" not in ran.err, ran.err
        assert "damaged" in ran.err or "cannot be read" in ran.err, ran.err
    assert (state / "state.corrupt-1").exists()


@pytest.mark.parametrize("number", [5, 6, 12, 1 << 30, -1])
def test_a_number_of_a_schema_to_come_on_tables_of_today_is_damage(state, number):
    edited(state, f"PRAGMA user_version = {number}")
    with pytest.raises(DamagedError, match=f"its tables are not those of schema {number}"):
        read_state(state)
    with open_state(state) as opened:
        assert "was damaged" in opened.notices[0]
    assert (state / "state.corrupt-1").exists()


def test_every_way_of_writing_leaves_checksums_that_fit(tmp_path):
    with open_state(tmp_path) as state:
        run = state.begin_run("identity", 1)
        calibration = state.finish(run, {"a": 1.5}, 10, [("activated", "d", {})])
        state.remember("name", {"a": 1})
        state.remember("name", {"a": 2})
        state.note_drift({}, 11.0)
        state.spool([("key", b"\xff"), ("key", b"other")], 12)
        state.begin_run("identity", 1)
    with open_state(tmp_path) as state:
        assert state.notices == ()
    with read_state(tmp_path) as state:
        assert state.run_of(calibration).id == run.id
        assert state.fact("name") == {"a": 2}
        assert state.spooled() == (("key", b"\xff"),)
