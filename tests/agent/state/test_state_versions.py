"""A state is taken over from every earlier agent, and one of a later agent is left alone."""

import json
import shutil
import subprocess
import sys

import pytest

from agent.errors import StateError
from agent.state.file import FILE, SCHEMA
from agent.state.state import open_state, read_state
from tests import crash_points
from tests.agent.state.states import GOLDEN, OLDER, left_by_schema, made_newer, rows, schema_of
from tests.conftest import SIZES, agent, environment

older = pytest.mark.parametrize("schema", OLDER)


def tree(path):
    """Everything below ``path`` with what a write would change; the lock is a note, not a state."""
    found = (p for p in (path, *path.rglob("*")) if p.name != "lock")
    return sorted((str(p), p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in found)


def without_checksums(tables):
    """Rows as they were before schema 4 gave each a last column."""
    assert all(row[-1] is not None for found in tables.values() for row in found)
    return {name: [row[:-1] for row in found] for name, found in tables.items()}


def test_there_is_a_state_of_every_earlier_schema_to_try():
    assert sorted(GOLDEN.glob("state-*.sql")) == [GOLDEN / f"state-{n}.sql" for n in OLDER]


@older
def test_an_upgrade_keeps_every_row(tmp_path, schema):
    before = rows(left_by_schema(schema, tmp_path))
    with open_state(tmp_path) as state:
        assert state.notices == ()
        assert state.calibration_in_force().body["accuracy"]
        assert state.open_run().planned > 0
    after = without_checksums(rows(tmp_path))
    assert {name: after[name] for name in before} == before
    assert {name: after[name] for name in after if name not in before and after[name]} == {}
    assert schema_of(tmp_path) == SCHEMA


@older
def test_an_upgraded_state_has_the_tables_of_a_new_one(tmp_path, schema):
    left_by_schema(schema, tmp_path / "old")
    for place in ("old", "new"):
        with open_state(tmp_path / place) as state:
            made = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
            found = state._db.execute(made).fetchall()
        if place == "old":
            upgraded = found
    assert [(kind, name) for kind, name, _ in upgraded] == [(kind, name) for kind, name, _ in found]
    assert [" ".join((sql or "").split()) for *_, sql in upgraded] == [
        " ".join((sql or "").split()) for *_, sql in found
    ]


@older
def test_everything_can_be_written_to_an_upgraded_state(tmp_path, schema):
    left_by_schema(schema, tmp_path)
    with open_state(tmp_path) as state:
        state.note([("activated", "a", {})], 1.0)
        state.remember("x", {"y": 1})
        state.spool([("key", b"{}")], 1.0)
        number = state.finish(state.open_run(), {"z": 1}, 2.0)
        assert (number, state.calibration_in_force().body) == (2, {"z": 1})
        assert state.events()[0].kind == "activated"
        assert state.fact("x") == {"y": 1}
        assert state.spooled()[-1] == ("key", b"{}")


@older
def test_reading_an_older_state_works_and_does_not_upgrade_it(tmp_path, schema):
    before = tree(left_by_schema(schema, tmp_path))
    with read_state(tmp_path) as state:
        assert state.calibration_in_force().id == 1
        assert len(state.timings(state.run_of(1))) == 8
        assert len(state.spooled()) == len(state.drifts()) == (1 if schema > 2 else 0)
        assert len(state.events()) == (2 if schema > 1 else 0)
    assert tree(tmp_path) == before


@older
def test_a_number_of_a_schema_that_its_tables_do_not_have_is_damage(tmp_path, schema):
    with open_state(tmp_path) as state:
        state._db.execute(f"PRAGMA user_version={schema}")
    with open_state(tmp_path) as state:
        assert f"its tables are not those of schema {schema}" in state.notices[0]


@older
def test_every_command_works_on_the_calibration_of_an_older_agent(tmp_path, schema, gemm):
    state = left_by_schema(schema, tmp_path / "state")
    for words in ("status", "history", "doctor", "report --show", "bundle list"):
        ran = agent(*words.split(), "--json", "--state-dir", state)
        assert "bug" not in ran.err, (words, ran.err)
        assert ran.code == 0, (words, ran.err)
    assert agent("rank", gemm, *SIZES, "--no-run", "--json", "--state-dir", state).code == 0
    ran = agent("status", "--report", tmp_path / "page.html", "--state-dir", state)
    assert ran.code == 0, ran.err
    assert "default" in (tmp_path / "page.html").read_text()


UPGRADES = """
import ctypes, os, pathlib, shutil, sys
from agent.state.state import open_state
place, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])
for point in range(first, 2000, 3):
    state = shutil.copytree(place / "as-it-was", place / str(point))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ctypes.CDLL(None).crash_arm(str(state).encode(), ctypes.c_long(point))
            open_state(state)
            code = 0
        finally:
            os._exit(code)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended != -9:
        sys.exit(ended)
"""


@older
def test_killed_at_any_write_of_an_upgrade_the_state_is_the_old_or_the_new_one(tmp_path, schema):
    """At every third of them, other ones for each schema."""
    before = rows(left_by_schema(schema, tmp_path / "as-it-was"))
    on = environment(LD_PRELOAD=str(crash_points.compiled(tmp_path)))
    command = [sys.executable, "-c", UPGRADES, str(tmp_path), str(schema)]
    subprocess.run(command, env=on, check=True)
    states = [path for path in tmp_path.iterdir() if path.name.isdecimal()]
    assert 5 < len(states) < 600, "it was hardly killed, or writes without end"
    for state in states:
        with open_state(state) as opened:
            assert opened.notices == ()
        after = without_checksums(rows(state))
        assert {name: after[name] for name in before} == before
        assert schema_of(state) == SCHEMA


# A downgrade.


@pytest.fixture
def of_tomorrow(calibrated, tmp_path):
    """A calibrated machine that a newer agent has been at."""
    return made_newer(shutil.copytree(calibrated, tmp_path / "state"))


@pytest.mark.parametrize("opening", [open_state, read_state])
def test_a_state_of_a_newer_agent_is_refused(of_tomorrow, opening):
    before = tree(of_tomorrow)
    with pytest.raises(StateError, match=f"newer agent .schema {SCHEMA + 1}") as refused:
        opening(of_tomorrow)
    assert refused.value.hint.startswith("Update this agent")
    assert tree(of_tomorrow) == before


COMMANDS = (
    "calibrate --budget 3s",
    "calibrate --refit",
    "status",
    "status --report PAGE",
    "history",
    "update --from STICK --root STICK",
    "bundle list",
    "bundle show",
    "bundle rollback",
    "bundle pin",
    "bundle unpin",
    "report",
    "report --show",
    "report --export PAGE",
    "report enable --yes",
    "report disable",
    "rank GEMM --size ni=64 --size nj=64 --size nk=64",
    "predict GEMM --size ni=64 --size nj=64 --size nk=64 --schedule original",
)


@pytest.mark.parametrize("words", COMMANDS)
def test_after_a_downgrade_every_command_refuses_and_changes_nothing(
    of_tomorrow, tmp_path, gemm, words
):
    before = tree(of_tomorrow)
    places = {"GEMM": gemm, "PAGE": tmp_path / "made", "STICK": tmp_path / "stick"}
    ran = agent(*(places.get(w, w) for w in words.split()), "--state-dir", of_tomorrow)
    assert ran.code == 2, ran.err
    assert "newer agent" in ran.err
    assert "hint: Update this agent" in ran.err
    assert tree(of_tomorrow) == before
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("command", ["doctor", "self-test"])
def test_after_a_downgrade_what_looks_for_trouble_says_it_in_a_line(of_tomorrow, command):
    before = (of_tomorrow / FILE).stat().st_mtime_ns, (of_tomorrow / FILE).read_bytes()
    ran = agent(command, "--json", "--state-dir", of_tomorrow)
    assert ran.code == 9
    found = [c for c in json.loads(ran.out)["checks"] if "newer agent" in c["message"]]
    assert found
    assert all(c["level"] == "problem" and "Update this agent" in c["advice"] for c in found)
    assert ((of_tomorrow / FILE).stat().st_mtime_ns, (of_tomorrow / FILE).read_bytes()) == before
