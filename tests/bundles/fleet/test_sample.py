"""The invented fleet: shown in seconds, and never taken for a real one."""

import contextlib

import pytest
from starlette.testclient import TestClient

from bundles.fleet.access import credentials
from bundles.fleet.app import application
from bundles.fleet.sample import PILOT, STABLE, WEEKS, fill_with_sample
from bundles.fleet.settings import CentreSettings, utc_now
from bundles.fleet.storage.database import open_database


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    place = tmp_path_factory.mktemp("sample")
    with contextlib.closing(open_database(f"sqlite:///{place / 'fleet.db'}")) as database:
        assert fill_with_sample(database, place / "reports.jsonl") == STABLE + PILOT
        yield database


@pytest.fixture(scope="module")
def client(sample):
    app = application(sample, CentreSettings("", sample=True))
    with TestClient(app, base_url="http://127.0.0.1:8001") as made:
        secret = credentials.start_session(sample, "demo", int(utc_now().timestamp()))
        made.cookies.set("fleet-session", secret)
        yield made


@pytest.mark.parametrize("page", ["/", "/bundle?bundle=sample&version=4"])
def test_every_page_of_a_sample_says_that_it_is_invented(client, page):
    shown = client.get(page)
    assert shown.status_code == 200
    assert "Sample data: invented" in shown.text


def test_a_real_centre_says_no_such_thing(sample):
    app = application(sample, CentreSettings(""))
    with TestClient(app, base_url="http://127.0.0.1:8001") as client:
        assert "Sample data" not in client.get("/login").text


def test_the_sample_has_all_its_weeks_and_a_bundle_that_is_judged(client):
    overview = client.get("/").text
    assert "sample 5" in overview
    assert "Wait: too few machines" not in overview
    weeks = {line.split(",")[0] for line in client.get("/v1/cells.csv").text.splitlines()[1:]}
    assert len(weeks) == WEEKS
