"""`agent report` as people and timers run it, watched from the outside."""

import base64
import binascii
import json
import os
import pty
import shutil
import subprocess
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import jsonschema
import pytest

from agent import __version__
from agent.bundle.installed import DECLINED
from agent.state.file import FILE
from agent.state.state import open_state
from tests.agent.report.recorder import ACCEPTED, answers, recording
from tests.conftest import GEMM, SCHEMAS, SCRIPT, agent, environment, valid
from tests.other_user import NOBODY, needs_root

PAYLOAD = json.loads((SCHEMAS / "report-payload.json").read_text())


def report(machine, *more, **env):
    return agent("report", *more, "--state-dir", machine, **env)


def answer_of(ran):
    return valid(ran.json, "report")


def switched_on(machine):
    assert report(machine, "enable", "--yes").code == 0
    return machine


# What is shown is what is sent.


def test_the_bytes_on_the_wire_are_those_that_show_prints(machine):
    with open_state(machine) as state:  # a second one to tell
        verdict = {"new": 0.31, "new_seconds": None}
        body = {"name": "default", "version": "9", "digest": "d" * 64, "verdict": verdict}
        state.note([(DECLINED, "d" * 64, body)], time.time())
    shown = report(machine, "--show")
    assert shown.code == 0
    switched_on(machine)
    again = report(machine, "--show")
    with recording() as centre:
        assert report(machine, AGENT_REPORT_TO=centre.url).code == 0
    assert len(centre.bodies) == 2
    assert b"".join(body + b"\n" for body in centre.bodies) == shown.out.encode()
    assert again.out == shown.out
    for body in centre.bodies:
        jsonschema.validate(json.loads(body), PAYLOAD)
        assert len(body) <= 2048
    for number in (0, 1):
        assert centre.headers(number) == [
            "POST /v1/reports HTTP/1.1",
            f"Host: 127.0.0.1:{centre.port}",
            "User-Agent: calibration-agent",
            "Accept-Encoding: identity",
            "Content-Type: application/json",
            f"Content-Length: {len(centre.bodies[number])}",
        ]


def test_without_a_label_nothing_stands_for_one_on_the_wire(machine, tmp_path):
    report(switched_on(machine), "--show")  # the week's secret is drawn
    named = shutil.copytree(machine, tmp_path / "named")
    with recording() as centre:
        on = {"AGENT_REPORT_TO": centre.url}
        assert report(machine, **on).code == 0
        assert report(named, AGENT_REPORT_LABEL="press-4", **on).code == 0
    plain, labelled = centre.bodies
    assert labelled.replace(b',"label":"press-4"', b"") == plain
    assert b"label" not in plain
    assert [line for line in centre.headers(0) if "Length" not in line] == [
        line for line in centre.headers(1) if "Length" not in line
    ]


def test_a_label_that_is_taken_away_is_taken_out_of_what_waits(machine):
    switched_on(machine)
    assert '"label":"press-4"' in report(machine, "--show", AGENT_REPORT_LABEL="press-4").out
    report(machine, AGENT_REPORT_LABEL="press-4")  # no centre: it waits
    assert "label" not in report(machine, "--show").out
    with recording() as centre:
        assert report(machine, AGENT_REPORT_TO=centre.url).code == 0
    assert b"label" not in b"".join(centre.requests)


def test_a_label_is_shown_to_who_is_asked(machine):
    asked = report(machine, "enable", "--yes", AGENT_REPORT_LABEL="press-4")
    assert "names this machine: the label press-4" in asked.err
    assert '"label":"press-4"' in asked.err
    assert answer_of(report(machine, "--show", "--json"))["label"] is None


@pytest.mark.parametrize("label", ["a b", "-x", "\u00e4", "a" * 33, "<b>"])
def test_what_is_no_label_is_a_mistake_of_the_configuration(machine, label):
    ran = report(machine, "--show", AGENT_REPORT_LABEL=label)
    assert ran.code == 2
    assert "is no label" in ran.err


def test_an_older_centre_is_sent_what_it_knows(machine):
    with recording((answers(422), ACCEPTED)) as centre:
        on = {"AGENT_REPORT_TO": centre.url, "AGENT_REPORT_LABEL": "press-4"}
        sent = answer_of(report(switched_on(machine), "--json", **on))
    assert (sent["outcome"], sent["handed_over"], sent["refused"]) == ("sent", 1, 0)
    newer, older = map(json.loads, centre.bodies)
    assert newer == older | {"schema": 2, "first": True, "label": "press-4"}
    assert older["schema"] == 1
    assert sent["last"]["report"].encode() == centre.bodies[1]
    assert "older than this agent" in sent["notes"][0]["message"]


def test_show_as_json_holds_the_same_bytes_and_afterwards_what_was_sent_last(machine):
    switched_on(machine)
    before = answer_of(report(machine, "--show", "--json"))
    assert before["reports"] == report(machine, "--show").out.splitlines()
    with recording() as centre:
        sent = answer_of(report(machine, "--json", AGENT_REPORT_TO=centre.url))
    assert (sent["outcome"], sent["handed_over"], sent["waiting"]) == ("sent", 1, 0)
    after = answer_of(report(machine, "--show", "--json"))
    assert (after["reports"], after["last"]["report"]) == ([], before["reports"][0])
    shown = report(machine, "--show")
    assert shown.out.splitlines() == before["reports"]
    assert "Nothing waits" in shown.err


# Exit codes and words.


def test_off_is_the_beginning_and_writes_nothing(machine, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in machine.rglob("*")}
    ran = report(machine, AGENT_REPORT_TO="http://127.0.0.1:1")
    assert ran.code == 7
    assert "agent report enable" in ran.out
    assert {p: p.stat().st_mtime_ns for p in machine.rglob("*")} == before
    assert report(tmp_path / "none").code == 7
    assert not (tmp_path / "none").exists()


def test_a_variable_that_names_no_usable_proxy_is_named_and_the_report_kept(machine):
    switched_on(machine)
    to = {"AGENT_REPORT_TO": "https://fleet.invalid", "ALL_PROXY": "socks5h://me:secret@proxy:1"}
    ran = report(machine, **to)
    assert ran.code == 4
    assert "ALL_PROXY in the environment names a SOCKS proxy" in ran.out
    assert "Set ALL_PROXY to an HTTP proxy, as in http://HOST:PORT" in ran.out
    assert "secret" not in ran.out + ran.err
    assert len(answer_of(report(machine, "--show", "--json"))["reports"]) == 1


def test_an_hour_with_nothing_to_tell_writes_nothing_to_the_database(machine):
    switched_on(machine)
    with recording() as centre:
        on = {"AGENT_REPORT_TO": centre.url}
        assert report(machine, **on).code == 0
        before = (machine / FILE).stat().st_mtime_ns, (machine / FILE).read_bytes()
        assert report(machine, **on).code == 7
        assert centre.connections == 1
    assert ((machine / FILE).stat().st_mtime_ns, (machine / FILE).read_bytes()) == before


def test_a_centre_that_is_not_there_is_no_error_and_the_report_is_kept(machine):
    switched_on(machine)
    ran = report(machine, AGENT_REPORT_TO="http://127.0.0.1:1")
    assert ran.code == 4
    assert "error" not in ran.err
    assert "Connection refused" in ran.out
    assert answer_of(report(machine, "--show", "--json"))["waiting"] == 1


def test_what_a_busy_centre_asks_is_kept_to_and_said(machine):
    switched_on(machine)
    with recording((answers(503, b"", "Retry-After: 600"),)) as centre:
        assert report(machine, AGENT_REPORT_TO=centre.url).code == 4
        waits = report(machine, AGENT_REPORT_TO=centre.url)
        assert waits.code == 7
        assert "agent report --now" in waits.out
        assert len(centre.requests) == 1
        assert report(machine, "--now", AGENT_REPORT_TO=centre.url).code == 4
        assert len(centre.requests) == 2


@pytest.mark.parametrize(
    ("status", "code", "waiting"),
    [(202, 0, 0), (422, 0, 0), (401, 4, 1), (429, 4, 1), (503, 4, 1), (302, 4, 1)],
)
def test_the_exit_code_says_whether_it_arrived(machine, status, code, waiting):
    switched_on(machine)
    with recording((answers(status, b'{"accepted":true}'),)) as centre:
        ran = report(machine, "--json", AGENT_REPORT_TO=centre.url)
    assert ran.code == code
    assert answer_of(ran)["waiting"] == waiting
    assert len(centre.requests) == (2 if status == 422 else 1)  # once more, as schema 1


def test_an_address_that_cannot_be_used_is_a_mistake_of_the_configuration(machine):
    switched_on(machine)
    ran = report(machine, AGENT_REPORT_TO="http://fleet.example.org")
    assert ran.code == 2
    assert "hint: Set report_to" in ran.err
    for words in ("", "--show"):
        ran = report(machine, *words.split(), AGENT_REPORT_TO="https://me:secret@example.org")
        assert ran.code == (0 if words else 2)
        assert "secret" not in ran.out + ran.err


def test_the_site_switches_it_on_and_the_machine_off(machine):
    with recording() as centre:
        on = {"AGENT_REPORT": "on", "AGENT_REPORT_TO": centre.url}
        assert report(machine, "disable").code == 0
        assert report(machine, **on).code == 7
        assert centre.connections == 0
        assert report(machine, "enable", "--yes", AGENT_REPORT="off").code == 2
        assert report(machine, "enable", "--yes", **on).code == 0
        assert report(machine, **on).code == 0


def test_disable_drops_what_waits(machine):
    switched_on(machine)
    report(machine)
    found = answer_of(report(machine, "disable", "--json"))
    assert (found["outcome"], found["dropped"], found["waiting"]) == ("disabled", 1, 0)
    assert b'"dedupe"' not in (machine / FILE).read_bytes()


def test_an_export_is_what_show_prints(machine, tmp_path):
    switched_on(machine)
    shown = report(machine, "--show").out
    ran = report(machine, "--export", tmp_path / "reports.jsonl", "--json")
    assert answer_of(ran)["outcome"] == "exported"
    assert (tmp_path / "reports.jsonl").read_text() == shown
    assert report(machine, "--export", tmp_path / "more").code == 7


@pytest.mark.parametrize("words", [("--show", "--now"), ("--show", "enable"), ("--now", "disable")])
def test_options_that_exclude_each_other_are_refused(machine, words):
    assert report(machine, *words).code == 2


@pytest.mark.parametrize("command", ["", "enable", "disable"])
def test_help_ends_with_an_example(command):
    ran = agent("report", *command.split(), "--help")
    assert f"Example: agent report {command}".strip() in " ".join(ran.out.split())


def test_it_is_not_sent_while_the_machine_measures(machine):
    from agent.state.lock import hold

    switched_on(machine)
    with recording() as centre, hold(machine, "calibrate"):
        assert report(machine, AGENT_REPORT_TO=centre.url).code == 6
    assert centre.connections == 0


# Asking.


def typed(machine, words: bytes):
    """`agent report enable` on a terminal, with an answer typed; exit code and what it showed."""
    leader, follower = pty.openpty()
    command = [SCRIPT, "report", "enable", "--state-dir", machine]
    with subprocess.Popen(
        command, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        os.close(follower)
        os.write(leader, words)
        out, err = process.communicate(timeout=600)
    os.close(leader)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(("words", "on"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_enable_shows_the_bytes_and_asks(machine, words, on):
    shown = report(machine, "--show").out
    code, out, err = typed(machine, words)
    assert shown in err
    assert "[y/N]" in err
    assert code == (0 if on else 7)
    assert ("Reporting is on" in out) == on
    assert answer_of(report(machine, "--show", "--json"))["reporting"] == on


def test_enable_without_anyone_to_ask_needs_a_word(machine):
    ran = report(machine, "enable")
    assert ran.code == 2
    assert "--yes" in ran.err


# Watched by the kernel.

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def traced(tmp_path, *arguments, before=(), script=(SCRIPT,), **env):
    """Exit code of a command, and every socket call that it and its children made."""
    log = tmp_path / "trace"
    command = [
        *before,
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=network",
        "-e",
        "signal=none",
    ]
    command += ["-o", log, *script, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment(**env), capture_output=True, timeout=120, check=False
    )
    if b"ptrace" in done.stderr.lower():
        pytest.skip("this machine does not let processes be traced")
    return done.returncode, log.read_text()


def own_network():
    """A prefix that takes the network away; skips where the machine does not allow that."""
    command = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine does not let a process leave its network")
    return command


@needs_strace
@pytest.mark.parametrize("said", ["nothing", "disabled", "site"])
def test_while_reporting_is_off_no_command_opens_a_socket(machine, tmp_path, said):
    env = {"AGENT_REPORT_TO": "https://fleet.example.org"}
    if said == "disabled":
        report(machine, "disable")
    if said == "site":
        report(machine, "enable", "--yes")
        env["AGENT_REPORT"] = "off"
    for words, code in (("report", 7), ("report --show", 0), ("status", 0), ("report --now", 7)):
        found = traced(tmp_path, *words.split(), "--state-dir", machine, **env)
        assert found == (code, ""), words


@needs_strace
def test_the_trace_sees_a_socket_when_there_is_one(machine, tmp_path):
    switched_on(machine)
    with recording() as centre:
        code, calls = traced(tmp_path, "report", "--state-dir", machine, AGENT_REPORT_TO=centre.url)
    assert code == 0
    assert f"sin_port=htons({centre.port})" in calls


@needs_strace
def test_calibrate_works_without_any_network_and_opens_no_socket(machine, tmp_path):
    on = {"AGENT_REPORT": "on", "AGENT_REPORT_TO": "https://example.org"}
    words = ("calibrate", "--budget", "2s", "--state-dir", machine)
    assert traced(tmp_path, *words, before=own_network(), **on) == (0, "")
    assert report(machine, "--show", **on).code == 0  # it was on, and has something to send


# Canaries.

CANARY = "kanarienvogel"
HOST, USER, MACHINE = f"{CANARY}-host", f"{CANARY}-user", "ca11ab1e" * 4


def spellings(word: str) -> set[bytes]:
    """A word in the ways that it could be hidden in."""
    plain = word.encode()
    shifted = [base64.b64encode(b"x" * n + plain + b"yyy") for n in range(3)]
    inside = [code[4:-4] for code in shifted]
    return {plain, plain[::-1], binascii.hexlify(plain), quote(word).encode(), *inside}


def found_in(content: bytes, words) -> set[str]:
    """Which words are in the bytes: as they are, encoded, or compressed from any place on."""
    layers = [content]
    for at in range(len(content)):
        for bits in (15, -15, 31):
            try:
                unpacked = zlib.decompressobj(bits).decompress(content[at:], 1 << 20)
            except zlib.error:
                continue
            if len(unpacked) > 8:
                layers.append(unpacked)
    low = [layer.lower() for layer in layers]
    return {
        word
        for word in words
        if any(code.lower() in layer for code in spellings(word) for layer in low)
    }


@pytest.mark.parametrize(
    "hide",
    [
        bytes,
        base64.b64encode,
        binascii.hexlify,
        zlib.compress,
        lambda b: b"xx" + zlib.compress(b),
        lambda b: __import__("gzip").compress(b"some more " + b),
    ],
)
def test_the_search_for_canaries_finds_one(hide):
    content = b"POST / HTTP/1.1\r\n\r\n" + hide(f"a {CANARY} here".encode())
    assert found_in(content, {CANARY, "absent-bird"}) == {CANARY}


def test_no_canary_planted_anywhere_on_the_machine_is_in_what_is_sent(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to give the machine another name")
    home = tmp_path / f"{CANARY}-home"
    state, tools = home / f"{CANARY}-state", home / f"{CANARY}-tools"
    tools.mkdir(parents=True)
    (tools / f"{CANARY}-gcc").symlink_to(shutil.which("gcc") or "/usr/bin/gcc")
    source = home / f"{CANARY}.c"
    source.write_text(GEMM.replace("gemm", CANARY).replace("ni", f"{CANARY}_ni"))
    (home / "machine-id").write_text(MACHINE + "\n")
    script = tmp_path / "day.sh"
    size = f"--size {CANARY}_ni=32 --size nj=32 --size nk=32"
    script.write_text(
        f"""set -eu
hostname {HOST}
mount --bind {home}/machine-id /etc/machine-id || echo no machine-id
cd {home}
{SCRIPT} calibrate --budget 2s --compiler {tools}/{CANARY}-gcc
{SCRIPT} measure {source} {size} --schedule original
{SCRIPT} predict {source} {size} --schedule original --json > {home}/predicted
{SCRIPT} report enable --yes
{SCRIPT} report
hostname
"""
    )
    own = {"HOME": str(home), "USER": USER, "LOGNAME": USER, "HOSTNAME": HOST, "TMPDIR": str(home)}
    own |= {f"{CANARY}_VARIABLE": CANARY, "LANG": f"{CANARY}.UTF-8", "TZ": f"/{CANARY}"}
    with recording() as centre:
        env = {**environment(), **own, "AGENT_STATE_DIR": str(state), "AGENT_REPORT_TO": centre.url}
        done = subprocess.run(
            ["unshare", "-u", "-m", "sh", script],
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if "unshare failed" in done.stderr:
        pytest.skip("this machine does not let a process have a name of its own")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{HOST}\n")
    assert len(centre.requests) == 1
    planted = {CANARY, MACHINE, MACHINE[:16], *known_of_this_machine()}
    assert CANARY.encode() in (state / FILE).read_bytes()  # it was seen
    timed = json.loads((home / "predicted").read_text())["as_written"]
    planted |= {str(timed["seconds"])[:8]} if timed else set()  # busy machines time nothing
    assert found_in(centre.requests[0], planted) == set()


def known_of_this_machine() -> set[str]:
    """Words that name this very machine: its own name and identity, kernel, processor, kernels."""
    from agent.kernels.fixed_set import kernels
    from agent.measure.machine import read_machine

    machine, identity = read_machine(), Path("/etc/machine-id")
    words = {os.uname().nodename, machine.kernel, machine.model, machine.architecture}
    words |= {identity.read_text().strip()} if identity.is_file() else set()
    words |= {k.name for k in kernels() if len(k.name) > 4} | {"linux", "python", "requests"}
    return {word.lower() for word in words if len(word) > 3 and word not in __version__}


@needs_root
def test_root_writes_a_file_where_the_owner_of_the_state_may_not(
    once_calibrated, as_root, open_place
):
    theirs, stick = open_place / "state", open_place / "stick"
    shutil.copytree(once_calibrated, theirs)
    switched_on(theirs)
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    stick.mkdir(mode=0o755)
    ran = as_root("report", "--export", stick / "reports", "--state-dir", theirs)
    assert ran.code == 0, ran.err
    assert json.loads((stick / "reports").read_text())["schema"] == 2
    assert {path.stat().st_uid for path in theirs.rglob("*")} == {NOBODY.pw_uid}
