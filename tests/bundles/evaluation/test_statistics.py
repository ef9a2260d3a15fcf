"""Means, paired bootstrap and label efficiency on figures made by hand."""

import numpy as np
import pytest

from agent.model.score import central_interval
from bundles.evaluation.protocol import ArmTrial
from bundles.evaluation.report import Figures
from bundles.evaluation.scores import ArmPrediction, Truth, score
from bundles.evaluation.statistics import (
    LEVEL,
    Bootstrap,
    Results,
    crossing_budget,
    figures_of,
    label_efficiency,
    paired_differences,
    rises,
)

PROGRAMS = 30


def truth() -> Truth:
    rng = np.random.default_rng(0)
    program = np.repeat(np.arange(PROGRAMS), 6)
    return Truth.of(rng.standard_normal(len(program)), program, np.zeros(PROGRAMS))


def trials(arms: dict[tuple[str, int], float], targets: int = 2, seeds: int = 3) -> list[ArmTrial]:
    """Arms with the given size of error; what is hard for one arm is hard for all."""
    true, made = truth(), []
    for t in range(targets):
        for s in range(seeds):
            rng = np.random.default_rng([t, s])
            hard = rng.standard_normal(len(true.gain)) * np.repeat(rng.uniform(0, 2, PROGRAMS), 6)
            for (arm, budget), size in arms.items():
                found = ArmPrediction(true.gain + size * hard)
                made.append(ArmTrial(f"t{t}", arm, budget, s, score(true, found)))
    return made


def results(arms: dict[tuple[str, int], float], **more: int) -> Results:
    made = trials(arms, **more)
    names = np.array([f"{n:08x}" for n in range(PROGRAMS)])
    return Results.of(made, {c.target: names for c in made})


def test_the_mean_is_over_seeds_and_targets() -> None:
    found = results({("bundle_fixed", 48): 0.3})
    parts = [figures_of(s)["log_error"] for group in found.scores.values() for s in group]
    assert len(parts) == 6
    assert found.mean("bundle_fixed", 48)["log_error"] == pytest.approx(np.mean(parts))


def test_a_clear_difference_has_an_interval_without_zero_although_programs_vary() -> None:
    found = results({("bundle_fixed", 48): 0.3, ("raw_ridge", 48): 0.4})
    boot = Bootstrap.of(found)
    (first, *_) = paired_differences(boot, ("bundle_fixed", 48), ("raw_ridge", 48))
    assert first.metric == "log_error"
    assert first.better
    assert not first.worse
    assert first.low < first.value < first.high < 0
    assert first.relative == pytest.approx(-0.25, abs=1e-6)
    alone = central_interval(boot.values("bundle_fixed", 48, "log_error"), LEVEL)
    assert first.high - first.low < alone[1] - alone[0]


def test_an_arm_against_itself_differs_by_nothing() -> None:
    found = results({("bundle_fixed", 48): 0.3, ("bundle_random", 48): 0.3})
    boot = Bootstrap.of(found)
    for difference in paired_differences(boot, ("bundle_fixed", 48), ("bundle_random", 48)):
        assert (difference.low, difference.high) == (0, 0)
        assert not difference.better
        assert not difference.worse


def test_means_leave_out_targets_that_did_not_time_the_fixed_set() -> None:
    made = trials({("bundle_fixed", 48): 0.3, ("bundle_random", 48): 0.3})
    made = [c for c in made if (c.target, c.arm) != ("t1", "bundle_fixed")]
    names = np.array([f"{n:08x}" for n in range(PROGRAMS)])
    found = Results.of(made, {"t0": names, "t1": names})
    assert found.compared == ("t0",)
    assert found.focus == ("bundle_fixed", 48)


def test_without_any_fixed_set_random_labels_are_compared() -> None:
    found = results({("bundle_random", 16): 0.3, ("bundle_random", 96): 0.2})
    assert found.compared == ("t0", "t1")
    assert found.focus == ("bundle_random", 16)


def test_the_crossing_is_interpolated_on_the_logarithm_of_labels() -> None:
    points = [(10, 0.8), (1000, 0.4)]
    assert crossing_budget(points, 0.6) == pytest.approx(100.0)
    assert crossing_budget(points, 0.9) == 10.0
    assert crossing_budget(points, 0.3) is None


def curve(values: dict[int, float]) -> dict[int, Figures]:
    return {b: Figures(log_error=v, spearman=1 - v) for b, v in values.items()}


def test_efficiency_names_the_arm_that_needs_fewest_labels() -> None:
    curves = {"slow": curve({48: 0.9, 1000: 0.5}), "fast": curve({48: 0.8, 480: 0.4})}
    ours = Figures(log_error=0.5, spearman=0.5)
    found = label_efficiency("log_error", ours, 48, curves)
    assert found is not None
    assert found.arm == "fast"
    assert found.reached
    assert 48 < found.labels < 480
    assert found.times == pytest.approx(found.labels / 48)
    again = label_efficiency("spearman", ours, 48, curves)
    assert again is not None
    assert again.labels == pytest.approx(found.labels)


def test_efficiency_says_when_no_arm_gets_there() -> None:
    curves = {"far": curve({48: 0.9, 3000: 0.8}), "near": curve({48: 0.9, 1000: 0.6})}
    found = label_efficiency("log_error", Figures(log_error=0.5), 48, curves)
    assert found is not None
    assert not found.reached
    assert (found.arm, found.labels) == ("near", 1000)


def test_efficiency_says_when_the_smallest_budget_was_enough() -> None:
    found = label_efficiency(
        "log_error", Figures(log_error=0.5), 48, {"good": curve({8: 0.4, 48: 0.3})}
    )
    assert found is not None
    assert found.at_most
    assert found.labels == 8


def test_a_budget_worse_than_a_smaller_one_is_named() -> None:
    assert rises({8: 0.8, 16: 0.6, 24: 0.7, 48: 0.5}) == (24,)
