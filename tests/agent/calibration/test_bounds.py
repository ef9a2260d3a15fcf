"""Times that no machine can take are not believed, wherever they come from."""

import json
import math

import numpy as np
import pytest

from agent.bundle.bundle import load_bundle
from agent.calibration.bounds import possible
from agent.calibration.predictor import check_possible
from agent.errors import BundleError
from agent.measure.machine import read_machine
from tests.agent.bundle.bundles_made import write_bundle
from tests.conftest import agent

ADDITION = """
void add(int n, float a[n], const float b[n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        a[i] += b[i];
#pragma endscop
}
"""
EXTREME = {"fast": -60.0, "slow": 20.0}  # log seconds an operation; -21 is usual


@pytest.fixture(params=EXTREME)
def nonsense(request, tiny_bundle, tmp_path):
    """The tiny bundle with another level of all times."""
    prior = json.loads((tiny_bundle / "prior.json").read_text())
    prior["mean"][-1] = EXTREME[request.param]
    golden = json.loads((tiny_bundle / "manifest.json").read_text())["golden"]
    encoder = (tiny_bundle / "encoder.onnx").read_bytes()
    return write_bundle(tmp_path / "b", encoder, json.dumps(prior).encode(), golden=golden)


def test_four_gigabytes_take_longer_than_nothing_and_less_than_for_ever():
    work = np.full(3, math.log(4e9))
    seconds = np.log([2.9e-20, 0.5, 1e9])
    assert possible(seconds, work, threads=64).tolist() == [False, True, False]


def test_a_bundle_that_predicts_impossible_times_of_the_fixed_set_is_refused(nonsense):
    with pytest.raises(BundleError, match="of the fixed set takes"):
        check_possible(load_bundle(nonsense), read_machine())


def test_a_bundle_that_does_not_is_taken(tiny_bundle):
    check_possible(load_bundle(tiny_bundle), read_machine())


@pytest.mark.parametrize("command", ["rank", "predict"])
def test_no_impossible_figure_is_shown(nonsense, tmp_path, command):
    path = tmp_path / "add.c"
    path.write_text(ADDITION)
    schedule = ["--schedule", "unroll i 2"] if command == "predict" else []
    ran = agent(command, str(path), "--size", "n=1000000", "--bundle", str(nonsense), *schedule)
    assert ran.code == 2
    assert ran.out == ""
    assert "which is impossible" in ran.err
