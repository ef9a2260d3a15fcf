import contextlib
import fcntl
import math
import multiprocessing
import sqlite3
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.errors import BusyError, DamagedError, StateError
from agent.json_values import finite_object
from agent.state import lock as lock_module
from agent.state.file import FILE
from agent.state.lock import hold, holder, is_odd
from agent.state.state import KEPT_CALIBRATIONS, TimingKey, open_state, read_state
from tests.agent.state.states import made_newer

KEY = TimingKey("machine", "toolchain", "source", "n=1", "original", "1")


def with_a_calibration(directory, body=None):
    with open_state(directory) as state:
        run = state.begin_run("identity", 3)
        state.record(run, [(KEY, {"x": 1.5})])
        return state.finish(run, body or {"a": 1}, 1_800_000_000.0)


def test_a_calibration_is_read_back(tmp_path):
    number = with_a_calibration(tmp_path, {"a": [1, 2.5, None, "x"]})
    with read_state(tmp_path) as state:
        found = state.calibration_in_force()
    assert (found.id, found.created_at) == (number, 1_800_000_000.0)
    assert found.body == {"a": [1, 2.5, None, "x"]}


def test_timings_are_read_back_in_order(tmp_path):
    with open_state(tmp_path) as state:
        run = state.begin_run("identity", 3)
        for value in range(3):
            state.record(run, [(KEY, {"value": value})])
        assert [t.body["value"] for t in state.timings(run)] == [0, 1, 2]
        assert state.timings(run)[0].key == KEY


def test_a_timing_is_on_the_disk_before_the_run_is_over(tmp_path):
    with open_state(tmp_path) as state:
        run = state.begin_run("identity", 3)
        state.record(run, [(KEY, {"x": 1})])
        with read_state(tmp_path) as other:
            assert len(other.timings(run)) == 1


def test_an_unfinished_run_is_seen_and_a_finished_one_is_not(tmp_path):
    with open_state(tmp_path) as state:
        run = state.begin_run("identity", 3)
        assert state.open_run() == run
        number = state.finish(run, {}, 1.0)
        assert state.open_run() is None
        assert state.run_of(number).id == run.id


def test_a_calibration_that_is_only_kept_leaves_the_one_in_force(tmp_path):
    with open_state(tmp_path) as state:
        first = state.finish(state.begin_run("i", 1), {"a": 1}, 1.0)
        state.finish(state.begin_run("i", 1), {"a": 2}, 2.0, in_force=False)
        assert state.calibration_in_force().id == first
        assert [c.body["a"] for c in state.calibrations()] == [2, 1]
    with read_state(tmp_path) as state:
        assert state.calibration_in_force().id == first


def test_a_first_calibration_that_is_only_kept_leaves_none_in_force(tmp_path):
    with open_state(tmp_path) as state:
        number = state.finish(state.begin_run("i", 1), {}, 1.0, in_force=False)
        assert state.calibration_in_force() is None
        state.use(number)
        assert state.calibration_in_force().id == number


def test_the_calibration_in_force_and_its_timings_outlive_any_number_of_kept_ones(tmp_path):
    with open_state(tmp_path) as state:
        run = state.begin_run("i", 1)
        state.record(run, [(KEY, {"x": 1})])
        number = state.finish(run, {}, 1.0)
        for _ in range(KEPT_CALIBRATIONS + 5):
            state.finish(state.begin_run("i", 1), {}, 1.0, in_force=False)
        assert state.calibration_in_force().id == number
        assert len(state.timings(state.run_of(number))) == 1


def test_ids_grow_even_when_old_calibrations_are_forgotten(tmp_path):
    with open_state(tmp_path) as state:
        numbers = [
            state.finish(state.begin_run("i", 1), {}, 1.0) for _ in range(KEPT_CALIBRATIONS + 5)
        ]
        assert numbers == sorted(set(numbers))
        assert len(state.calibrations(1000)) == KEPT_CALIBRATIONS
        assert state.calibration_in_force().id == numbers[-1]


def test_reading_where_there_is_no_state_finds_nothing_and_writes_nothing(tmp_path):
    with read_state(tmp_path / "none") as state:
        assert state.calibration_in_force() is None
        assert state.calibrations() == ()
        assert state.open_run() is None
    assert list(tmp_path.iterdir()) == []


def test_the_directory_and_the_file_are_private(tmp_path):
    with_a_calibration(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600


# Bytes that SQLite puts into the words of an error, and that are no text.
NO_TEXT = b"\xe0\xb3,g\xbaZ\xe9\xb6.N\x0f\t\xb3\xfcR\x10C\xb1\xb3C\xd7\\s\xbe\x04:\x94"


@settings(max_examples=25, deadline=None)
@given(data=st.binary(min_size=1, max_size=300), at=st.integers(0, 30_000))
@example(data=NO_TEXT, at=2734)
@example(data=b"\xff", at=43)  # of an earlier schema, by its header
def test_a_damaged_file_is_moved_aside_or_still_whole(tmp_path_factory, data, at):
    folder = tmp_path_factory.mktemp("damaged")
    with_a_calibration(folder)
    content = bytearray((folder / FILE).read_bytes())
    at %= len(content)
    content[at : at + len(data)] = data
    (folder / FILE).write_bytes(content)
    try:
        with open_state(folder) as state:
            if state.notices:
                assert (folder / "state.corrupt-1").read_bytes() == bytes(content)
                assert state.calibration_in_force() is None
            else:
                assert read_in_full(state)
            state.finish(state.begin_run("after", 1), {"b": 2}, 1.0)
            assert state.calibration_in_force().body == {"b": 2}
    except StateError as error:  # what it looks like where its number of the schema was damaged
        told = error.message
    else:
        told = "a newer agent wrote nothing"
    assert "newer agent" in told


def read_in_full(state):
    """Everything that is in the state."""
    made = state.calibrations()
    runs = filter(None, (state.open_run(), *(state.run_of(c.id) for c in made)))
    timings = [state.timings(run) for run in runs]
    return [
        made,
        state.calibration_in_force(),
        state.events(),
        state.drifts(),
        state.spooled(),
        timings,
    ]


@pytest.mark.parametrize(
    ("table", "body"),
    [
        ("calibration", "'[]'"),
        ("calibration", "'{\"a\": '"),
        ("calibration", "X'e0b32c67'"),
        ("calibration", "CAST(X'7b22e0b32c67227d' AS TEXT)"),
        ("timing", "''"),
        ("timing", "17"),
    ],
)
def test_a_record_that_cannot_be_read_is_damage_too(tmp_path, table, body):
    with_a_calibration(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute(f"UPDATE {table} SET body = {body}")
        db.commit()
    with open_state(tmp_path) as state:
        assert "was damaged" in state.notices[0]
        assert state.calibration_in_force() is None
    assert (tmp_path / "state.corrupt-1").exists()


def test_reading_a_record_that_cannot_be_read_says_what_to_do(tmp_path):
    with_a_calibration(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("UPDATE calibration SET body = '{'")
        db.commit()
    with read_state(tmp_path) as state, pytest.raises(DamagedError) as found:
        state.calibration_in_force()
    assert found.value.hint.startswith("Run `agent calibrate`")


@pytest.mark.parametrize("content", [b"rubbish", b"SQLite format 3\0" + b"\xff" * 4000])
def test_damaged_files_are_numbered_and_never_overwritten(tmp_path, content):
    for number in (1, 2, 3):
        (tmp_path / FILE).write_bytes(content)
        with open_state(tmp_path) as state:
            assert f"state.corrupt-{number}" in state.notices[0]
        assert (tmp_path / f"state.corrupt-{number}").read_bytes() == content


def test_another_programs_database_is_moved_aside(tmp_path):
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    with open_state(tmp_path) as state:
        assert "another program" in state.notices[0]


def test_an_empty_file_is_a_beginning(tmp_path):
    (tmp_path / FILE).write_bytes(b"")
    with open_state(tmp_path) as state:
        assert state.notices == ()
        assert state.calibration_in_force() is None


def test_reading_a_damaged_file_is_refused_and_leaves_it(tmp_path):
    (tmp_path / FILE).write_bytes(b"rubbish" * 1000)
    with pytest.raises(StateError, match="damaged"):
        read_state(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"rubbish" * 1000


def test_a_newer_agents_database_is_refused(tmp_path):
    with_a_calibration(tmp_path)
    made_newer(tmp_path)
    for opening in (open_state, read_state):
        with pytest.raises(StateError, match="newer agent"):
            opening(tmp_path)


def test_a_link_in_place_of_the_database_is_refused(tmp_path):
    (tmp_path / FILE).symlink_to("/etc/passwd")
    with pytest.raises(StateError, match="not a plain file"):
        open_state(tmp_path)


def test_a_full_database_changes_nothing_and_says_so(tmp_path):
    number = with_a_calibration(tmp_path)
    with open_state(tmp_path) as state:
        run = state.begin_run("identity", 1)
        pages = state._db.execute("PRAGMA page_count").fetchone()[0]
        state._db.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StateError, match="full") as caught:
            state.finish(run, {"big": "x" * 100_000}, 2.0)
        assert "space" in caught.value.hint
        assert state.calibration_in_force().id == number
        assert state.open_run() == run


def test_the_old_calibration_stays_in_force_when_the_process_dies_within_the_transaction(tmp_path):
    number = with_a_calibration(tmp_path)
    child = multiprocessing.get_context("spawn").Process(target=_die_in_finish, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 9
    with open_state(tmp_path) as state:
        assert state.notices == ()
        assert state.calibration_in_force().id == number
        assert len(state.timings(state.open_run())) == 1


def _die_in_finish(directory):
    import os

    with open_state(directory) as state:
        run = state.begin_run("identity", 1)
        state.record(run, [(KEY, {})])
        state._forget_old = lambda _: os._exit(9)
        state.finish(run, {"never": "seen"}, 2.0)


def test_numbers_that_are_not_finite_become_none():
    assert finite_object({"a": [math.nan, math.inf, 1.0], "b": (2,)}) == {
        "a": [None, None, 1.0],
        "b": [2],
    }


def test_the_lock_is_held_by_one_at_a_time(tmp_path):
    busy = pytest.raises(BusyError, match="agent calibrate`, process")
    with hold(tmp_path, "calibrate"), busy, hold(tmp_path, "measure"):
        pass
    with hold(tmp_path, "measure"):
        pass


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 50])
def test_a_lock_file_with_rubbish_in_it_is_no_obstacle(tmp_path, note):
    with hold(tmp_path, "calibrate"):
        (tmp_path / "lock").write_bytes(note)
        with pytest.raises(BusyError, match="not said"), hold(tmp_path, "measure"):
            pass


def test_a_lock_that_is_let_go_for_a_while_can_be_had_by_another_until_then(tmp_path):
    with hold(tmp_path, "update") as lock:
        with lock.released(), hold(tmp_path, "bundle pin"):
            pass
        with pytest.raises(BusyError, match="agent update"), hold(tmp_path, "measure"):
            pass


def test_a_lock_is_waited_for_where_another_has_it_for_a_moment(tmp_path):
    with hold(tmp_path, "update") as lock, contextlib.ExitStack() as other:
        with lock.released():
            other.enter_context(hold(tmp_path, "bundle pin"))
            threading.Timer(0.1, other.close).start()
        with pytest.raises(BusyError, match="agent update"), hold(tmp_path, "measure"):
            pass


def test_a_lock_that_another_keeps_is_given_up_and_an_error_from_inside_goes_first(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lock_module, "RETAKE_S", 0.1)
    with hold(tmp_path, "update") as lock, contextlib.ExitStack() as other:
        with pytest.raises(BusyError, match="agent calibrate"), lock.released():
            other.enter_context(hold(tmp_path, "calibrate"))
        with pytest.raises(ZeroDivisionError), lock.released():
            raise ZeroDivisionError


def test_a_lock_left_by_a_dead_process_is_free(tmp_path):
    (tmp_path / "lock").write_text('{"pid": 1, "since": 0, "command": "calibrate"}')
    with hold(tmp_path, "calibrate"):
        pass


def test_who_holds_the_lock_is_seen_and_nothing_is_made(tmp_path):
    assert holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with hold(tmp_path, "calibrate"):
        assert holder(tmp_path).startswith("`agent calibrate`, process")
    assert holder(tmp_path) is None


def test_an_odd_lock_is_held_by_nobody(tmp_path):
    assert not is_odd(tmp_path)
    (tmp_path / "lock").symlink_to("elsewhere")
    assert is_odd(tmp_path)
    assert holder(tmp_path) is None


def test_somebody_who_only_looks_does_not_keep_an_agent_from_its_work(tmp_path):
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        end = threading.Timer(0.01, fcntl.flock, (looking, fcntl.LOCK_UN))
        end.start()
        with hold(tmp_path, "calibrate"):
            end.join()


@pytest.mark.parametrize("made", [b"", None], ids=["no bytes", "a file without tables"])
def test_an_empty_database_is_read_as_nothing(tmp_path, made):
    if made is None:
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
            db.execute("VACUUM")
    else:
        (tmp_path / FILE).write_bytes(made)
    size = (tmp_path / FILE).stat().st_size
    with read_state(tmp_path) as state:
        assert state.calibration_in_force() is None
        assert state.open_run() is None
    assert (tmp_path / FILE).stat().st_size == size


def test_what_is_remembered_already_is_not_written_again(tmp_path):
    with open_state(tmp_path) as state:
        state.remember("x", {"y": 1, "z": [2]})
    before = (tmp_path / FILE).read_bytes()
    with open_state(tmp_path) as state:
        state.remember("x", {"y": 1, "z": [2]})
        assert (tmp_path / FILE).read_bytes() == before
        state.remember("x", {"y": 2})
        assert state.fact("x") == {"y": 2}
