"""A machine that was really calibrated on the bundle that comes with the agent."""

import os
import shutil
from pathlib import Path

import pytest

from agent.state.state import read_state
from tests.conftest import agent, certainly_in_force

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE")


@pytest.fixture(scope="session")
def once_calibrated(made_once) -> Path:
    def fill(place):
        ran = agent("calibrate", "--budget", "2s", "--state-dir", place / "state")
        assert ran.code == 0, ran.err
        certainly_in_force(place / "state")

    return made_once("reported", fill) / "state"


@pytest.fixture
def machine(once_calibrated, tmp_path) -> Path:
    """A copy of one's own."""
    state = tmp_path / "machine"
    shutil.copytree(once_calibrated, state)
    return state


@pytest.fixture(scope="session")
def calibration(once_calibrated) -> dict:
    """What the state keeps of it."""
    with read_state(once_calibrated) as state:
        return dict(state.calibration_in_force().body)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Nothing of the developer's network."""
    for name in (*VARIABLES, "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
