"""Measuring a corpus: real compilers, real kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import AgentError, BusyError
from agent.loopnest.schedules.schedule import ORIGINAL
from bundles.labels.journal import TimedProgram, TimedVersion, alone_at
from bundles.labels.labels import load_labels
from bundles.labels.measure import (
    Campaign,
    completed,
    measure_labels,
    parallel_part,
    programs_to_time,
)

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
SMALL = Campaign("test-box", programs=2, schedules=3, kernel_schedules=0, budget_s=0.1)
FLAGS = ("-O1",)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the small campaign has been measured; only to be read."""
    folder = tmp_path_factory.mktemp("measured")
    measure_labels(SMALL, folder, "gcc", FLAGS, quiet)
    return folder


@pytest.fixture
def copied(measured: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(measured, tmp_path / "copied"))


def journal_of(folder: Path) -> Path:
    return next(folder.glob(".*.journal"))


def test_measured_labels_can_be_loaded(measured: Path) -> None:
    (path,) = measured.glob("*.parquet")
    found = load_labels(path)
    assert path.name == "test-box-gcc-O1-t1.parquet"
    assert (found.target.threads, found.target.compiler) == (1, "gcc")
    assert len(set(found.program)) == 2
    assert (found.seconds > 0).all()


def test_versions_without_a_parallel_loop_are_timed_once_for_all_numbers_of_threads() -> None:
    item = programs_to_time(replace(SMALL, schedules=12), [("random", 0)])[0]
    part = parallel_part(item)
    assert part.schedules[0] == ORIGINAL
    assert 1 < len(part.schedules) < len(item.schedules)
    assert all("parallelize" in schedule for schedule in part.schedules[1:])
    alone = timings(item.schedules, 1.0)
    both = completed(timings(part.schedules, 0.5), alone)
    assert [row.schedule for row in both.rows] == list(item.schedules)
    seconds = {row.schedule: row.seconds for row in both.rows}
    assert all(s == (0.5 if name in part.schedules else 1.0) for name, s in seconds.items())


def timings(schedules: Sequence[str], seconds: float) -> TimedProgram:
    rows = [TimedVersion(s, "ok", seconds, 0.0, 0.0, 0.0, 3) for s in schedules]
    return TimedProgram("random", 0, "a", "b", rows)


def test_nothing_that_names_the_machine_is_written(measured: Path) -> None:
    (path,) = measured.glob("*.parquet")
    import pyarrow.parquet as pq

    words = str(pq.read_table(path).to_pylist()) + str(pq.read_metadata(path).metadata)
    model = next(x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x)
    for secret in (os.uname().nodename, model.split(": ")[1], str(measured)):
        assert secret not in words


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from bundles.labels.measure import Campaign, measure_labels;"
        "wanted = Campaign('test-box', 12, schedules=3, kernel_schedules=0, budget_s=0.1);"
        f"measure_labels(wanted, Path({str(tmp_path)!r}), 'gcc', ('-O1',), lambda s: None)"
    )
    running = subprocess.Popen([sys.executable, "-c", code])
    while sum(file.read_bytes().count(b"\n") for file in tmp_path.glob(".*.journal")) < 3:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = journal_of(tmp_path).read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert whole.count(b"\n") > 2
    (path,) = measure_labels(SMALL, tmp_path, "gcc", FLAGS, quiet)  # two programs are there
    assert journal_of(tmp_path).read_bytes() == whole
    assert len(set(load_labels(path).program)) >= 2


def test_a_torn_last_line_is_measured_again(copied: Path) -> None:
    path = journal_of(copied)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    measure_labels(SMALL, copied, "gcc", FLAGS, quiet)
    assert [json.loads(x)["number"] for x in path.read_bytes().splitlines()[1:]] == [0, 1]


def test_the_journal_of_another_experiment_is_refused(copied: Path) -> None:
    with pytest.raises(AgentError, match="other settings"):
        measure_labels(Campaign("test-box", schedules=4), copied, "gcc", FLAGS, quiet)


def test_a_second_run_into_the_same_place_is_refused_while_the_first_lasts(copied: Path) -> None:
    with alone_at(journal_of(copied)), pytest.raises(BusyError, match="another run writes"):
        measure_labels(SMALL, copied, "gcc", FLAGS, quiet)


def test_more_threads_than_the_machine_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="CPUs"):
        measure_labels(Campaign("test-box", threads=(4096,)), tmp_path, "gcc", FLAGS, quiet)


def test_a_host_name_like_name_with_blanks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="class of machine"):
        measure_labels(Campaign("Halle 3, Ofen"), tmp_path, "gcc", FLAGS, quiet)
