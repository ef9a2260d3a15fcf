"""Real agents and a real centre: by the network, in a file, and a demo that calibrates here."""

import json
import os
import subprocess
from datetime import UTC, datetime

import pytest
from fleets import HANGS_S, SCRIPT, centre

from agent.bundle.bundle import default_bundle
from bundles.fleet import demo
from bundles.fleet.access import credentials
from bundles.fleet.analysis import answers
from bundles.fleet.counting import rules
from bundles.fleet.counting.release import release_ready
from bundles.fleet.storage.database import open_database
from tests import forked
from tests.fake_runner import calibrate_simulated


def agent(state, *arguments, **settings):
    kept = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
    env = kept | {"AGENT_CONFIG": "", "AGENT_STATE_DIR": str(state)} | settings
    return forked.run("agent", *arguments, env=env, timeout=HANGS_S)


def forked_agent(environment, *arguments):
    """As the demo starts an agent, but for the seconds that Python needs to start."""
    done = forked.run("agent", *arguments, env=environment)
    assert done.returncode in (0, 7), done.stderr
    return done.stdout.encode()


def bundles(*arguments):
    done = forked.run("bundles", *arguments)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """The state of a machine that has calibrated on the built-in bundle, its times simulated."""
    state = tmp_path_factory.mktemp("machine") / "state"
    calibrate_simulated(state, default_bundle())
    return state


def counted(database):
    rules.adopt_rules(database, 1, None, lower=True)
    release_ready(database, datetime.now(UTC), 1)
    with database.reading() as connection:
        return sum(cell.machines for cell in answers.cells_answer(connection, 1).cells)


def test_an_agent_reports_to_the_centre_once_whatever_it_sends(machine, tmp_path, address):
    database = open_database(address)
    token = tmp_path / "token"
    token.write_text(credentials.add_token(database, "plant", "machine", 0))
    token.chmod(0o600)
    with centre(address, at=datetime.now(UTC)) as made:
        to = {"AGENT_REPORT_TO": made.url, "AGENT_REPORT_TOKEN_FILE": str(token)}
        copy = tmp_path / "state"
        subprocess.run(["cp", "-r", machine, copy], check=True)
        assert agent(copy, "report", "enable", "--yes", **to).returncode == 0
        done = agent(copy, "report", "--now", "--json", **to)
        assert done.returncode == 0, done.stdout + done.stderr
        again = agent(copy, "report", "--now", **to)
        assert again.returncode == 7  # nothing to send
        shown = agent(copy, "report", "--show", **to).stdout.strip().encode()
        assert made.send(shown, token.read_text())[0] == 202  # replayed
        assert "Traceback" not in made.said
    assert counted(database) == 1
    database.close()


def test_what_was_carried_in_a_file_is_imported_once(machine, tmp_path, address):
    copy, file = tmp_path / "state", tmp_path / "stick.jsonl"
    subprocess.run(["cp", "-r", machine, copy], check=True)
    assert agent(copy, "report", "enable", "--yes").returncode == 0
    done = agent(copy, "report", "--export", str(file))
    assert done.returncode == 0, done.stderr
    database = open_database(address)
    code, body, _ = bundles("fleet", "import", file, "--database", address, "--json")
    assert (code, body["new"], body["known"], body["refused"]) == (0, 1, 0, 0)
    code, body, _ = bundles("fleet", "import", file, "--database", address, "--json")
    assert (code, body["new"], body["known"]) == (0, 0, 1)
    assert counted(database) == 1
    database.close()


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 5000, b"{}\n" * 50])
def test_a_file_that_holds_no_reports_is_told_plainly(tmp_path, content):
    file, database = tmp_path / "stick.jsonl", f"sqlite:///{tmp_path / 'fleet.db'}"
    open_database(database).close()
    if content is not None:
        file.write_bytes(content)
    code, body, words = bundles("fleet", "import", file, "--database", database, "--json")
    assert "Traceback" not in words
    if content is None:
        assert (code, "stick.jsonl" in body["error"]["message"]) == (2, True)
    else:
        assert (code, body["new"]) == (0, 0)
        assert len(body["reasons"]) <= 20


@pytest.mark.timeout(1000)
def test_the_demo_is_made_by_real_agents_and_shows_them(tmp_path, monkeypatch):
    """One machine a channel, where the command asks for two: each calibrates for two seconds."""
    monkeypatch.setattr(demo, "_agent", forked_agent)
    place, said = tmp_path / "demo", []
    demo.make_demo(place, 1, "2s", said.append)
    assert said[-1].startswith("2 reports counted")
    reports = [json.loads(line) for line in (place / "reports.jsonl").read_text().splitlines()]
    assert {report["channel"] for report in reports} == {"pilot", "stable"}
    assert len({report["dedupe"] for report in reports}) == 2
    with centre(f"sqlite:///{place / 'fleet.db'}") as made:
        assert made.ask("GET", "/login")[0] == 200
    again = subprocess.run([SCRIPT, "fleet", "demo", place, "--no-serve"], capture_output=True)
    assert again.returncode == 2  # what is there is not touched
