"""Plants by their tokens, and machines that their site labelled: a real centre, asked over HTTP."""

import json
from datetime import timedelta

import pytest
from fleets import NOW, centre, report

from bundles.fleet.access import credentials
from bundles.fleet.analysis import sites
from bundles.fleet.counting import labelled, weeks
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import Refusal, parse_report
from bundles.fleet.storage.database import open_database

WEEK = weeks.week_of(NOW)


def machines(database, this_week=WEEK):
    with database.reading() as connection:
        return sites.machines_answer(connection, this_week).machines


def plants(database, this_week=WEEK):
    with database.reading() as connection:
        return {
            x.name: (x.state, x.last) for x in sites.plants_answer(connection, this_week).plants
        }


def test_a_machine_with_a_label_is_shown_to_staff_only(address, database):
    tokens = {kind: credentials.add_token(database, kind, kind, 0) for kind in ("machine", "staff")}
    secret = credentials.start_session(database, "ada", int(NOW.timestamp()))
    cookie = {"Cookie": f"fleet-session={secret}"}
    with centre(address) as made:
        assert made.send(report(1, label="press-4"), tokens["machine"])[0] == 202
        assert made.send(report(2), tokens["machine"])[0] == 202
        seen = {path: made.ask("GET", path) for path in ("/v1/machines", "/machines")}
        assert [status for status, *_ in seen.values()] == [401, 303]
        assert not [body for *_, body in seen.values() if b"press-4" in body]
        bearer = {"Authorization": f"Bearer {tokens['machine']}"}
        assert made.ask("GET", "/v1/machines", headers=bearer)[0] == 401
        bearer = {"Authorization": f"Bearer {tokens['staff']}"}
        told = json.loads(made.ask("GET", "/v1/machines", headers=bearer)[2])["machines"]
        assert [(x["label"], x["week"], x["calibrated_error"]) for x in told] == [
            ("press-4", "2026-W48", 0.4)
        ]
        assert b"press-4" in made.ask("GET", "/machines", headers=cookie)[2]
        for path in ("/", "/v1/cells", "/metrics"):
            assert b"press-4" not in made.ask("GET", path, headers=cookie)[2]


@pytest.mark.parametrize("label", ["", "-x", ".x", "a b", "a\n", "<b>x</b>", "ä", "a" * 33, None, 7,
                                   "a/b", "=1+1", "\u202ex"])  # fmt: skip
def test_a_label_that_is_none_is_refused_with_its_report(label):
    with pytest.raises(Refusal) as found:
        parse_report(report(1, label=label))
    assert found.value.status == 422


def test_labels_are_bounded_and_a_machine_with_one_too_many_is_counted_without(
    database, monkeypatch
):
    monkeypatch.setattr(labelled, "MOST_LABELS", 3)
    for first in (0, 2):  # 0 and 1, then 2 to 14: one of these has room
        some = range(first, 2 if not first else 15)
        store_reports(database, [parse_report(report(n, label=f"m{n:02}")) for n in some])
    assert [one.label for one in machines(database)] == ["m00", "m01", "m02"]
    invented = [parse_report(report(99 + n, label="m00", bundle=f"b{n}")) for n in range(30)]
    store_reports(database, invented)
    with database.reading() as connection:  # no more rows, whatever a token sends under a label
        assert connection.exec_driver_sql("SELECT count(*) FROM labelled").scalar() == 3
    assert release_ready(database, NOW, 10, 1) == 3 + 30 + 10  # of twelve without a label


def test_a_machine_with_a_label_neither_hides_nor_uncovers_others(database):
    """Nine others and one with a label are not ten that are alike."""
    store_reports(database, [parse_report(report(n)) for n in range(9)])
    store_reports(database, [parse_report(report(50, label="press-4"))])
    assert release_ready(database, NOW, 10, 1) == 1
    assert release_ready(database, NOW + timedelta(weeks=3), 10, 1) == 0  # the week closed


def test_the_last_report_of_a_label_is_shown_and_old_ones_are_forgotten(database):
    for ago in (6, 0):
        at = NOW - timedelta(weeks=ago)
        week = weeks.week_text(weeks.week_of(at))
        store_reports(database, [parse_report(report(ago, label="press-4", week=week))])
        release_ready(database, at, 10, 1)
    assert [(x.week, x.silent) for x in machines(database)] == [("2026-W48", False)]
    later = NOW + timedelta(weeks=labelled.KEPT_WEEKS)
    silent = machines(database, weeks.week_of(later - timedelta(weeks=1)))
    assert [x.silent for x in silent] == [True]
    release_ready(database, later, 10, 1, sure=True)
    assert machines(database) == []


def test_a_plant_that_went_silent_is_told_by_its_token_and_no_week_of_others(address, database):
    token = credentials.add_token(database, "nord", "machine", 0)
    credentials.add_token(database, "west", "machine", 0)
    credentials.add_token(database, "reader", "staff", 0)
    with centre(address) as made:
        assert made.send(report(1), token)[0] == 202
        assert made.send(b"{}", token)[0] == 422
        assert made.stop() == 0  # what was heard is written then, if not before
    assert plants(database) == {"nord": ("heard", None), "west": ("never", None)}
    later = weeks.week_of(NOW + timedelta(weeks=sites.SILENT_WEEKS))
    assert plants(database, later)["nord"] == ("silent", "2026-W48")


def test_a_database_without_the_new_tables_gets_them_and_keeps_what_waits(address):
    from alembic import command
    from alembic.config import Config

    from bundles.fleet.storage.database import MIGRATIONS

    database = open_database(address)
    token = credentials.add_token(database, "nord", "machine", 0)
    store_reports(database, [parse_report(report(n, first=False)) for n in range(10)])
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect().execution_options(writes=True) as c, c.begin():
        config.attributes["connection"] = c
        command.downgrade(config, "0003")
    database.close()
    again = open_database(address, create=False)
    assert release_ready(again, NOW, 10, 1) == 10
    assert machines(again) == []
    with again.reading() as connection:
        assert list(credentials.tokens_in_use(connection)) == [credentials.secret_digest(token)]
    again.close()
