"""`agent report` killed at any moment, and over real https: nothing lost, nothing counted twice."""

import json
import shutil
import signal
import subprocess

import pytest

from tests.agent.report.recorder import ACCEPTED, recording
from tests.agent.report.test_report_cli import (
    answer_of,
    needs_strace,
    own_network,
    report,
    switched_on,
    traced,
)
from tests.agent.update.servers import authority
from tests.conftest import SCRIPT, UNTIMED, environment


def dedupes(bodies):
    """What the centre counts machines by."""
    return {json.loads(body)["dedupe"] for body in bodies}


class Started:
    """`agent report` in the background, which a centre can kill."""

    def __init__(self, machine, url):
        command = [SCRIPT, "report", "--now", "--state-dir", machine]
        on = environment(AGENT_REPORT_TO=url)
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, env=on, stdout=quiet, stderr=quiet)

    def kill(self):
        self.process.kill()
        self.process.wait(30)


@pytest.mark.parametrize("moment", ["before the answer", "in the answer", "after the answer"])
def test_killed_while_it_sends_a_report_is_sent_again_under_the_same_key(machine, moment):
    switched_on(machine)
    begun = []

    def die(here, stopping):
        if moment == "in the answer":
            here.sendall(ACCEPTED[:30])
        if moment == "after the answer":
            here.sendall(ACCEPTED)
            stopping.wait(0.05)  # it may have done its work by then: then nothing comes again
        begun[0].kill()

    with recording((die, ACCEPTED)) as centre:
        begun.append(Started(machine, centre.url))
        begun[0].process.wait(60)
        again = report(machine, "--json", AGENT_REPORT_TO=centre.url)
        assert again.code in ((0, 7) if moment == "after the answer" else (0,))
        assert report(machine, AGENT_REPORT_TO=centre.url).code == 7
    assert len(dedupes(centre.bodies)) == 1
    assert len(set(centre.bodies)) == 1
    if moment != "after the answer":
        assert begun[0].process.returncode == -signal.SIGKILL
        assert len(centre.bodies) == 2


@needs_strace
def test_killed_at_writes_to_the_disk_every_report_arrives_and_counts_once(machine, tmp_path):
    switched_on(machine)
    shown = report(machine, "--show").out.encode()
    for number in range(1, 60, 3):
        state = shutil.copytree(machine, tmp_path / str(number))
        kill = ["-e", f"inject=fdatasync:signal=SIGKILL:when={number}", "-e", "trace=fdatasync"]
        command = ["strace", "-f", "-qq", "-o", "/dev/null", *kill]
        command += [SCRIPT, "report", "--state-dir", state]
        with recording() as centre:
            on = environment(AGENT_REPORT_TO=centre.url)
            killed = subprocess.run(command, env=on, capture_output=True, check=False)
            if b"ptrace" in killed.stderr.lower():
                pytest.skip("this machine does not let processes be traced")
            rest = report(state, "--now", "--json", AGENT_REPORT_TO=centre.url)
        assert rest.code in (0, 7), rest.err
        assert answer_of(rest)["waiting"] == 0
        assert {body + b"\n" for body in centre.bodies} == {shown}
        if killed.returncode == 0:
            break
    assert 4 < number < 59, "it was hardly killed, or writes without end"


def test_over_https_it_is_known_by_its_token_and_certificate_and_sends_the_same_bytes(
    machine, tmp_path
):
    switched_on(machine)
    shown = report(machine, "--show").out.encode()
    known = authority(tmp_path / "ca", ("127.0.0.1",))
    (tmp_path / "token").write_text("fleet-token-17\n")
    (tmp_path / "token").chmod(0o600)
    on = {
        "REQUESTS_CA_BUNDLE": str(known.bundle),
        "AGENT_REPORT_CLIENT_CERT": str(known.client),
        "AGENT_REPORT_TOKEN_FILE": str(tmp_path / "token"),
    }
    with recording(tls=known.ask_clients()) as centre:
        assert report(machine, AGENT_REPORT_TO=centre.url).code == 4  # not known yet
        assert centre.requests == []
        ran = report(machine, "--now", AGENT_REPORT_TO=centre.url, **on)
    assert ran.code == 0, ran.err
    assert [body + b"\n" for body in centre.bodies] == [shown]
    assert centre.headers() == [
        "POST /v1/reports HTTP/1.1",
        f"Host: 127.0.0.1:{centre.port}",
        "User-Agent: calibration-agent",
        "Accept-Encoding: identity",
        "Content-Type: application/json",
        "Authorization: Bearer fleet-token-17",
        f"Content-Length: {len(centre.bodies[0])}",
    ]
    assert "fleet-token-17" not in ran.out + ran.err


# What `check` times for most of a minute is timed by `calibrate` too, which is traced elsewhere.
OTHERS = ("status", "history", "check", "calibrate --refit", "doctor", "bundle list", "kernels")


@needs_strace
@pytest.mark.parametrize("words", OTHERS)
def test_no_other_command_talks_even_while_reporting_is_on(machine, tmp_path, words):
    switched_on(machine)
    on = {"AGENT_REPORT": "on", "AGENT_REPORT_TO": "https://fleet.example.org"}
    script = UNTIMED if words == "check" else (SCRIPT,)
    _, calls = traced(tmp_path, *words.split(), "--state-dir", machine, script=script, **on)
    # A socket that is a file leads to this machine's own services, as for the names of users.
    talking = [c for c in calls.splitlines() if "AF_INET" in c and ("connect(" in c or "send" in c)]
    assert talking == []


@needs_strace
def test_while_reporting_is_off_and_no_repository_is_set_doctor_knows_of_no_network(
    machine, tmp_path
):
    code, calls = traced(tmp_path, "doctor", "--state-dir", machine)
    assert code == 0
    assert "AF_INET" not in calls


@pytest.mark.parametrize("words", ["report", "report --show"])
def test_without_any_network_it_ends_quietly_and_keeps_the_report(machine, words):
    switched_on(machine)
    on = environment(AGENT_REPORT_TO="https://fleet.example.org")
    command = [*own_network(), SCRIPT, *words.split(), "--state-dir", machine]
    ran = subprocess.run(command, env=on, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == (0 if "--show" in words else 4), ran.stderr
    assert "Traceback" not in ran.stderr
    assert "error" not in ran.stderr
    waiting = answer_of(report(machine, "--show", "--json"))
    assert len(waiting["reports"]) == 1
