import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from agent.errors import AgentError, Exit
from agent.loopnest.features.nest import lower
from agent.model.facts import FACTS, facts_of
from bundles import cli
from bundles.evaluation.check_simulator import check_simulator_on, compare_with_simulator
from bundles.labels.labels import load_labels, write_labels
from bundles.simulator.machines import facts_of_machines, machine_like, sample_machines
from bundles.simulator.simulate import simulate
from tests.bundles.simulated_labels import TARGET, timed_items, write_simulated


@pytest.fixture(scope="module")
def items():
    return timed_items(40, 8, fixed=False)


@pytest.fixture(scope="module")
def path(items, tmp_path_factory):
    return write_simulated(items, tmp_path_factory.mktemp("labels"))[0]


def test_labels_of_the_simulator_itself_are_met_exactly(items, path) -> None:
    table = lower([version for item in items for version in item.versions])
    labels = load_labels(path)
    times = simulate(table, (machine_like(labels.target),))[:, 0].astype(float)
    own = replace(labels, seconds=np.exp(times), log_speedup=times[labels.base] - times)
    found = compare_with_simulator(own, table)
    assert found.tuning.speedup == pytest.approx(0.0, abs=1e-4)
    assert found.tuning.seconds == pytest.approx(0.0, abs=1e-4)
    assert found.tuning.rank == pytest.approx(1.0, abs=0.1)
    assert found.tuning.spread > 0.1


def test_a_file_is_compared_by_kind_and_test_programs_are_kept_apart(items, path) -> None:
    found = check_simulator_on(path)
    assert found.tuning.programs + found.test.programs == len(items)
    assert min(found.tuning.programs, found.test.programs) > 4
    assert {"step tile", "step vectorize", "several statements"} <= found.kinds.keys()
    assert all(figures.rows <= found.tuning.rows for figures in found.kinds.values())
    assert found.kinds[found.worst[0]].speedup == max(f.speedup for f in found.kinds.values())


def test_the_command_prints_a_table_or_json(capsys, monkeypatch, path) -> None:
    for flags in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["bundles", "check-simulator", str(path), *flags])
        assert cli.main() == Exit.OK
        out = capsys.readouterr().out
        assert "worst" in out
    assert json.loads(out)[0]["target"] == TARGET.name


def test_labels_whose_programs_cannot_be_made_again_are_refused(tmp_path, path) -> None:
    rows = [
        {
            "program": "p",
            "family": "f",
            "schedule": schedule,
            "seconds": 1.0,
            "log_speedup": 0.0,
            "low": 0.0,
            "high": 0.0,
            "features": load_labels(path).features[0].tolist(),
            "work": 1.0,
        }
        for schedule in ("original", "tile i 32")
    ]
    other = tmp_path / "other.parquet"
    write_labels(other, TARGET, rows)
    with pytest.raises(AgentError, match="cannot be made again"):
        check_simulator_on(other)


def test_facts_of_machines_are_in_the_order_of_the_facts_of_sites() -> None:
    machine = machine_like(TARGET)
    (row,) = facts_of_machines([machine])
    expected = facts_of(32, 2, {1: 1 << 15, 2: 1 << 20, 3: 1 << 24}, "gcc", ("-O3",))
    assert row.shape == (len(FACTS),)
    np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_a_third_level_that_is_not_there_is_no_fact() -> None:
    machine = machine_like(replace(TARGET, l3=0))
    assert math.isnan(facts_of_machines([machine])[0, FACTS.index("l3")])


def test_sampled_machines_have_every_compiler_and_level() -> None:
    fleet = sample_machines(np.random.default_rng(0), 300)
    kinds = {(m.gcc, m.clang, m.o3) for m in fleet}
    assert {(1.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 1.0)} <= kinds
    assert all(m.cheap == (m.gcc and not m.o3) for m in fleet)


def test_a_compiler_at_o2_does_less_by_itself_than_at_o3() -> None:
    hard, soft = (machine_like(replace(TARGET, flags=(level,))) for level in ("-O3", "-O2"))
    assert (soft.outer, soft.interchange) == (0.0, 0.0)
    assert (hard.outer, hard.interchange) == (1.0, 1.0)
    assert soft.peel < hard.peel


def test_every_target_has_a_machine_with_its_facts() -> None:
    for compiler in ("gcc", "clang", "cc"):
        for virtual, architecture in ((True, "x86_64"), (False, "x86_64"), (False, "aarch64")):
            target = replace(
                TARGET, compiler=compiler, virtual=virtual, architecture=architecture, l1=0, l2=0
            )
            machine = machine_like(target)
            assert (machine.simd, machine.cores) == (32.0, 2.0)
            assert machine.l1 < machine.l2 <= machine.l3
