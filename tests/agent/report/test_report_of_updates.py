"""What is told after real updates from a real repository."""

import json

import jsonschema
import pytest

from agent.bundle.bundle import default_bundle, load_bundle
from tests.agent.update.published import made_bundle, new_centre
from tests.conftest import SCHEMAS, agent
from tests.fake_runner import calibrate_simulated

PAYLOAD = json.loads((SCHEMAS / "report-payload.json").read_text())


@pytest.fixture
def centre(tmp_path):
    return new_centre(tmp_path / "repository")


@pytest.fixture
def machine(tmp_path):
    """A machine of which the built-in bundle is right, but for its being three times as slow."""
    calibrate_simulated(tmp_path / "machine", default_bundle())
    return tmp_path / "machine"


def test_a_bundle_taken_and_one_that_was_worse_here_are_told_of(machine, centre, tmp_path):
    def update(bundle, *more):
        centre.add(bundle)
        where = ("--from", centre.public, "--root", centre.root, "--state-dir", machine)
        return agent("update", *where, "--json", *more).json["outcome"]

    def told():
        """Every report that waits, by the bundle that it is about."""
        place = {"AGENT_REPOSITORY": str(centre.public), "AGENT_CHANNEL": "stable"}
        shown = agent("report", "--show", "--state-dir", machine, **place).out
        found = [json.loads(line) for line in shown.splitlines()]
        for one in found:
            jsonschema.validate(one, PAYLOAD)
        return {(one["bundle"], one["bundle_version"]): one for one in found}

    worse = made_bundle(tmp_path / "worse", "7", misleading=True)
    assert update(worse) == "declined"
    before, built_in = told(), load_bundle(default_bundle())
    mine = before[built_in.name, built_in.version]
    assert before["field", "7"]["outcome"] == "refused"
    assert mine["outcome"] != "refused"
    assert before["field", "7"]["dedupe"] != mine["dedupe"]
    alike = ("architecture", "toolchain", "timings", "noise", "week")
    assert [before["field", "7"][n] for n in alike] == [mine[n] for n in alike]
    assert {one["channel"] for one in before.values()} == {"stable"}

    agent("report", "enable", "--yes", "--state-dir", machine)
    agent("report", "--export", tmp_path / "first", "--state-dir", machine)
    assert update(made_bundle(tmp_path / "right", "8"), "--force") == "activated"
    after = told()
    assert list(after) == [("field", "8")]
    assert after["field", "8"]["outcome"] in ("kept", "fell-back", "too-noisy")
