"""kill -9 at every write of an update: the machine has the old bundle or the new one, whole."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.update.in_process import agent
from tests.conftest import environment

SOURCE = Path(__file__).with_name("crash_points.c")
HERE = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def preload(tmp_path_factory) -> Path:
    """The library that kills; compiled here."""
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("preload") / "crash_points.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "-o", made, SOURCE, "-ldl"], check=True)
    return made


@pytest.fixture(scope="module")
def briefly_calibrated(made_once, tiny_bundle) -> Path:
    """A state with too few timings for boosting: every one of some hundred updates refits."""

    def fill(place):
        at = ("--bundle", tiny_bundle, "--state-dir", place / "state")
        assert agent("calibrate", "--budget", "6s", *at).code == 0

    return made_once("briefly-calibrated", fill) / "state"


def in_force(state: Path) -> str:
    rows = agent("bundle", "list", "--state-dir", state, "--json").json["bundles"]
    return next(row["digest"] for row in rows if row["in_force"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(  # without timings the transaction is shorter, and all else the same
    ("timings", "every"), [(False, 5), (True, 1)], ids=["never-calibrated", "calibrated"]
)
def test_an_update_that_is_killed_anywhere_leaves_a_whole_bundle_and_can_be_repeated(
    tmp_path, preload, centre, first, second, briefly_calibrated, timings, every
) -> None:
    machine = tmp_path / "before"
    if timings:
        shutil.copytree(briefly_calibrated, machine)
    old = centre.add(first)
    asked = ("update", "--from", centre.public, "--root", centre.root, "--state-dir", machine)
    assert agent(*asked, "--force").code == 0
    assert in_force(machine) == old
    centre.add(second)
    runs = []
    for start in (1, 1 + every):  # two processes, every other point each
        place = tmp_path / f"place{start}"
        place.mkdir()
        words = [machine, place, centre.public, centre.root, old, second, start, 2 * every]
        runs.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.agent.update.crash_run", *map(str, words)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=HERE,
                env=environment(LD_PRELOAD=str(preload), OMP_NUM_THREADS="1"),
            )
        )
    lines = [json.loads(line) for run in runs for line in run.communicate()[0].splitlines()]
    assert [run.returncode for run in runs] == [0, 0]
    killed = [line for line in lines if line["ended"] == -9]
    assert len(killed) > 40 // every, lines[-2:]
    assert [line for line in lines if line["left"] != 0] == []
    assert [line for line in lines if line["again"] not in (0, 7) or line["then"] != 0] == []
    assert [line for line in lines if line["rest"]] == []
