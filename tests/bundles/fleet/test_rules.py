"""What is kept with the data holds for every command; clocks that are wrong lose no report."""

import asyncio
import json
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from fleets import NOW, centre, report
from sqlalchemy import func, select, text, update

from agent.errors import InputError
from bundles.fleet.access import credentials
from bundles.fleet.analysis.answers import CellsAnswer
from bundles.fleet.analysis.sites import PlantsAnswer
from bundles.fleet.api import metrics
from bundles.fleet.counting import rules, weeks
from bundles.fleet.counting.carried import take_file
from bundles.fleet.counting.ingest import Unavailable, Writer, store_reports
from bundles.fleet.counting.release import mix, release_ready
from bundles.fleet.counting.report import Refusal, parse_report
from bundles.fleet.storage.database import DatabaseError, open_database, public_name
from bundles.fleet.storage.schema import cells, progress, reports, seen, sessions
from tests import forked

IN_2030 = datetime(2030, 1, 5, tzinfo=UTC)
TODAY = datetime.now(UTC)  # commands run by the real clock
THIS_WEEK = weeks.week_text(weeks.week_of(TODAY))


def send(database, numbers, **other):
    return store_reports(database, [parse_report(report(n, **other)) for n in numbers]).new


def count(database, table):
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def kept(database):
    with database.reading() as connection:
        return rules.kept_rules(connection)


def close_up_to(database, week):
    with database.writing() as connection:
        connection.execute(update(progress).values(closed=week))


def taken(database, body, now=NOW, late=1):
    """What the writer answers: None, or what it raises."""

    async def one():
        writer = Writer(database, lambda: now, late)
        async with writer.running():
            await writer.take(parse_report(body))

    try:
        asyncio.run(one())
    except (Refusal, Unavailable) as answer:
        return answer


def run(*arguments, cwd=None, **environment):
    return forked.run("bundles", "fleet", *arguments, cwd=cwd, env=os.environ | environment)


# --- a report is either counted or refused ---


def test_a_report_of_a_week_that_is_closed_is_refused_and_not_acknowledged(database):
    close_up_to(database, 202646)
    answer = taken(database, report(1, week="2026-W46"), late=4)
    assert (answer.status, answer.code) == (422, "week-closed")
    assert taken(database, report(1, week="2026-W47"), late=4) is None
    assert count(database, seen) == count(database, reports) == 1


def test_only_those_of_closed_weeks_are_refused_of_a_batch(database):
    close_up_to(database, 202647)
    bodies = [report(n, week=f"2026-W{47 + n % 2}") for n in range(20)]

    async def all_of_them():
        writer = Writer(database, lambda: NOW, 1)
        async with writer.running():
            jobs = [writer.take(parse_report(body)) for body in bodies]
            return await asyncio.gather(*jobs, return_exceptions=True)

    answers = asyncio.run(all_of_them())
    assert [answer is None for answer in answers] == [n % 2 == 1 for n in range(20)]
    assert count(database, seen) == 10


def test_an_import_says_which_lines_are_of_a_closed_week(database, tmp_path):
    rules.adopt_rules(database, None, 4)
    close_up_to(database, 202646)
    file = tmp_path / "reports.jsonl"
    lines = [report(n, week="2026-W46") for n in range(12)] + [report(50), report(50)]
    file.write_bytes(b"\n".join([*lines, report(51, week="2026-W20")]))
    done = take_file(database, file, NOW)
    assert (done["new"], done["known"], done["refused"]) == (1, 1, 13)
    assert {reason["code"] for reason in done["reasons"]} == {"week-closed"}
    assert [reason["line"] for reason in done["reasons"]] == [*range(1, 13), 15]


def test_with_a_clock_that_was_ahead_reports_are_kept_by_their_machines(database, tmp_path):
    release_ready(database, IN_2030)
    assert kept(database).closed == 202951
    answer = taken(database, report(1))
    assert isinstance(answer, Unavailable)
    assert "2029-W51" in str(answer)
    file = tmp_path / "reports.jsonl"
    file.write_bytes(report(1))
    with pytest.raises(rules.ClockError, match="2029-W51"):
        take_file(database, file, NOW)
    assert count(database, seen) == 0
    assert rules.reopen_weeks(database, NOW, 202648) == (202951, 202646)
    assert taken(database, report(1)) is None
    assert take_file(database, file, NOW)["known"] == 1


def test_weeks_are_reopened_only_by_who_knows_which_week_it_is(database):
    release_ready(database, IN_2030)
    with pytest.raises(InputError, match="2026-W48"):
        rules.reopen_weeks(database, NOW, 202647)
    rules.reopen_weeks(database, NOW, 202648)
    with pytest.raises(InputError, match="no week"):
        rules.reopen_weeks(database, NOW, 202648)


def test_a_clock_that_jumps_ahead_closes_nothing_and_refuses_nothing(database):
    send(database, range(30))
    release_ready(database, NOW)
    with pytest.raises(rules.ClockError, match="is the clock right"):
        release_ready(database, IN_2030)
    assert kept(database).closed == 202646
    assert isinstance(taken(database, report(99), now=IN_2030), Unavailable)
    assert taken(database, report(99)) is None  # it is right again


def test_after_a_long_pause_somebody_says_that_the_clock_is_right(database):
    send(database, range(30))
    release_ready(database, NOW)
    after = NOW + timedelta(weeks=20)
    with pytest.raises(rules.ClockError):
        release_ready(database, after)
    release_ready(database, after, sure=True)
    assert kept(database).closed == weeks.last_closed(after, 1)
    assert release_ready(database, after + timedelta(weeks=7)) == 0


def test_a_centre_whose_clock_was_wrong_says_so_until_it_is_mended(address, database):
    with centre(address, "--without-tokens", at=TODAY) as made:
        assert made.send(report(1, week=THIS_WEEK))[0] == 202
        close_up_to(database, 203051)
        status, answer = made.send(report(2, week=THIS_WEEK))
        assert (status, answer["error"]["code"]) == (503, "unavailable")
        assert "2030-W51" in json.loads(made.until_health_is(503))["error"]["message"]
        assert made.said.count("reports are not taken: weeks up to 2030-W51 are closed") == 1
        done = run("reopen", THIS_WEEK, "--database", address)
        assert done.returncode == 0
        assert "counts twice" in done.stdout
        assert made.send(report(2, week=THIS_WEEK))[0] == 202


# --- threshold and late weeks are kept with the data ---


def test_a_release_by_hand_hides_what_the_centre_hides_and_closes_no_more(address, database):
    """The reviewer's case: `serve --threshold 20 --late-weeks 4`, then `bundles fleet release`."""
    old = weeks.week_text(weeks.before(weeks.week_of(TODAY), 3))
    with centre(address, "--threshold", "20", "--late-weeks", "4", "--without-tokens",
                at=TODAY) as made:  # fmt: skip
        for number in range(12):
            assert made.send(report(number, week=THIS_WEEK))[0] == 202
            assert made.send(report(100 + number, week=old))[0] == 202
        assert run("release", "--database", address).returncode == 0
        assert count(database, cells) == 0
        assert count(database, reports) == count(database, seen) == 24
        assert made.send(report(555, week=old))[0] == 202
    with centre(address, at=TODAY):  # without options: what is kept
        pass
    assert kept(database)[1:] == (20, 4)


def test_a_threshold_is_lowered_only_on_purpose(database):
    assert rules.adopt_rules(database, None, None) == (10, 1)
    assert rules.adopt_rules(database, 20, 2) == (20, 2)
    with pytest.raises(InputError, match="fewer than 20"):
        rules.adopt_rules(database, 10, None)
    assert rules.adopt_rules(database, None, 0) == (20, 0)
    assert rules.adopt_rules(database, 5, None, lower=True) == (5, 0)


def test_a_centre_is_not_started_with_a_lower_threshold(address, database):
    rules.adopt_rules(database, 20, None)
    done = run("serve", "--threshold", "10", "--port", "0", "--database", address)
    assert done.returncode == 2
    assert "--lower-threshold" in done.stderr
    with centre(address, "--threshold", "10", "--lower-threshold"):
        assert kept(database).threshold == 10


def test_no_caller_releases_below_what_is_kept(database):
    rules.adopt_rules(database, 20, 3)
    send(database, range(12))
    assert release_ready(database, NOW, 2, 0) == 0
    assert kept(database).closed == 202644


def test_a_database_of_the_first_version_gets_the_new_columns_and_keeps_people_only(address):
    from alembic import command
    from alembic.config import Config

    from bundles.fleet.storage.database import MIGRATIONS

    database = open_database(address)
    send(database, range(3))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.connect().execution_options(writes=True) as c, c.begin():
        config.attributes["connection"] = c
        command.downgrade(config, "0001")
    credentials.start_session(database, "ada", 0)
    credentials.start_session(database, '\n{"state": "of one on the way"}', 0)
    database.close()
    again = open_database(address, create=False)
    assert kept(again) == (0, None, None)
    assert (count(again, reports), count(again, sessions)) == (3, 1)
    again.close()


# --- what the database's keeper can pair ---


def pairs(database):
    joined = text("SELECT count(*) FROM reports r JOIN seen s ON r.xmin::text = s.xmin::text")
    with database.reading() as connection:
        return connection.execute(joined).scalar_one()


@pytest.mark.parametrize("how", [mix, lambda database: release_ready(database, NOW)])
def test_in_postgresql_no_transaction_and_no_place_pairs_reports_and_dedupe_values(cluster, how):
    database = open_database(cluster.make(f"pairs{os.urandom(4).hex()}"))
    for number in range(9):
        send(database, [number], architecture="aarch64" if number % 2 else "x86-64-v3")
    assert pairs(database) == 9  # until it is written anew
    how(database)
    assert pairs(database) == 0
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT xmin::text, architecture FROM reports").all()
    assert len({xmin for xmin, _ in found}) == 1
    assert [each for _, each in found] == ["aarch64"] * 4 + ["x86-64-v3"] * 5  # not as they came
    assert count(database, seen) == count(database, reports) == 9
    database.close()


def test_what_is_written_anew_while_reports_come_is_all_there(database):
    async def at_once():
        jobs = [asyncio.to_thread(send, database, range(n, n + 10)) for n in range(0, 300, 10)]
        jobs += [asyncio.to_thread(mix, database) for _ in range(5)]
        jobs.append(asyncio.to_thread(release_ready, database, NOW, 1000))
        await asyncio.gather(*jobs)

    asyncio.run(at_once())
    assert count(database, seen) == count(database, reports) == 300


# --- which database it is ---


@pytest.mark.parametrize("command", [("user", "add", "ada", "--password-file", "/dev/null"),
                                     ("token", "add", "x"), ("token", "list"), ("release",),
                                     ("reopen", "2026-W48"), ("import", "/dev/null")])  # fmt: skip
def test_only_serve_and_demo_make_a_database(command, tmp_path):
    done = run(*command, cwd=tmp_path, FLEET_DATABASE="sqlite:///fleet.db")
    assert done.returncode == 4
    assert f"there is no fleet in sqlite:///{tmp_path / 'fleet.db'}" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_empty_postgresql_database_gets_no_tables_but_by_serve(cluster):
    address = cluster.make("empty")
    with pytest.raises(DatabaseError, match="there is no fleet"):
        open_database(address, create=False)
    open_database(address).close()
    open_database(address, create=False).close()


def test_a_file_that_is_no_fleet_is_left_alone(tmp_path):
    (tmp_path / "fleet.db").touch()
    with pytest.raises(DatabaseError, match="there is no fleet"):
        open_database(f"sqlite:///{tmp_path / 'fleet.db'}", create=False)


def test_every_answer_names_the_database(address, database):
    done = run("token", "list", "--json", "--database", address)
    assert json.loads(done.stdout)["database"] == public_name(address)
    assert "Database: " in run("release", "--database", address).stderr


def test_people_who_sign_in_are_listed_by_name(address, database, tmp_path):
    (tmp_path / "password").write_text("twelve characters and more\n")
    for name in ("grace", "ada"):
        known = ("--password-file", tmp_path / "password", "--database", address)
        assert run("user", "add", name, *known).returncode == 0
    done = run("user", "list", "--json", "--database", address)
    assert json.loads(done.stdout)["users"] == ["ada", "grace"]


@pytest.mark.parametrize("address", ["postgresql://me:secret@host/fleet",
                                     "postgresql://me@host/fleet?password=secret"])  # fmt: skip
def test_a_password_is_not_told(address):
    told = public_name(address)
    assert "secret" not in told
    assert told.startswith("postgresql://me")
    assert told.endswith("@host/fleet")


def test_a_sqlite_database_is_its_owners_only(tmp_path):
    before = os.umask(0o022)
    try:
        database = open_database(f"sqlite:///{tmp_path / 'fleet.db'}")
        send(database, range(3))
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
        assert modes == dict.fromkeys(("fleet.db", "fleet.db-wal", "fleet.db-shm"), 0o600)
        database.close()
    finally:
        os.umask(before)


# --- small leaks ---


def test_metrics_do_not_tell_of_a_first_report():
    answer, plants = CellsAnswer(10, None, []), PlantsAnswer(5, [])
    assert metrics.exposition(answer, {}, None, plants) == metrics.exposition(
        answer, {202: 99}, None, plants
    )


def test_a_token_can_be_written_to_a_file(address, database):
    done = run("token", "add", "plant", "--database", address)
    secret = done.stdout.removesuffix("\n")
    assert secret.startswith("fleet-machine-")
    assert secret.split() == [secret]
    assert "0640" in done.stderr
    with database.reading() as connection:
        assert credentials.secret_digest(secret) in credentials.tokens_in_use(connection)
