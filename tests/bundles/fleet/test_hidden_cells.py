"""An attacker who sees everything that is shown, at every moment, and looks for one machine."""

import csv
import io
import json
import random
import re
import tempfile
from datetime import timedelta
from itertools import product
from unittest import mock

import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from fleets import NOW, accuracy, report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sqlalchemy import event
from starlette.testclient import TestClient

from bundles.fleet.access import credentials
from bundles.fleet.analysis import answers
from bundles.fleet.app import application
from bundles.fleet.counting import probe
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.lots import CellKey, labels, lots, tens
from bundles.fleet.counting.release import MOST_NAMES, release_ready
from bundles.fleet.counting.report import parse_report
from bundles.fleet.counting.weeks import week_of, week_text
from bundles.fleet.settings import CentreSettings
from bundles.fleet.storage.database import open_database

K = 10
VICTIM = {"architecture": "aarch64", "channel": "pilot", "outcome": "fell-back",
          "bundle_alone": accuracy(4.2), "toolchain": "other", "noise": "3-10%"}  # fmt: skip
HOW_MANY = st.integers(0, 40)
ALIKE = ("/", "/v1/overview", "/v1/cells", "/v1/cells.csv", "/metrics", "/health", "/machines",
         "/v1/machines", "/v1/plants", "/help")  # fmt: skip


class Attacker:
    """Staff: signs in, and may also report as machines of its own."""

    def __init__(self, database, now=NOW):
        settings = CentreSettings(str(database.engine.url), clock=lambda: now)
        self.client = TestClient(application(database, settings), base_url="http://127.0.0.1:8001")
        token = credentials.add_token(database, f"t{random.random()}", "staff", 0)
        self.client.headers["Authorization"] = f"Bearer {token}"
        name = f"u{random.random()}"
        secret = credentials.start_session(database, name, int(now.timestamp()))
        self.client.cookies.set("fleet-session", secret)

    def look(self):
        """Everything there is to see."""
        with start_blocking_portal() as portal, mock.patch.object(self.client, "portal", portal):
            return self._seen()  # in one loop, not in a new one for each request

    def _seen(self):
        get = self.client.get
        seen = {path: get(path).text for path in ALIKE}
        for version, attribute in product(("3", "4"), answers.STEPS):
            query = f"bundle=default&version={version}"
            seen[attribute + version] = get(f"/v1/accuracy?{query}&attribute={attribute}").text
        for version, channel in product(("3", "4"), ("", "&channel=pilot", "&channel=stable")):
            seen[version + channel] = get(f"/bundle?bundle=default&version={version}{channel}").text
        seen["verdict"] = get("/v1/verdict?bundle=default&version=4").text
        # What changes from one browser or one moment to the next, and not with machines:
        return {
            path: re.sub(r'value="[0-9a-f]{64}"|u0\.\d+|last release \S+ \S+|"released_at":"[^"]*"'
                         r"|fleet_released_timestamp_seconds \d+", "", text)
            for path, text in seen.items()
        }  # fmt: skip

    def machines(self):
        """Every cell, from the table that people download."""
        rows = csv.DictReader(io.StringIO(self.client.get("/v1/cells.csv?weeks=520").text))
        return [row | {"machines": int(row["machines"])} for row in rows]


@pytest.fixture(autouse=True)
def fresh_health(monkeypatch):
    """What `/health` found a moment ago, and says still, would tell worlds apart by time."""
    monkeypatch.setattr(probe, "KNOWN_FOR_S", 0.0)


@pytest.fixture
def worlds(tmp_path):
    """The same fleet twice: only in the second one the victim is there."""
    made = [open_database(f"sqlite:///{tmp_path / name}.db") for name in ("without", "with")]
    for database in made:  # chance says the same in both, or they would differ by chance
        event.listen(database.engine, "connect", lambda c, _: c.create_function("random", 0, int))
        database.engine.dispose()
    yield made
    for database in made:
        database.close()


def crowd(count, seed, **other):
    draw = random.Random(seed)
    for _ in range(count):
        yield parse_report(report(
            draw.getrandbits(200), channel=draw.choice(("pilot", "stable")),
            architecture=draw.choice(("x86-64-v3", "x86-64-v4")),
            calibrated=accuracy(round(draw.randint(10, 40) * 0.02, 2)),
            toolchain=draw.choice(("gcc", "clang")), **other,
        ))  # fmt: skip


@pytest.mark.parametrize("companions", [0, 8])
def test_with_or_without_the_victim_everything_looks_the_same(worlds, companions):
    attackers = [Attacker(database) for database in worlds]
    for step in range(3):
        for number, database in enumerate(worlds):
            store_reports(database, list(crowd(60, step)))
            if step == 1:
                alike = [parse_report(report(900 + n, **VICTIM)) for n in range(companions)]
                store_reports(
                    database, alike + ([parse_report(report(999, **VICTIM))] if number else [])
                )
        assert attackers[0].look() == attackers[1].look()  # before the release
        for database in worlds:
            release_ready(database, NOW, K, 1)
        assert attackers[0].look() == attackers[1].look()
    for database in worlds:
        release_ready(database, NOW + timedelta(weeks=2), K, 1)
    assert attackers[0].look() == attackers[1].look()  # and after the week has closed


def test_the_victim_is_counted_once_enough_are_like_it(worlds):
    """Or else the test above would pass by showing nothing."""
    attackers = [Attacker(database) for database in worlds]
    for number, database in enumerate(worlds):
        store_reports(database, [parse_report(report(n, **VICTIM)) for n in range(9 + number)])
        release_ready(database, NOW, K, 1)
    assert attackers[0].look() != attackers[1].look()
    assert [row["machines"] for row in attackers[1].machines()] == [10]


def test_differences_over_time_count_ten_machines_or_none(database):
    """After each report of one machine: what changed, in any table that can be asked for?"""
    attacker = Attacker(database)
    draw = random.Random(3)
    reports = [*crowd(150, 7), *(parse_report(report(500 + n, **VICTIM)) for n in range(12))]
    draw.shuffle(reports)
    columns = ("bundle", "channel", "architecture", "outcome")

    def sums():
        """Machines for every way to ask: each column given, or summed over."""
        found = {}
        for row in attacker.machines():
            for keep in product((True, False), repeat=len(columns)):
                key = tuple(row[c] if k else None for c, k in zip(columns, keep, strict=True))
                found[key] = found.get(key, 0) + row["machines"]
        return found

    before, changes = sums(), 0
    for number, one in enumerate(reports):
        store_reports(database, [one])
        if number % 7 == 0:  # releases come when they come
            release_ready(database, NOW, K, 1)
        now = sums()
        for key in before.keys() | now.keys():
            change = now.get(key, 0) - before.get(key, 0)
            assert change >= change % K == 0
            changes += change > 0
        before = now
    assert changes


def test_a_group_less_its_parts_is_ten_machines_or_none(database):
    """Subtracting every part that is told from its whole never leaves one to nine."""
    store_reports(
        database, [*crowd(230, 1), *(parse_report(report(n, **VICTIM)) for n in range(13))]
    )
    release_ready(database, NOW, K, 1)
    attacker = Attacker(database)
    totals = {}
    for row in attacker.machines():
        key = row["channel"], row["architecture"]
        totals[key] = totals.get(key, 0) + row["machines"]
    compared = 0
    for attribute in answers.STEPS:
        told = json.loads(
            attacker.client.get(f"/v1/accuracy?bundle=default&version=4&attribute={attribute}").text
        )
        for spread in told["spreads"]:
            rest = totals[spread["channel"], spread["architecture"]] - spread["machines"]
            assert rest >= rest % K == 0
            assert all(group["machines"] % K == 0 for group in spread["groups"])
            compared += 1
    assert compared


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 14), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_between_two_weeks_every_number_differs_by_whole_tens(joining, draw):
    """Ten machines report, next week eleven do: the tables are alike. However many come and go."""
    with tempfile.TemporaryDirectory() as place:
        database = open_database(f"sqlite:///{place}/fleet.db")
        attacker, machines, seen = Attacker(database), [], []
        for week, more in enumerate(joining):
            made = [draw.choice((VICTIM, {}, {"toolchain": "clang"})) for _ in range(more)]
            machines = draw.sample(machines, len(machines) - len(machines) // 5) + made
            now = NOW + timedelta(weeks=week)
            store_reports(database, [
                parse_report(report(n, week=week_text(week_of(now)), **other))
                for n, other in enumerate(machines)
            ])  # fmt: skip
            release_ready(database, now + timedelta(weeks=2), K, 1)
            with database.reading() as connection:
                label = answers.label_shares(connection, week_of(now), "default", "4")
            seen.append([row["machines"] for row in attacker.machines()])
            seen.append([row.machines for row in label])
        database.close()
    assert all(number % K == 0 for one in seen for number in one)


def test_a_machine_that_joins_ten_changes_nothing(worlds):
    attackers = [Attacker(database) for database in worlds]
    for number, database in enumerate(worlds):
        ten_or_eleven = [report(n, **VICTIM) for n in range(10)] + [report(10, **VICTIM)] * number
        store_reports(database, [parse_report(one) for one in ten_or_eleven])
        release_ready(database, NOW, K, 1)
    assert attackers[0].look() == attackers[1].look()


def test_names_that_a_token_invents_are_counted_as_other(database):
    of_each = [parse_report(report(n)) for n in range(10)]
    store_reports(database, of_each)
    release_ready(database, NOW, K, 1)
    invented = [
        parse_report(report(1000 + 20 * name + n, bundle=f"invented-{name}"))
        for name in range(MOST_NAMES + 5)
        for n in range(20)
    ]
    store_reports(database, [*invented, *(parse_report(report(n)) for n in range(20, 40))])
    release_ready(database, NOW, K, 1)
    told = {}
    for row in Attacker(database).machines():
        told[row["bundle"]] = told.get(row["bundle"], 0) + row["machines"]
    assert len(told) == MOST_NAMES + 1
    assert (told["default"], told["other"]) == (30, 20 * 6)


def test_metrics_do_not_count_reports_one_by_one(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'fleet.db'}")
    attacker = Attacker(database)
    token = credentials.add_token(database, "m", "machine", 0)
    seen = set()
    with attacker.client as client:
        for n in range(105):
            sent = client.post(
                "/v1/reports", content=report(n),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )  # fmt: skip
            assert sent.status_code == 202
            found = re.search(r'status="202"} (\d+)', client.get("/metrics").text)
            seen.add(int(found[1]))
    database.close()
    assert seen == {0, 100}


def test_an_answer_does_not_tell_whether_a_machine_reported_before(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'fleet.db'}")
    with TestClient(
        application(database, CentreSettings("", tokens_needed=False, clock=lambda: NOW))
    ) as c:
        headers = {"Content-Type": "application/json"}
        first, again = (c.post("/v1/reports", content=report(1), headers=headers) for _ in "ab")
    database.close()
    assert (first.status_code, first.content) == (again.status_code, again.content)


groups = st.builds(
    CellKey, st.sampled_from([202646, 202648]), st.just("default"), st.sampled_from("34"),
    st.sampled_from(["pilot", "stable"]), st.sampled_from(["aarch64", "x86-64-v2", "other"]),
    st.sampled_from(["kept", "refused"]), st.booleans(),
)  # fmt: skip


@given(st.dictionaries(groups, st.integers(1, 30), max_size=20), st.integers(2, 12))
def test_every_lot_has_enough_and_no_report_is_in_two(pending, threshold):
    found = lots(pending, 202646, threshold)
    taken = [group for lot in found for group in lot.groups]
    assert len(taken) == len(set(taken))
    assert all(sum(pending[g] for g in lot.groups) >= lot.shown.least(threshold) for lot in found)
    assert all(len({g.labelled for g in lot.groups}) == 1 for lot in found)
    left = {g: n for g, n in pending.items() if g not in taken}
    assert all(n < threshold for n in left.values())
    rare = {}
    for g, n in left.items():
        if g.outcome != "kept":
            key = g._replace(architecture="")
            rare[key] = rare.get(key, 0) + n
    assert all(n < threshold for n in rare.values())  # `verdict` counts on it


@given(st.dictionaries(st.none() | st.integers(-20, 250), st.integers(1, 40), max_size=30),
       st.integers(2, 12))  # fmt: skip
def test_means_are_of_enough_machines_and_of_all_or_none(bins, threshold):
    found = tens(bins, threshold)
    assert all(part.machines >= threshold > part.machines % threshold == 0 for part in found)
    told, all_ = sum(p.machines for p in found), sum(bins.values())
    known = all_ - bins.get(None, 0)
    assert told in (0, known - known % threshold)
    if all_ % threshold == 0:  # as a lot is
        assert all_ - told == 0 or all_ - told >= threshold or not found
    if found and told == known:
        true = sum(v * n for v, n in bins.items() if v is not None) / told
        assert abs(sum(p.value * p.machines for p in found) / told - true) <= 0.5


@given(
    st.dictionaries(st.integers(0, 4), st.integers(1, 40)).filter(
        lambda b: sum(b.values()) % K == 0
    )
)
def test_labels_cannot_be_told_by_subtraction(bins):
    found = labels(bins, K)
    rest = sum(bins.values()) - sum(p.machines for p in found)
    assert all(bins[p.value] - K < p.machines <= bins[p.value] for p in found)
    assert rest == 0 or rest >= K


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=20, max_size=120).map(
        lambda machines: machines[: len(machines) // K * K]
    )
)
def test_linear_programming_does_not_pin_a_small_crossing_of_two_labels(machines):
    """Two tables of one lot are published; can what both say together find a few machines?

    The attacker solves for the smallest and largest count of every crossing that agrees with all
    that is published. A crossing of one to nine machines must never come out exact.
    """
    cross = np.zeros((3, 3), int)
    for a, b in machines:
        cross[a, b] += 1
    rows, most = [], []  # a label is of as many as is told, and of nine more at most
    for axis in (0, 1):
        bins = {v: int(n) for v, n in enumerate(cross.sum(axis=1 - axis)) if n}
        told = {part.value: part.machines for part in labels(bins, K)}
        for value in range(3):
            mask = np.zeros((3, 3))
            mask[(slice(None),) * axis + (value,)] = 1
            rows += [mask.ravel(), -mask.ravel()]
            most += [told.get(value, 0) + K - 1, -told.get(value, 0)]
    for index in np.flatnonzero((cross.ravel() > 0) & (cross.ravel() < K)):
        cost = np.zeros(9)
        cost[index] = 1
        low, high = (
            linprog(
                sign * cost, A_ub=np.array(rows), b_ub=most, A_eq=np.ones((1, 9)),
                b_eq=[cross.sum()], bounds=(0, None),
            ).fun * sign
            for sign in (1, -1)
        )  # fmt: skip
        assert high - low > 1 - 1e-6


def test_the_attacker_has_every_page_of_the_centre_in_view():
    """A new address must be looked at here too."""
    from bundles.fleet.api.routes import ROUTES as API
    from bundles.fleet.pages.routes import ROUTES as PAGES

    paths = {route.path for route in (*API, *PAGES)}
    looked = {*(path.partition("?")[0] for path in ALIKE), "/bundle", "/v1/accuracy", "/v1/verdict"}
    silent = {
        "/v1/reports",
        "/v1/openapi.json",
        "/api",
        "/login",
        "/login/back",
        "/logout",
        "/static",
    }
    assert paths == looked | silent
