"""The description of the interface, held against the running centre by schemathesis."""

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fleets import HANGS_S, NOW, centre, report, varied
from sqlalchemy import func, inspect, select

from bundles.fleet.access import credentials
from bundles.fleet.api.openapi import document
from bundles.fleet.api.routes import ENDPOINTS, ROUTES
from bundles.fleet.app import application
from bundles.fleet.counting.ingest import store_reports
from bundles.fleet.counting.release import release_ready
from bundles.fleet.counting.report import parse_report
from bundles.fleet.settings import CentreSettings
from bundles.fleet.storage.database import open_database
from bundles.fleet.storage.schema import metadata, seen

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EVIL = ["'; DROP TABLE reports; --", "\" OR ''='", "<script>alert(1)</script>",
        "{{7*7}}", "%00", "\x00", "../../etc/passwd", "a" * 5000, "\N{RIGHT-TO-LEFT OVERRIDE}x",
        "=cmd|' /C calc'!A1", "${jndi:ldap://x}"]  # fmt: skip

PARAMETERS = [("/v1/cells", "weeks"), ("/v1/cells.csv", "weeks"), ("/v1/verdict", "bundle"),
              ("/v1/verdict", "version"), ("/v1/accuracy", "bundle"), ("/v1/accuracy", "version"),
              ("/v1/accuracy", "attribute"), ("/v1/accuracy", "more")]  # fmt: skip


@pytest.fixture
def served(address, database):
    store_reports(database, [parse_report(varied(n)) for n in range(500)])
    release_ready(database, NOW, 10, 1)
    tokens = {k: credentials.add_token(database, k, k, 0) for k in ("machine", "staff")}
    with centre(address, "--per-minute", "1000000") as made:
        yield made, tokens


def schemathesis(made, token, cwd, *more):
    pytest.importorskip("schemathesis")
    command = [SCHEMATHESIS, "run", f"{made.url}/v1/openapi.json", "--header",
               f"Authorization: Bearer {token}", "--checks", "all", "--max-examples", "10",
               "--no-color", "--seed", "1", *more]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, cwd=cwd)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Traceback" not in made.said


@pytest.mark.parametrize("address", ["postgresql"], indirect=True)  # each takes 7 s of CPU
def test_what_the_centre_answers_is_what_its_description_says(served, tmp_path):
    made, tokens = served
    schemathesis(made, tokens["staff"], tmp_path, "--exclude-path", "/v1/reports")


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_reports_that_fit_the_description_or_not_are_answered_as_it_says(served, tmp_path):
    """A week may be closed however well it is written, so not all that fits is taken."""
    made, tokens = served
    schemathesis(made, tokens["machine"], tmp_path, "--include-path", "/v1/reports",
                 "--exclude-checks", "positive_data_acceptance")  # fmt: skip


def test_every_address_for_programs_is_described():
    described = {
        (path, way.upper()) for path, ways in document(ENDPOINTS)["paths"].items() for way in ways
    }
    there = {(route.path, way) for route in ROUTES for way in route.methods - {"HEAD"}}
    assert described == there


def test_sql_and_html_in_any_text_change_nothing_and_come_back_in_no_page(database):
    """In every field of a report and every parameter; answers for programs are no pages."""
    from starlette.testclient import TestClient

    staff = credentials.add_token(database, "reader", "staff", 0)
    settings = CentreSettings("", tokens_needed=False, clock=lambda: NOW)
    store_reports(database, [parse_report(varied(n)) for n in range(50)])
    good, bundle = json.loads(report(1)), {"bundle": "default", "version": "4"}
    with TestClient(application(database, settings), base_url="http://127.0.0.1:8001") as client:
        secret = credentials.start_session(database, "ada", int(NOW.timestamp()))
        for evil, name in itertools.product(EVIL, good):
            sent = client.post("/v1/reports", json=good | {name: evil})
            assert sent.status_code in (413, 422)
            assert sent.headers["content-type"] == "application/json"
            assert sent.headers["x-content-type-options"] == "nosniff"
        for evil, (path, name) in itertools.product(EVIL, PARAMETERS):
            bearer = {"Authorization": f"Bearer {staff}"}
            asked = client.get(path, params=bundle | {name: evil}, headers=bearer)
            assert (asked.status_code, asked.headers["content-type"]) == (422, "application/json")
        client.cookies.set("fleet-session", secret)
        for evil, name in itertools.product(EVIL, ("bundle", "version", "channel", "more")):
            asked = client.get("/bundle", params=bundle | {name: evil})
            assert asked.status_code == 404
            assert evil not in asked.text
        for evil in EVIL:
            bearer = {"Authorization": f"Bearer {evil}".encode()}
            assert client.get("/v1/cells", headers=bearer).status_code == 401
    with database.reading() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
        assert connection.execute(select(func.count()).select_from(seen)).scalar_one() == 50


@pytest.mark.parametrize("name", ["-2+3", "+1", "_x"])
def test_no_cell_of_the_table_begins_like_a_formula(tmp_path, name):
    from starlette.testclient import TestClient

    with contextlib.closing(open_database(f"sqlite:///{tmp_path / 'fleet.db'}")) as database:
        staff = credentials.add_token(database, "reader", "staff", 0)
        of_it = [parse_report(report(n, bundle=name)) for n in range(10)]
        store_reports(database, of_it)
        release_ready(database, NOW)
        with TestClient(
            application(database, CentreSettings("", clock=lambda: NOW)),
            base_url="http://127.0.0.1:8001", headers={"Authorization": f"Bearer {staff}"},
        ) as client:  # fmt: skip
            cell = client.get("/v1/cells.csv").text.splitlines()[1].split(",")[1]
    assert cell == (f"'{name}" if name[0] in "+-" else name)
