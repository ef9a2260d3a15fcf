"""What is said of a bundle: intervals that hold, and words that are true. Simulated fleets."""

import json
import random
from collections import Counter
from datetime import timedelta
from functools import cache
from typing import get_args

import numpy as np
import pytest
from fleets import NOW, accuracy, report

from agent.report.payload import ERROR_STEP, Architecture
from bundles.fleet.analysis import answers, judging
from bundles.fleet.analysis.figures import HIDDEN, mean_difference, student, wilson
from bundles.fleet.analysis.judging import OFTEN
from bundles.fleet.analysis.verdict import Side, judge_pilot
from bundles.fleet.counting import weeks
from bundles.fleet.counting.evidence import EVIDENCE_WEEKS
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.lots import Part, tens
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import parse_report
from bundles.fleet.settings import VerdictLimits

K = 10
FLEETS = 150
TEN_PERCENT = np.log(1.1)
# Pilot and stable machines of each architecture; architectures; machines in a lot of each channel.
ONE = (200, 1000, 1, 10_000, 10_000)
SHAPES = {
    "one release": ONE,
    "lots of twenty": (200, 1000, 1, 20, 150),
    "lots of ten": (200, 1000, 1, 10, 150),
    "four architectures": (40, 100, 4, 10, 20),
    "few on either side": (60, 60, 1, 10, 10),
    "large": (1000, 9000, 1, 70, 600),
}
DRAWS = {  # standard deviation 0.12
    "normal": lambda rng, n: rng.normal(0, 0.12, n),
    "heavier tails": lambda rng, n: rng.laplace(0, 0.12 / np.sqrt(2), n),
}


def spread(errors, lot, least=K):
    """What is stored of such machines, released ``lot`` by ``lot``, in means of ``least``."""
    bins = np.clip(np.round(errors / ERROR_STEP), 0, 250).astype(int)
    sums = Counter()
    for first in range(0, len(bins), lot):
        for part in tens(Counter(bins[first : first + lot].tolist()), least):
            sums[part.value] += part.machines
    return tuple(Part(value, machines) for value, machines in sorted(sums.items()))


@cache  # two tests look at the same ones
def fleets(shape, kind, worse=0.0):
    """Spreads of pilot and stable by architecture, again and again."""
    rng = np.random.default_rng(7)
    pilots, stables, architectures, lot_p, lot_s = shape
    return [
        tuple(
            {
                name: spread(0.45 + more + DRAWS[kind](rng, machines), lot)
                for name in "abcdef"[:architectures]
            }
            for machines, lot, more in ((pilots, lot_p, worse), (stables, lot_s, 0.0))
        )
        for _ in range(FLEETS)
    ]


def codes(shape, kind, worse=0.0):
    return Counter(
        judge_pilot(Side("b", "5", ours, 400), Side("b", "4", theirs, 1000), K).code
        for ours, theirs in fleets(shape, kind, worse)
    )


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("worse", [0.0, 0.05])
def test_an_interval_holds_the_difference_as_often_as_it_says(shape, kind, worse):
    held = told = 0
    for ours, theirs in fleets(SHAPES[shape], kind, worse):
        estimate, half = mean_difference(ours, theirs, ERROR_STEP, K)
        if half is not None:
            told += 1
            held += abs(estimate - worse) <= half
            assert half > 0.001
    assert told > 0.9 * FLEETS
    assert held >= 0.93 * told


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_bundle_that_is_no_worse_is_not_withdrawn(shape, kind):
    assert codes(SHAPES[shape], kind)["withdraw"] <= 0.025 * FLEETS


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("shape", ["one release", "lots of twenty", "lots of ten", "large"])
def test_a_bundle_that_is_ten_percent_worse_is_withdrawn(shape, kind):
    assert codes(SHAPES[shape], kind, TEN_PERCENT)["withdraw"] >= 0.95 * FLEETS


def test_a_large_fleet_promotes_what_is_as_good():
    assert codes(SHAPES["large"], "normal")["promote"] >= 0.95 * FLEETS


@pytest.mark.parametrize("worse", [0.0, TEN_PERCENT])
def test_one_mean_of_each_architecture_shows_no_spread_and_decides_nothing(worse):
    shape = (10, 10, 6, 10_000, 10_000)
    assert codes(shape, "normal", worse) == {"unclear": FLEETS}
    ours, theirs = fleets(shape, "normal")[0]
    given = judge_pilot(Side("b", "5", ours, 60), Side("b", "4", theirs, 60), K)
    assert given.machines == (60, 60)
    assert given.worse_by is None
    assert "cannot be told" in given.why[0]


def test_a_small_site_may_judge_from_fewer_machines():
    ours, theirs = fleets((20, 40, 1, 10, 10), "normal", TEN_PERCENT)[0]
    sides = Side("b", "5", ours, 20), Side("b", "4", theirs, 40)
    given = judge_pilot(*sides, K)
    assert given.code == "too-few"
    assert "needs 50 pilot and 50 stable machines" in given.why[0]
    assert judge_pilot(*sides, K, VerdictLimits(20)).code != "too-few"


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("tens_of_stable", [1, K])
def test_machines_with_a_label_count_one_by_one_and_the_interval_holds(kind, tens_of_stable):
    """A dozen that are known each, beside others that are known likewise or in tens."""
    rng, held = np.random.default_rng(11), 0
    for _ in range(FLEETS):
        ours, theirs = (
            {"a": spread(0.45 + DRAWS[kind](rng, machines), 2 * least, least)}
            for machines, least in ((12, 1), (60, tens_of_stable))
        )
        estimate, half = mean_difference(ours, theirs, ERROR_STEP, K, OFTEN)
        held += abs(estimate) <= half
    assert held >= 0.93 * FLEETS


def test_what_is_not_clear_says_how_many_machines_would_settle_it():
    ours, theirs = fleets(ONE, "normal")[1]
    given = judge_pilot(Side("b", "5", ours, 200), Side("b", "4", theirs, 1000), K)
    assert given.code == "unclear"
    more = 1 + -(-given.missing[0] // given.machines[0])  # times as many, alike
    grown = [{name: parts * more for name, parts in side.items()} for side in (ours, theirs)]
    sides = Side("b", "5", grown[0], 200 * more), Side("b", "4", grown[1], 1000 * more)
    assert judge_pilot(*sides, K).code == "promote"


def test_refusals_that_nobody_sees_say_how_many_machines_rule_them_out():
    ours, theirs = fleets(SHAPES["large"], "normal")[0]
    given = judge_pilot(Side("b", "5", ours, 100), Side("b", "4", theirs, 9000), K)
    pilot, stable = given.missing
    assert (given.code, stable) == ("unclear", 0)
    assert wilson(9, 109 + pilot)[1] <= 0.1 < wilson(9, 109 + pilot - 5)[1]


def test_few_pilots_borrow_what_a_large_stable_shows():
    held = 0
    for ours, theirs in fleets((20, 1000, 4, 10, 150), "normal"):
        estimate, half = mean_difference(ours, theirs, ERROR_STEP, K)
        held += abs(estimate) <= half
    assert held >= 0.93 * FLEETS


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("lot", [30, 40, 70, 150, 1000])
def test_means_of_a_large_lot_hide_as_much_as_is_allowed_for(kind, lot):
    rng = np.random.default_rng(3)
    seen = true = 0.0
    for _ in range(200):
        errors = 0.5 + DRAWS[kind](rng, lot)
        bins = np.round(errors / ERROR_STEP)
        means = spread(errors, lot)
        seen += sum(p.machines * (p.value - bins.mean()) ** 2 for p in means)
        true += ((bins - bins.mean()) ** 2).sum()
    assert seen < true
    assert seen * (1 + HIDDEN * K / lot) >= 0.95 * true


@pytest.mark.parametrize(("freedom", "known"), [(4, 2.776), (5, 2.571), (10, 2.228), (60, 2.0)])
def test_students_t(freedom, known):
    assert student(freedom) == pytest.approx(known, rel=0.01)


# --- the words and the weeks, on both databases ---


def send(database, first, count, at=NOW, **other):
    draw, week = random.Random(first), weeks.week_text(weeks.week_of(at))
    store_reports(database, [
        parse_report(report(first + n, week=week, **{"calibrated": accuracy(
            round(round(draw.gauss(0.4, 0.1) / 0.02) * 0.02, 2))} | other))
        for n in range(count)
    ])  # fmt: skip
    release_ready(database, at, K, 1)


PILOT = {"channel": "pilot", "bundle_version": "5"}


def asked(database, function, *more):
    with database.reading() as connection:
        return function(connection, K, *more)


def test_refusals_are_told_with_all_that_reported(database):
    send(database, 0, 880)
    send(database, 5000, 130, **PILOT)
    send(database, 6000, 60, outcome="refused", **PILOT)
    found = asked(database, judging.verdict_answer, "default", "5")
    assert (found.verdict, found.pilot_machines, found.stable_machines) == ("withdraw", 190, 880)


def test_the_bundle_that_stable_runs_is_told_to_be_that(database):
    send(database, 0, 100)
    send(database, 5000, 60, channel="pilot")
    found = asked(database, judging.verdict_answer, "default", "4")
    assert "run it already" in found.why[0]
    assert (found.against, found.week) == (None, weeks.week_text(weeks.week_of(NOW)))
    assert found.verdict != "promote"
    assert asked(database, judging.candidates) == []


def test_a_new_week_does_not_take_the_verdicts_away(database):
    send(database, 0, 400)
    send(database, 5000, 200, **PILOT | {"calibrated": accuracy(0.7)})
    before = asked(database, judging.candidates)
    assert [(x.version, x.verdict) for x in before] == [("5", "withdraw")]
    later = NOW + timedelta(weeks=1)
    send(database, 9000, 12, later)  # the first of a new week: stable's alone
    assert asked(database, answers.overview_answer).week == weeks.week_text(weeks.week_of(later))
    after = asked(database, judging.candidates)
    assert [(x.version, x.verdict) for x in after] == [("5", "withdraw")]
    for number in range(2, 1 + EVIDENCE_WEEKS):
        send(database, 10_000 * number, 12, NOW + timedelta(weeks=number))
    assert asked(database, judging.candidates) == []  # too long ago


def test_a_week_is_under_way_until_a_release_after_its_end(database):
    assert not asked(database, answers.overview_answer).under_way  # there is none
    send(database, 0, 20)
    assert asked(database, answers.overview_answer).under_way
    release_ready(database, weeks.end(weeks.week_of(NOW)) - timedelta(seconds=1), K, 1)
    assert asked(database, answers.overview_answer).under_way
    release_ready(database, weeks.end(weeks.week_of(NOW)), K, 1)
    assert not asked(database, answers.overview_answer).under_way


def test_an_answer_without_an_interval_is_json_too(database):
    from msgspec.json import encode

    for number, architecture in enumerate(get_args(Architecture)[:5]):
        send(database, 100 * number, 10, architecture=architecture)
        send(database, 5000 + 100 * number, 10, architecture=architecture, **PILOT)
    found = json.loads(encode(asked(database, judging.verdict_answer, "default", "5")))
    assert (found["verdict"], found["worse_by"]) == ("unclear", None)
    assert (found["pilot_machines"], found["stable_machines"]) == (50, 50)
