"""The publishing commands as a person types them, and the plain server."""

import contextlib
import getpass
import http.client
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.errors import Exit
from bundles import cli
from bundles.repository import pem
from bundles.repository.serve import Server, caching, kind_of, read_below, serving
from tests.bundles.repository.repositories import PASSPHRASE, place, put
from tests.conftest import environment
from tests.other_user import NOBODY, needs_root

SCRIPT = Path(sys.executable).with_name("bundles")
COMMANDS = (
    ["repo", "init"], ["repo", "check"], ["repo", "status"], ["repo", "renew"], ["add"],
    ["repo", "log"], ["promote"], ["withdraw"], ["timestamp"], ["rotate-key"], ["export"],
    ["serve"],
)  # fmt: skip


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run a command in this process; nobody is at the terminal."""
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    monkeypatch.setenv("BUNDLES_PASSPHRASE", PASSPHRASE)
    monkeypatch.delenv("BUNDLES_REPO", raising=False)
    monkeypatch.delenv("BUNDLES_KEYS", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bundles", *map(str, arguments)])
        code = cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, " ".join(out.split()) if "--json" not in arguments else out, err

    return call


@pytest.fixture
def ready(run, tmp_path, monkeypatch):
    """A repository of this hour, named in the environment."""
    directory = tmp_path / "repository"
    code, _, err = run("repo", "init", directory)
    assert code == Exit.OK, err
    monkeypatch.setenv("BUNDLES_REPO", str(directory))
    return directory


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(run, command) -> None:
    code, out, _ = run(*command, "--help")
    assert code == Exit.OK
    assert f"Example: bundles {' '.join(command)}" in out.replace("`", "")
    assert "--json" in out


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys; sys.argv = ['bundles', 'repo', '--help']\n"
        "from bundles.cli import main\n"
        "code = main()\n"
        "heavy = {'tuf', 'cryptography', 'numpy', 'requests', 'http.server'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_from_an_empty_directory_to_stable(run, tmp_path, versions, monkeypatch) -> None:
    code, out, _ = run("repo", "init", tmp_path / "r", "--keys", tmp_path / "stick")
    assert code == Exit.OK
    assert f"In {tmp_path}/stick are pilot.pem, root-1.pem" in out
    assert "2 of the 3 together replace any key" in out
    monkeypatch.setenv("BUNDLES_REPO", str(tmp_path / "r"))
    monkeypatch.setenv("BUNDLES_KEYS", str(tmp_path / "stick"))
    code, out, _ = run("add", versions[0], "--channel", "pilot", "--rollout", "10")
    assert code == Exit.OK
    assert "tiny@1 is the candidate of pilot" in out
    assert "about 10 % of its machines, chosen at random, are offered it" in out
    assert f"`bundles promote tiny@1 --to pilot --rollout 100 --repo {tmp_path}/r`" in out
    assert "Each takes it at its next `agent update`, unless it is worse there" in out
    assert "The others stay with what they have." in out
    code, out, _ = run("promote", "tiny", "--to", "pilot", "--rollout", "100")
    assert "tiny@1 is settled on pilot: all of its machines are offered it" in out
    assert "unless it is worse there" in out
    assert "every hour" not in out
    assert run("promote", "tiny", "--to", "stable", "--rollout", "50")[0] == Exit.OK
    code, out, _ = run("repo", "status")
    assert "pilot tiny@1 all machines" in out
    assert "stable tiny@1 50 % of machines" in out
    code, out, _ = run("withdraw", "tiny")
    assert "each machine that runs it goes back to the bundle it had before at its next" in out
    code, out, _ = run("withdraw", "tiny")
    assert (code, "is withdrawn from stable already; nothing changed" in out) == (Exit.OK, True)
    code, out, _ = run("timestamp")
    assert (code, "Signed anew: timestamp." in out) == (Exit.OK, True)
    code, out, _ = run("rotate-key", "pilot", "--new-key-in", tmp_path / "stick")
    assert "stick/pilot-2.pem is the new pilot key in place of pilot.pem" in out
    assert "Note: " not in out
    code, out, _ = run("rotate-key", "pilot")
    assert "Note: " in out
    assert "pilot-3.pem lies beside the online key: move it to those who release bundles" in out
    code, out, _ = run("repo", "renew", "stable")
    assert "stable is signed anew" in out
    code, out, _ = run("export", "--air-gap", "--valid", "400d", tmp_path / "usb")
    assert code == Exit.OK
    assert "agent update --from DIRECTORY" in out
    code, out, _ = run("repo", "check", tmp_path / "usb")
    assert (code, "is in order" in out) == (Exit.OK, True)


def test_a_dry_run_says_what_would_be_and_changes_nothing(run, ready, versions) -> None:
    run("add", versions[0])
    before = run("repo", "status", "--json")[1]
    code, out, _ = run("promote", "tiny", "--to", "stable", "--dry-run")
    assert (code, "Nothing is changed yet." in out) == (Exit.OK, True)
    assert "about 10 % of its machines" in out
    assert run("withdraw", "tiny", "--dry-run")[0] == Exit.OK
    assert run("repo", "status", "--json")[1] == before


@pytest.mark.parametrize(("typed", "done"), [(b"n\n", False), (b"\x04", False), (b"y\n", True)])
def test_in_a_terminal_it_says_what_will_be_and_asks(run, ready, versions, typed, done) -> None:
    run("add", versions[0])
    child, terminal = pty.fork()
    if child == 0:
        command = ["bundles", "withdraw", "tiny", "--repo", str(ready)]
        os.execve(SCRIPT, command, environment(BUNDLES_PASSPHRASE=PASSPHRASE))
    with os.fdopen(terminal, "r+b", buffering=0) as person:
        shown = b""
        while b"[y/N]" not in shown:
            shown += person.read(4096)
        person.write(typed)
        with contextlib.suppress(OSError):  # its other end is closed
            while part := person.read(4096):
                shown += part
    _, ended = os.waitpid(child, 0)
    assert b"Nothing is changed yet." in shown
    assert os.waitstatus_to_exitcode(ended) == (Exit.OK if done else Exit.NOTHING_TO_DO)
    (pilot, _) = json.loads(run("repo", "status", "--json")[1])["channels"]
    assert bool(pilot["withdrawn"]) == done


def test_the_log_says_who_changed_what_and_why(run, ready, versions) -> None:
    run("add", versions[0])
    run("withdraw", "tiny", "--reason", "slower on  presses")
    code, out, _ = run("repo", "log", "--json")
    assert code == Exit.OK
    answer = json.loads(out)
    assert set(answer) == {"schema", "action", "repository", "changes", "unreadable"}
    withdrawn, added = answer["changes"]
    assert (withdrawn["action"], withdrawn["reason"]) == ("withdraw", "slower on presses")
    assert (added["action"], added["bundle"], added["reason"]) == ("add", "tiny@1", "")
    assert getpass.getuser() in run("repo", "log")[1]


def test_a_stick_without_a_bundle_is_refused(run, ready, tmp_path) -> None:
    code, _, err = run("export", "--air-gap", tmp_path / "usb")
    assert code == Exit.USAGE
    assert "no channel offers a bundle" in err
    assert not (tmp_path / "usb").exists()


STANDING = {"schema", "action", "repository", "roles", "notes"}
SHAPES = (
    (["repo", "status", "REPO"], (STANDING - {"action"})
     | {"channels", "trusted_root", "trusted_root_sha256"}),
    (["add", "BUNDLE"], STANDING | {"changed", "bundle", "channels"}),
    (["promote", "tiny", "--to", "stable"], STANDING | {"changed", "bundle", "channels"}),
    (["withdraw", "tiny"], STANDING | {"changed", "bundle", "channels"}),
    (["timestamp"], STANDING | {"renewed"}),
    (["rotate-key", "online"], STANDING | {"role", "old", "new"}),
    (["repo", "renew", "pilot"], STANDING | {"role"}),
    (["export", "OUT"], STANDING | {"directory", "air_gap", "files", "bytes", "holds_until"}),
    (["repo", "check"], {"schema", "action", "directory", "ok", "problems", "notes", "roles",
                         "channels"}),
)  # fmt: skip


def test_json_has_a_stable_shape(run, ready, versions, tmp_path) -> None:
    words = {"REPO": ready, "BUNDLE": versions[0], "OUT": tmp_path / "out"}
    for command, shape in SHAPES:
        code, out, _ = run(*(words.get(word, word) for word in command), "--json")
        answer = json.loads(out)
        assert (code, set(answer), answer["schema"]) == (Exit.OK, shape, 1), command
        assert {frozenset(note) for note in answer["notes"]} <= {frozenset(("code", "message"))}
        for role in answer["roles"]:
            assert set(role) == {"role", "version", "expires", "days_left", "threshold", "keys"}


def test_init_as_json_names_the_root_that_machines_must_trust(run, tmp_path) -> None:
    code, out, _ = run(
        "repo", "init", tmp_path / "r", "--root-keys", "1", "--threshold", "1", "--json"
    )
    answer = json.loads(out)
    assert code == Exit.OK
    assert Path(answer["trusted_root"]) == tmp_path / "r" / "public" / "metadata" / "1.root.json"
    assert len(answer["trusted_root_sha256"]) == 64
    assert answer["keys"] == str(tmp_path / "r" / "keys")


def test_a_failure_is_an_object_too_with_json(run, ready) -> None:
    code, out, err = run("promote", "nothing", "--to", "stable", "--json")
    error = json.loads(out)["error"]
    assert code == error["exit_code"] == Exit.USAGE
    assert "pilot has no bundle called nothing" in error["message"]
    assert "error: pilot has no bundle" in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["timestamp"], "which repository?"),
        (["repo", "check"], "which repository?"),
        (["serve"], "which repository?"),
        (["timestamp", "--repo", "."], "not a bundle repository"),
        (["repo", "check", "nowhere"], "not a bundle repository"),
        (["serve", "nowhere"], "holds no bundle repository"),
        (["repo", "init", "r", "--threshold", "4"], "4 of 3 root keys cannot be"),
        (["add", "nowhere", "--repo", "."], "not a bundle repository"),
        (["export", "x", "--valid", "3d", "--repo", "."], "signatures of its own"),
        (["export", "x", "--air-gap", "--valid", "soon", "--repo", "."], "is not a time"),
    ],
)
def test_mistakes_are_told_in_a_line_and_a_hint(run, command, words) -> None:
    code, out, err = run(*command)
    assert (code, out) == (Exit.USAGE, "")
    assert words in err
    assert "hint: " in err


@pytest.mark.parametrize("command", [(), ("repo",)], ids=["bundles", "bundles repo"])
def test_without_a_subcommand_the_help_is_all_that_is_said(run, command) -> None:
    code, out, err = run(*command)
    assert code == Exit.USAGE
    assert out.startswith("Usage: ")
    assert err == ""


def test_the_daily_unit_uploads_even_where_a_role_has_expired() -> None:
    """`timestamp` exits with 5 then, after which systemd starts no further ExecStart."""
    how_to = Path(__file__).parents[3] / "docs" / "how-to" / "publish-bundles.md"
    unit = how_to.read_text().split("bundles-timestamp.service\n")[1].split("```")[0]
    lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    assert unit.count("ExecStart=") == 1
    assert lines["ExecStart"].endswith("bundles timestamp")
    assert lines["ExecStopPost"].endswith("upload-bundles")
    assert "TimeoutStopSec" in lines


def test_keys_without_passphrase_say_what_to_give(run, ready, versions, monkeypatch) -> None:
    monkeypatch.delenv("BUNDLES_PASSPHRASE")
    code, _, err = run("add", versions[0])
    assert code == Exit.USAGE
    assert "pilot.pem is encrypted, and there is no terminal to ask on" in err
    file = ready.parent / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    assert run("add", versions[0], "--passphrase-file", file)[0] == Exit.OK


def test_a_check_that_finds_something_fails_as_a_machine_would(run, ready) -> None:
    path = ready / "public" / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    code, out, _ = run("repo", "check")
    assert code == Exit.NOT_TRUSTED
    assert "NOT in order" in out
    assert "Problem:" in out


def test_a_directory_in_which_nothing_can_be_written_is_told(run, tmp_path) -> None:
    (tmp_path / "file").touch()
    code, _, err = run("repo", "init", tmp_path / "file" / "r")
    assert code == Exit.USAGE
    assert "cannot be made" in err


# serve


@pytest.fixture
def served(repository, versions):
    put(place(repository), versions[0], "pilot")
    with serving(Server(repository / "public", "127.0.0.1", 0)) as server:
        yield server


def ask(server: Server, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    where = urlsplit(server.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    connection.close()
    return found


def test_files_are_served_as_they_are(served, public) -> None:
    for path in (p for p in public.rglob("*") if p.is_file()):
        status, body, headers = ask(served, f"/{path.relative_to(public)}")
        assert (status, body) == (200, path.read_bytes())
        assert headers["content-length"] == str(len(body))
        fleeting = path.name in ("timestamp.json", "1.root.json")
        assert headers["cache-control"] == (
            "max-age=60" if fleeting else "public, max-age=31536000, immutable"
        )


@pytest.mark.parametrize(
    "path",
    [
        "/", "/metadata", "/metadata/", "/targets/pilot/", "/keys/online.pem",
        "/../keys/online.pem", "/metadata/../../keys/online.pem",
        "/metadata/%2e%2e/%2e%2e/keys/online.pem", "/metadata//../../keys/online.pem",
        "//etc/passwd",
        "/metadata/.1.root.json.new",
        "/metadata/link", "/metadata/2.root.json", "/metadata/\\..\\x", "/targets/pilot/folder",
    ],
)  # fmt: skip
def test_nothing_else_is_served(served, public, path) -> None:
    (public / "metadata" / "link").symlink_to("/etc/passwd")
    (public / "metadata" / ".1.root.json.new").touch()
    (public / "targets" / "pilot" / "folder").mkdir()
    status, body, headers = ask(served, path)
    assert (status, body) == (404, b"not found\n")
    assert headers["cache-control"] == "max-age=60"  # a new root's absence is soon forgotten


def test_head_sends_no_body_and_other_methods_are_refused(served) -> None:
    status, body, headers = ask(served, "/metadata/timestamp.json", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 100
    assert ask(served, "/metadata/timestamp.json", "DELETE")[0] == 501


def test_requests_and_bytes_are_counted(served, public) -> None:
    ask(served, "/metadata/timestamp.json")
    ask(served, "/metadata/timestamp.json")
    ask(served, "/metadata/9.root.json")
    tally = served.tally.to_json()
    assert tally["requests"] == 3
    assert {(x["file"], x["status"]): x["requests"] for x in tally["by_file"]} == {
        ("timestamp.json", 200): 2,
        ("N.root.json", 404): 1,
    }
    body = 2 * (public / "metadata" / "timestamp.json").stat().st_size
    assert body < tally["bytes"] < body + 3 * 400


def test_names_of_files_say_their_kind() -> None:
    assert kind_of("/metadata/12.root.json") == "N.root.json"
    assert kind_of(f"/targets/pilot/{'a' * 64}.settled.bundle") == "DIGEST.settled.bundle"
    assert kind_of("/favicon.ico") == "other"
    assert caching("/metadata/2.root.json") == caching("/metadata/timestamp.json") == "max-age=60"


def test_a_pipe_is_no_file(tmp_path) -> None:
    (tmp_path / "metadata").mkdir()
    os.mkfifo(tmp_path / "metadata" / "pipe")
    assert read_below(tmp_path, "/metadata/pipe") is None


@needs_root
def test_a_file_that_is_there_and_cannot_be_read_is_not_called_absent(served) -> None:
    os.seteuid(NOBODY.pw_uid)
    try:
        status, body, _ = ask(served, "/metadata/1.root.json")
    finally:
        os.seteuid(0)
    assert (status, b"not found" in body) == (503, False)


def test_serving_with_few_open_files_allowed_is_refused_with_the_limit(ready) -> None:
    few = ["prlimit", "--nofile=150:150", SCRIPT]
    ran = subprocess.run([*few, "serve", ready], capture_output=True, text=True, check=False)
    assert ran.returncode == Exit.USAGE
    assert "only 150 files may be open at once (RLIMIT_NOFILE)" in ran.stderr
    assert "ulimit -n" in ran.stderr


def test_a_port_that_is_taken_is_told(run, ready) -> None:
    with serving(Server(ready / "public", "127.0.0.1", 0)) as server:
        port = urlsplit(server.url).port
        code, _, err = run("serve", ready, "--port", port)
    assert code == Exit.USAGE
    assert "cannot be listened on" in err
    assert "--port" in err


@pytest.mark.parametrize(
    ("number", "host"),
    [(signal.SIGINT, "127.0.0.1"), (signal.SIGTERM, "::1"), (signal.SIGHUP, "localhost")],
)
def test_serve_ends_cleanly_and_says_what_it_sent(repository, tmp_path, number, host) -> None:
    process = subprocess.Popen(
        [SCRIPT, "serve", repository, "--host", host, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        url = process.stderr.readline().split(" at ")[1].split()[0]
        where = urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
        connection.request("GET", "/metadata/timestamp.json")
        assert (
            connection.getresponse().read()
            == (repository / "public" / "metadata" / "timestamp.json").read_bytes()
        )
        process.send_signal(number)  # while a client holds its connection open
        out, err = process.communicate(timeout=20)
        connection.close()
    finally:
        process.kill()
    assert process.returncode == Exit.OK
    assert "Traceback" not in err
    assert json.loads(out)["requests"] == 1


def test_an_export_is_served_like_a_repository(repository, tmp_path) -> None:
    shutil.copytree(repository / "public", tmp_path / "www")
    with serving(Server(tmp_path / "www", "127.0.0.1", 0)) as server:
        assert ask(server, "/metadata/1.root.json")[0] == 200


def test_the_agent_takes_what_is_served(served, repository, versions, tmp_path) -> None:
    from agent.update.floors import NO_FLOORS
    from agent.update.source import open_source
    from agent.update.trust import Trust, refresh
    from bundles.repository.fitness import examine_archive
    from tests.bundles.repository.repositories import NOW, first_root

    source, root = open_source(served.url), first_root(repository)
    session = refresh(source, Trust(root, "pilot", tmp_path / "c", NO_FLOORS, NOW.timestamp()))
    offer = session.trusted.offers["settled"]
    assert examine_archive(session.download(offer), "it").version == "1"
