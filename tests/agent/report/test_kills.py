"""Reports killed at moments drawn at random: a few of those that benchmarks/kills.py tries.

(Of updates, tests/agent/update/test_power_cuts.py kills one at every write.)
"""

import random
import time

from agent.bundle.bundle import default_bundle, load_bundle
from benchmarks.kills import campaign, reporting
from tests.agent.report.recorder import recording

HANGS_S = 300


def test_a_report_killed_at_some_moments_arrives_once_and_the_state_stays_whole(machine, tmp_path):
    bundle = load_bundle(default_bundle()).digest
    with recording() as centre:
        victim = reporting(tmp_path, machine, centre, bundle)
        done = campaign(victim, 2, time.monotonic() + HANGS_S, random.Random(14))
    assert done.lost == []
