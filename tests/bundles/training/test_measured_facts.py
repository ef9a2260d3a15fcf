"""What readings of a probe would teach a prior beside the named facts, and who is told what."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import measured_facts_real
from benchmarks.measured_facts import (
    ARMS,
    MEASURED,
    NAMED,
    Known,
    Score,
    Split,
    World,
    best_ridge,
    gain,
    misread,
    readings,
    splits,
    table,
    teach,
    trial,
)
from benchmarks.measured_facts_real import parse_readings
from bundles.simulator.machines import facts_of_machines, sample_machines
from bundles.training.prior import MachineHeads, make_prior

EXACT = next(arm for arm in ARMS if arm.title == "named + measured, exact")


def world(count: int = 60) -> World:
    """Machines whose heads hang on the first two readings, with made-up programs."""
    rng = np.random.default_rng(0)
    machines = sample_machines(rng, count)
    found = readings(machines, MEASURED)[:, :2]
    weights = (found - found.mean(0)) @ rng.standard_normal((2, 5))
    known, unseen = rng.standard_normal((40, 4, 4)), rng.standard_normal((12, 4, 4))
    times = [x @ weights[:, :-1].T + weights[:, -1] for x in (known, unseen)]
    facts = facts_of_machines(machines).astype(np.float64)
    return World(machines, facts, weights, known, unseen, *times)


def log_error(found: World, arm: int | str, split: Split) -> float:
    chosen = next(a for n, a in enumerate(ARMS) if arm in (n, a.title))
    return float(np.mean([row[0, False]["log_error"] for row in trial(found, chosen, split)]))


def test_where_nothing_was_measured_the_prior_is_that_of_the_named_facts() -> None:
    found = world()
    machines = MachineHeads(found.heads, found.facts)
    measured = readings(found.machines, MEASURED)
    here = teach(Known(machines, measured)).on(found.facts[3], np.full(measured.shape[1], np.nan))
    np.testing.assert_allclose(here.mean, make_prior(machines).on(found.facts[3]).mean)


def test_real_machines_of_which_nothing_was_read_teach_what_named_facts_say() -> None:
    found = world()
    machines = MachineHeads(found.heads, found.facts)
    measured = readings(found.machines, MEASURED)
    real = MachineHeads(found.heads[:4] + 1.0, found.facts[:4])
    unknown = np.full((4, measured.shape[1]), np.nan)
    here = teach(Known(machines, measured), Known(real, unknown)).on(found.facts[3], unknown[0])
    np.testing.assert_allclose(here.mean, make_prior(machines, real).on(found.facts[3]).mean)


def test_a_fact_may_change_what_others_mean() -> None:
    found, (split,) = world(), splits(60, 1)
    o3, l2 = found.facts[:, 7], found.facts[:, 3]
    moved = np.outer((o3 - 0.5) * (l2 - l2.mean()), np.ones(5))
    times = [x @ moved[:, :-1].T + moved[:, -1] for x in (found.known, found.unseen)]
    other = replace(found, heads=moved, known_target=times[0], unseen_target=times[1])
    assert log_error(other, "named, crossed", split) < 0.7 * log_error(other, NAMED, split)


def test_readings_that_move_heads_bring_machines_held_out_nearer() -> None:
    found, (split,) = world(), splits(60, 1)
    assert log_error(found, EXACT.title, split) < 0.7 * log_error(found, NAMED, split)


def test_machines_held_out_teach_nothing() -> None:
    found, (split,) = world(), splits(60, 1)
    other = found.heads.copy()
    other[split.held] += 100.0
    assert trial(replace(found, heads=other), EXACT, split) == trial(found, EXACT, split)


def test_no_machine_is_in_two_parts_of_a_split() -> None:
    (split,) = splits(60, 1)
    parts = np.concatenate([split.taught, split.tuning, split.held])
    assert sorted(parts) == list(range(60))


def test_fewer_machines_may_teach() -> None:
    assert len(splits(60, 1, taught=20)[0].taught) == 20


def test_a_machine_without_a_third_cache_has_no_readings_of_it() -> None:
    machine = sample_machines(np.random.default_rng(0), 1)[0]
    (found,) = readings([replace(machine, l3=machine.l2)], MEASURED)
    unknown = {name for name, value in zip(MEASURED, found, strict=True) if math.isnan(value)}
    assert unknown == {"L3 latency", "L3 bandwidth", "L3 bandwidth of all"}


def test_readings_are_off_by_the_relative_error_asked_for() -> None:
    exact = np.zeros((4000, 1))
    off = misread(exact, 0.08, np.random.default_rng(0)) * math.log(2)
    assert 0.075 < off.std() < 0.085


def test_readings_that_say_nothing_are_shrunk_most() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((100, 20)), rng.standard_normal((100, 5))
    telling = x @ rng.standard_normal((20, 5)) + 0.01 * noise
    assert best_ridge(x, telling) < best_ridge(x, noise)


def test_a_gain_is_told_with_its_spread_from_seed_to_seed() -> None:
    base = Score(NAMED, 0, False, {"log_error": np.array([[0.5, 0.7], [0.4, 0.4]])})
    better = replace(base, arm="more", figures={"log_error": np.array([[0.4, 0.6], [0.2, 0.2]])})
    mean, spread = gain(better, base, "log_error")
    assert (round(mean, 3), round(spread, 3)) == (-0.15, 0.071)


def test_the_table_has_a_row_for_every_score() -> None:
    figures = {f: np.ones((2, 3)) for f in ("log_error", "spearman", "top_share")}
    score = Score(NAMED, 0, False, {**figures, "seconds_log_error": np.ones((2, 3))})
    last = table([score, replace(score, labels=48)]).splitlines()[-1]
    assert last == "| named facts | 48 | no | 1.000 | +0.000 (0.000) | 1.000 | 1.000 | 1.000 |"


def test_what_a_probe_did_not_read_is_not_known() -> None:
    found = parse_readings("L2 latency 4\nloads 8\n")
    read = {name: v for name, v in zip(MEASURED, found, strict=True) if not math.isnan(v)}
    assert read == {"loads": 3.0, "L2 latency": 2.0}


def test_the_probe_tells_nothing_that_has_no_name_here() -> None:
    probe = Path(measured_facts_real.__file__).with_name("measured_facts_probe.c")
    told = set(re.findall(r'tell\("([^"]+)"', probe.read_text(encoding="utf-8")))
    assert len(told) > 20
    assert told <= set(MEASURED)
