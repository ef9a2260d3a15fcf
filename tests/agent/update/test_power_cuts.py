"""kill -9 at writes of an update: the machine has the old bundle or the new one, whole.

At every thirty-second of them, and at fewer on a machine that has nothing to refit;
POWER_CUTS_EVERY=1 in the environment: at each, which takes minutes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import crash_points
from tests.agent.update.in_process import agent
from tests.conftest import environment

HERE = Path(__file__).parents[3]
EVERY = os.environ.get("POWER_CUTS_EVERY")


@pytest.fixture(scope="module")
def preload(tmp_path_factory) -> Path:
    """The library that kills; compiled here."""
    return crash_points.compiled(tmp_path_factory.mktemp("preload"))


def in_force(state: Path) -> str:
    rows = agent("bundle", "list", "--state-dir", state, "--json").json["bundles"]
    return next(row["digest"] for row in rows if row["in_force"])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("timings", "every"),
    [(False, int(EVERY or 40)), (True, int(EVERY or 32))],
    ids=["never-calibrated", "calibrated"],
)
def test_an_update_that_is_killed_anywhere_leaves_a_whole_bundle_and_can_be_repeated(
    tmp_path, preload, centre, first, second, calibrated, timings, every
) -> None:
    machine = tmp_path / "before"
    if timings:
        shutil.copytree(calibrated, machine)
    old = centre.add(first)
    asked = ("update", "--from", centre.public, "--root", centre.root, "--state-dir", machine)
    assert agent(*asked, "--force").code == 0
    assert in_force(machine) == old
    centre.add(second)
    words = [machine, tmp_path, centre.public, centre.root, old, second, every]
    run = subprocess.run(
        [sys.executable, "-m", "tests.agent.update.crash_run", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=HERE,
        env=environment(LD_PRELOAD=str(preload), OMP_NUM_THREADS="1"),
    )
    assert run.returncode == 0
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    killed = [line for line in lines if line["ended"] == -9]
    assert len(killed) > 40 // every, lines[-2:]
    assert [line for line in lines if line["left"] != 0] == []
    assert [line for line in lines if line["again"] not in (0, 7) or line["then"] != 0] == []
    assert [line for line in lines if line["rest"]] == []
