"""Evidence over weeks: each machine once, however often it reports; and what is still missing."""

import random
from datetime import timedelta

import pytest
from fleets import NOW, accuracy, report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.report.payload import ONCE_IN_WEEKS
from bundles.fleet.analysis import judging, released
from bundles.fleet.counting import weeks
from bundles.fleet.counting.evidence import EVIDENCE_WEEKS, MOST_NAMES, WAIT_WEEKS
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import parse_report
from bundles.fleet.settings import VerdictLimits
from bundles.fleet.storage.database import open_database

PILOT = {"channel": "pilot", "bundle_version": "5"}
SQLITE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)  # both know the statements
STABLE = {"channel": "stable", "bundle_version": "4"}


def week(number):
    return NOW + timedelta(weeks=number)


def send(database, machines, number, **other):
    """What these machines say in a week; then the release."""
    tell(database, machines, number, **other)
    release_ready(database, week(number), 10, 1)


def tell(database, machines, number, **other):
    draw, at = random.Random(f"{machines}{number}{other}"), week(number)
    store_reports(database, [
        parse_report(report(1000 * number + machine, **{
            "week": weeks.week_text(weeks.week_of(at)),
            "calibrated": accuracy(round(round(draw.gauss(0.4, 0.1) / 0.02) * 0.02, 2)),
        } | other))
        for machine in machines
    ])  # fmt: skip


def verdict(database, fewest=50):
    with database.reading() as connection:
        return judging.verdict_answer(connection, 10, "default", "5", VerdictLimits(fewest))


def test_a_few_machines_a_week_become_evidence_though_no_week_shows_them(database):
    for number in range(8):
        send(database, range(300, 307), number, **STABLE)
        send(database, range(4), number, **PILOT)  # others every week
    with database.reading() as connection:
        assert released.newest_weeks(connection, 12) == []
    found = verdict(database, fewest=30)
    assert (found.pilot_machines, found.stable_machines) == (30, 50)
    assert (found.since, found.week) == ("2026-W49", "2027-W02")
    assert found.verdict == "unclear"
    with database.reading() as connection:
        assert [x.version for x in judging.candidates(connection, 10)] == ["5"]


def test_a_report_that_is_not_the_first_adds_nothing(database):
    for number in range(3):
        first = number == 0
        send(database, range(100, 200), number, first=first, **STABLE)
        send(database, range(60), number, first=first, **PILOT)
    found = verdict(database)
    assert (found.pilot_machines, found.stable_machines) == (60, 100)


@SQLITE
def test_what_waited_for_four_weeks_is_forgotten_and_so_is_what_counted_for_eight(database):
    send(database, range(9), 0, **PILOT)
    send(database, range(9), WAIT_WEEKS, **PILOT)
    with database.reading() as connection:
        assert released.read_evidence(connection) == []
    send(database, range(9, 20), WAIT_WEEKS, **PILOT)
    for number in range(1, EVIDENCE_WEEKS + 1):
        send(database, range(300, 310), WAIT_WEEKS + number, **STABLE)
        with database.reading() as connection:
            counted = [x for x in released.read_evidence(connection) if x.channel == "pilot"]
        assert bool(counted) == (number < EVIDENCE_WEEKS)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sets(st.integers(0, 30)), min_size=3, max_size=9))
def test_no_machine_is_counted_twice_whenever_it_reports(tmp_path_factory, reported):
    """``reported``: of each machine the weeks; it says ``first`` as an agent does."""
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('once') / 'fleet.db'}")
    lasts = {}
    for number in range(31):
        for machine, its_weeks in enumerate(reported):
            if number in its_weeks:
                first = number - lasts.get(machine, -99) >= ONCE_IN_WEEKS
                lasts |= {machine: number} if first else {}
                tell(database, [machine], number, first=first, **PILOT)
        release_ready(database, week(number), 2, 1)
        with database.reading() as connection:
            counted = sum(row.machines for row in released.read_evidence(connection))
        assert counted <= len(lasts)
    database.close()


@SQLITE
def test_what_is_missing_is_told_with_the_weeks_that_it_takes(database):
    for number in range(3):
        send(database, range(300, 330), number, **STABLE)
        send(database, range(10), number, **PILOT)
    found = verdict(database)
    assert (found.verdict, found.needs) == ("too-few", judging.Needs(20, 0, 2))
    assert found.why[-1] == "It takes 20 more pilot machines: about 2 weeks at the rate of lately."


@SQLITE
def test_a_site_that_never_gets_there_is_told_so(database):
    for number in range(8):
        send(database, range(300, 330), number, **STABLE)
        if number < WAIT_WEEKS:  # all its pilots, and no others
            send(database, range(3 * number, 3 * number + 3), number, **PILOT)
    found = verdict(database)
    assert (found.verdict, found.needs) == ("too-few", judging.Needs(40, 0, None))
    assert "8 weeks do not bring enough" in found.why[-1]
    assert "--judge-from" in found.why[-1]
    assert verdict(database, fewest=10).verdict == "unclear"


@SQLITE
def test_weeks_in_which_nobody_new_came_count_in_the_rate(database):
    send(database, range(300, 400), 0, **STABLE)
    send(database, range(40), 0, **PILOT)
    assert verdict(database).needs == judging.Needs(10, 0, 1)
    release_ready(database, week(1), 10, 1)
    assert verdict(database).needs == judging.Needs(10, 0, 1)
    release_ready(database, week(3), 10, 1)
    assert verdict(database).needs == judging.Needs(10, 0, 1)  # forty in four weeks
    release_ready(database, week(4), 10, 1)
    assert verdict(database).needs == judging.Needs(10, 0, None)
    release_ready(database, week(EVIDENCE_WEEKS), 10, 1)
    with database.reading() as connection:
        assert released.read_evidence(connection) == []


def test_agents_that_do_not_say_what_is_first_are_judged_by_the_week(database):
    old = {"schema": 1, "first": ...}
    for number in range(2):
        send(database, range(300, 400), number, **STABLE, **old)
        send(database, range(60), number, **PILOT, **old)
    found = verdict(database)
    assert (found.pilot_machines, found.stable_machines) == (60, 100)
    assert found.since == found.week == "2026-W49"


@SQLITE
def test_names_that_a_token_invents_leave_room_for_those_that_many_told_of(database):
    send(database, range(10), 0, **PILOT)
    store_reports(database, [
        parse_report(report(90_000 + n, bundle=f"made-up-{n % (MOST_NAMES + 5)}"))
        for n in range(2 * MOST_NAMES + 10)
    ])  # fmt: skip
    send(database, range(500, 510), 0, **PILOT)
    with database.reading() as connection:
        rows = released.read_evidence(connection)
    assert sum(row.machines for row in rows if row.bundle == "default") == 20


@SQLITE
@pytest.mark.parametrize("seen", [9, 10])
def test_refusals_of_several_weeks_are_counted_together(database, seen):
    for number in range(8):
        send(database, range(300, 330), number, **STABLE)
        send(database, range(100, 120), number, **PILOT)
        some = range(number, number + 1) if number else range(seen - 7)
        send(database, some, number, **PILOT | {"outcome": "refused"})
    with database.reading() as connection:
        rows = released.read_evidence(connection)
    assert sum(row.machines for row in rows if row.outcome == "refused") == seen // 10 * 10
