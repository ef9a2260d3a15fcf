"""A real machine and a real centre: a report that is sent, sent again and carried counts once."""

import json
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime

import pytest

from tests.agent.report.recorder import recording
from tests.agent.report.test_report_cli import answer_of, report, switched_on
from tests.conftest import environment

for needed in ("alembic", "msgspec", "sqlalchemy", "uvicorn"):
    pytest.importorskip(needed, reason="the extra `fleet` is not installed")

from tests.bundles.fleet.fleets import SCRIPT, centre  # noqa: E402  needs the extra


def ask_centre(made, request):
    """The centre's answer to the very bytes that a machine sent."""
    with socket.create_connection(("127.0.0.1", made.port), 20) as there:
        there.sendall(request)
        answer = there.recv(65536)
        while b"accepted" not in answer:
            answer += there.recv(65536)
    return answer


def test_a_report_that_is_sent_twice_and_carried_as_well_counts_once(machine, tmp_path):
    from bundles.fleet.access import credentials
    from bundles.fleet.storage.database import open_database

    address = f"sqlite:///{tmp_path / 'fleet.db'}"
    database = open_database(address)
    token = tmp_path / "token"
    token.write_text(credentials.add_token(database, "plant", "machine", int(time.time())))
    token.chmod(0o600)
    database.close()
    switched_on(machine)
    report(machine)  # it waits, and a technician's copy of it does
    stick = shutil.copytree(machine, tmp_path / "copy")
    with centre(address, at=datetime.now(UTC)) as made:

        def lost(here, stopping):
            ask_centre(made, way.requests[-1])

        def delivered(here, stopping):
            here.sendall(ask_centre(made, way.requests[-1]))

        with recording((lost, delivered)) as way:
            on = {"AGENT_REPORT_TO": way.url, "AGENT_REPORT_TOKEN_FILE": str(token)}
            first = report(machine, "--json", **on)
            again = report(machine, "--now", "--json", **on)
    assert answer_of(first)["outcome"] == "unreachable", first.err
    assert (answer_of(again)["outcome"], answer_of(again)["waiting"]) == ("sent", 0)
    assert way.bodies[0] == way.bodies[1]
    assert report(stick, "--export", tmp_path / "carried").code == 0
    done = subprocess.run(
        [SCRIPT, "fleet", "import", tmp_path / "carried", "--database", address, "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    taken = json.loads(done.stdout)
    assert (taken["lines"], taken["new"], taken["known"]) == (1, 0, 1)
