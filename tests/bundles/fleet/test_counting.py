"""Counted once, released in lots, forgotten in time: on SQLite and on PostgreSQL."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from fleets import NOW, WEEK, report, varied
from sqlalchemy import func, select

from bundles.fleet.analysis import answers
from bundles.fleet.counting import release, weeks
from bundles.fleet.counting.carried import take_file
from bundles.fleet.counting.ingest import Unavailable, Writer, check_week, store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import Refusal, parse_report
from bundles.fleet.storage.database import DatabaseError, open_database
from bundles.fleet.storage.schema import cells, metadata, parts, reports, seen

LATE = 1


def send(database, numbers, **other):
    return store_reports(database, [parse_report(report(n, **other)) for n in numbers]).new


def count(database, table):
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def shown(database):
    """Machines by week, bundle, version, channel, architecture and outcome, as everybody sees."""
    with database.reading() as connection:
        return {
            (x.week, x.bundle, x.version, x.channel, x.architecture, x.outcome): x.machines
            for x in answers.cells_answer(connection, 10).cells
        }


def total(database):
    return sum(shown(database).values())


def test_a_report_counts_once_however_often_it_comes(database):
    assert send(database, range(20)) == 20
    assert send(database, range(20)) == 0
    assert send(database, [*range(15, 25), 24, 24]) == 5
    release_ready(database, NOW, 10, LATE)
    assert (total(database), count(database, reports)) == (20, 5)
    assert send(database, range(25)) == 0  # released already, and still known


def test_the_first_of_two_reports_of_a_machine_counts(database):
    send(database, range(10))
    send(database, range(10), outcome="fell-back")
    release_ready(database, NOW, 10, LATE)
    assert [key[-1] for key in shown(database)] == ["kept"]


def test_writers_at_the_same_time_count_each_report_once(database):
    bodies = [parse_report(varied(n)) for n in range(600)]

    async def all_at_once():
        writers = [Writer(database, lambda: NOW, LATE) for _ in range(2)]
        async with writers[0].running(), writers[1].running():
            draw = random.Random(1)
            jobs = [w.take(b) for b in bodies for w in writers]
            draw.shuffle(jobs)
            await asyncio.gather(*jobs)

    asyncio.run(all_at_once())
    assert count(database, seen) == count(database, reports) == 600


def test_too_few_machines_are_nowhere_until_others_join_them(database):
    send(database, range(9))
    release_ready(database, NOW, 10, LATE)
    assert not shown(database)
    send(database, [9])
    release_ready(database, NOW, 10, LATE)
    assert total(database) == 10
    assert count(database, reports) == 0


def test_what_stays_too_few_is_pooled_over_architectures_when_its_week_closes(database):
    send(database, range(6), architecture="aarch64")
    send(database, range(6, 12), architecture="x86-64-v2")
    send(database, range(12, 20), channel="pilot")
    release_ready(database, NOW, 10, LATE)
    assert not shown(database)
    release_ready(database, NOW + timedelta(weeks=2), 10, LATE)
    assert {key[4]: n for key, n in shown(database).items()} == {"mixed": 10}
    assert count(database, reports) == 0  # the others were never shown, and are gone


def test_a_closed_week_is_forgotten_and_takes_no_report_again(database):
    send(database, range(30))
    assert count(database, seen) == 30
    release_ready(database, NOW + timedelta(days=12), 10, LATE)
    assert count(database, seen) == 30
    release_ready(database, NOW + timedelta(days=13), 10, LATE)
    assert count(database, seen) == 0
    assert send(database, range(40)) == 0  # replayed after nobody remembers them
    release_ready(database, NOW + timedelta(days=13), 10, LATE)
    assert total(database) == 30


def test_what_is_forgotten_is_in_no_byte_of_the_file_any_more(tmp_path):
    """SQLite; PostgreSQL gives such pages to its vacuum."""
    database = open_database(f"sqlite:///{tmp_path / 'fleet.db'}")
    secrets = [random.Random(n).randbytes(32) for n in range(300)]
    send_all = [
        parse_report(varied(n, dedupe=s.hex(), bundle="gone-soon", outcome="kept"))
        for n, s in enumerate(secrets)
    ]
    store_reports(database, send_all[:200])
    release_ready(database, NOW, 1000, LATE)
    store_reports(database, send_all[200:])

    def there():
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        return sum(secret in content for secret in secrets), content.count(b"gone-soon")

    assert there()[0] == 300
    release_ready(database, NOW + timedelta(weeks=2), 1000, LATE)
    assert there()[0] == 0
    release_ready(database, NOW + timedelta(weeks=4), 1000, LATE)  # first reports wait as long
    assert there() == (0, 0)
    database.close()


def test_what_is_forgotten_takes_no_room_in_postgresql(cluster):
    database = open_database(cluster.make("forgets"))
    send(database, range(3000))
    release_ready(database, NOW + timedelta(weeks=2), 10, LATE)
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT relname, pg_relation_size(oid) FROM pg_class "
            "WHERE relname IN ('seen', 'reports', 'firsts')"
        )
        assert dict(rows.all()) == {"seen": 0, "reports": 0, "firsts": 0}
    assert send(database, range(5), week="2026-W50") == 5  # and transactions are as before
    with contextlib.suppress(ZeroDivisionError), database.writing() as connection:
        connection.execute(seen.delete())
        raise ZeroDivisionError
    assert count(database, seen) == 5
    database.close()


def test_a_clock_that_goes_back_opens_no_week_again(database):
    send(database, range(30))
    release_ready(database, NOW + timedelta(weeks=3), 10, LATE)
    release_ready(database, NOW, 10, LATE)
    assert send(database, range(30)) == 0


@pytest.mark.parametrize(
    ("week", "code"),
    [("2026-W46", "week-closed"), ("2020-W01", "week-closed"), ("2026-W49", "week-to-come"),
     ("2099-W01", "week-to-come")],
)  # fmt: skip
def test_reports_of_weeks_that_are_not_open_are_refused(week, code):
    with pytest.raises(Refusal) as found:
        check_week(parse_report(report(1, week=week)), NOW, LATE)
    assert (found.value.status, found.value.code) == (422, code)


@pytest.mark.parametrize("week", [WEEK, "2026-W47"])
def test_reports_of_this_week_and_the_last_are_taken(week):
    check_week(parse_report(report(1, week=week)), NOW, LATE)


def test_a_machine_that_is_in_the_next_week_already_is_heard():
    late_sunday = datetime(2026, 11, 29, 20, tzinfo=UTC)
    check_week(parse_report(report(1, week="2026-W49")), late_sunday, LATE)


def test_weeks_go_over_the_end_of_a_year():
    assert weeks.before(202701, 1) == 202653
    assert weeks.week_of(datetime(2027, 1, 3, 23, tzinfo=UTC)) == 202653
    assert weeks.week_text(202701) == "2027-W01"


def test_two_releases_at_once_release_each_report_once(database):
    send(database, range(500))

    async def both():
        jobs = [asyncio.to_thread(release_ready, database, NOW, 10, LATE) for _ in range(3)]
        return await asyncio.gather(*jobs)

    done = asyncio.run(both())
    release_ready(database, NOW, 10, LATE)
    assert sum(done) in (0, 500)
    assert total(database) == 500


@pytest.mark.parametrize("moment", ["set_aside", "add_up", "forget_labelled", "_mix"])
def test_a_release_that_is_killed_is_done_wholly_or_not_at_all(address, database, moment):
    send(database, range(57))
    process = multiprocessing.get_context("fork").Process(target=_die_at, args=(address, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (total(database), count(database, reports), count(database, seen)) == (0, 57, 57)
    release_ready(database, NOW, 10, LATE)
    assert (total(database), count(database, reports), count(database, seen)) == (50, 7, 57)


def _die_at(address, moment):
    setattr(release, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    release_ready(open_database(address), NOW, 10, LATE)


def test_a_file_of_reports_counts_once_and_says_what_it_refused(database, tmp_path):
    file = tmp_path / "reports.jsonl"
    lines = [report(1), report(2), report(2), b"{", b"x" * 1_000_000, report(3, week="2026-W20"),
             report(4)]  # fmt: skip
    file.write_bytes(b"\n".join(lines))
    done = take_file(database, file, NOW)
    assert (done["lines"], done["new"], done["known"], done["refused"]) == (7, 3, 1, 3)
    assert [(r["line"], r["code"]) for r in done["reasons"]] == [
        (4, "not-json"), (5, "too-large"), (6, "week-closed")
    ]  # fmt: skip
    again = take_file(database, file, NOW)
    assert (again["new"], again["known"]) == (0, 4)


def test_a_database_that_does_not_answer_loses_nothing_and_acknowledges_nothing(database):
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE reports RENAME TO away"))

    async def one():
        writer = Writer(database, lambda: NOW, LATE)
        async with writer.running():
            with pytest.raises(Unavailable):
                await writer.take(parse_report(report(1)))
            with database.writing() as connection:
                connection.execute(sqlalchemy.text("ALTER TABLE away RENAME TO reports"))
            await writer.take(parse_report(report(1)))

    asyncio.run(one())
    assert count(database, seen) == count(database, reports) == 1


def test_migrations_make_the_tables_that_the_code_expects(database):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_of_a_newer_version_is_refused(address):
    database = open_database(address)
    with database.writing() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(DatabaseError, match="not of this version"):
        open_database(address)


@pytest.mark.parametrize("wrong", ["nonsense", "mysql://x/y", "postgresql://nobody@127.0.0.1:1/x",
                                   "sqlite:////no/such/directory/x.db"])  # fmt: skip
def test_a_database_that_cannot_be_had_is_told_plainly(wrong):
    with pytest.raises(DatabaseError):
        open_database(wrong)


def test_no_number_that_is_kept_for_showing_is_below_the_threshold(database):
    for n in range(0, 400, 40):
        store_reports(database, [parse_report(varied(i)) for i in range(n, n + 40)])
        release_ready(database, NOW, 10, LATE)
    release_ready(database, NOW + timedelta(weeks=2), 10, LATE)
    with database.reading() as connection:
        for table in (cells, parts):
            assert connection.execute(select(func.min(table.c.machines))).scalar_one() >= 10
