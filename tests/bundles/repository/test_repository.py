"""The repository on the disk: keys, journal, lock, and publishers that die."""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from agent.errors import BusyError, InputError
from bundles.repository import journal, passphrases, pem, rotation
from bundles.repository.check import repository_status
from bundles.repository.guard import locked
from bundles.repository.journal import FileChange, RepositoryError
from bundles.repository.keys import Keyring
from bundles.repository.making import make_repository
from bundles.repository.passphrases import Passphrases, SigningKeyError
from bundles.repository.publisher import publisher_at
from bundles.repository.renewal import renew_online, renew_role
from bundles.repository.repository import Repository
from tests.bundles.repository.repositories import (
    NOW,
    PASSPHRASE,
    Client,
    first_root,
    later,
    place,
    put,
    signed,
)

OFFLINE_KEYS = ("root-1", "root-2", "root-3", "targets", "pilot", "stable")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Keys


def test_keys_of_people_are_encrypted_and_only_their_owner_may_read_any(made_repository) -> None:
    folder = made_repository / "keys"
    assert mode(folder) == 0o700
    assert {p.name for p in folder.iterdir()} == {f"{k}.pem" for k in (*OFFLINE_KEYS, "online")}
    assert {mode(p) for p in folder.iterdir()} == {0o600}
    for name in OFFLINE_KEYS:
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in (folder / f"{name}.pem").read_bytes()
    assert b"ENCRYPTED" not in (folder / "online.pem").read_bytes()


def test_what_is_served_can_be_read_by_a_web_server_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    before = os.umask(0o077)
    try:
        make_repository(place(tmp_path / "r"), 1, 1)
    finally:
        os.umask(before)
    served = [p for p in (tmp_path / "r" / "public").rglob("*") if p.is_file()]
    assert {mode(p) for p in served} == {0o644}
    assert mode(tmp_path / "r" / "public" / "metadata") == 0o755
    assert not [p for p in served if p.suffix == ".pem"]


def test_a_key_costs_a_guesser_what_owasp_asks_and_openssl_reads_it(tmp_path) -> None:
    ring = Keyring([tmp_path], Passphrases(None, {"BUNDLES_PASSPHRASE": PASSPHRASE}))
    made = ring.make("pilot.pem", tmp_path, encrypted=True)
    ring.save()
    pem = (tmp_path / "pilot.pem").read_bytes()
    assert CryptoSigner(load_pem_private_key(pem, PASSPHRASE.encode())).public_key.keyid == (
        made.public_key.keyid
    )
    if shutil.which("openssl"):
        command = ["openssl", "asn1parse", "-in", tmp_path / "pilot.pem"]
        parsed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "scrypt" in parsed
        assert ":4000" in parsed  # N = 2**14
        opening = ["openssl", "pkey", "-noout", "-in", tmp_path / "pilot.pem"]
        words = ["-passin", f"pass:{PASSPHRASE}"]
        subprocess.run([*opening, *words], check=True)


def test_a_key_is_on_the_disk_only_after_save_and_never_replaces_one(tmp_path, monkeypatch):
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    ring = Keyring([tmp_path], Passphrases(None, {"BUNDLES_PASSPHRASE": PASSPHRASE}))
    ring.make("stable.pem", tmp_path, encrypted=True)
    assert not list(tmp_path.iterdir())
    ring.save()
    kept = (tmp_path / "stable.pem").read_bytes()
    with pytest.raises(SigningKeyError, match="never replaced"):
        ring.make("stable.pem", tmp_path, encrypted=True)
    assert (tmp_path / "stable.pem").read_bytes() == kept


def test_a_new_key_takes_a_number_above_all_that_are_known(tmp_path, monkeypatch) -> None:
    ring = Keyring([tmp_path], Passphrases())
    assert ring.free_name("root", []) == "root-1.pem"
    for name in ("root-7.pem", "targets.pem", "root-x.pem", "notes.txt"):
        (tmp_path / name).touch()
    assert ring.free_name("root", []) == "root-8.pem"
    assert ring.free_name("targets", []) == "targets-2.pem"


# Passphrases


def test_a_wrong_passphrase_is_told_and_changes_nothing(repository) -> None:
    before = first_state(repository)
    with pytest.raises(SigningKeyError, match=r"pilot\.pem cannot be decrypted: wrong passphrase"):
        renew_role(place(repository, said="not the passphrase"), "pilot")
    assert first_state(repository) == before


def test_without_passphrase_and_terminal_the_error_says_what_to_give(repository) -> None:
    with pytest.raises(SigningKeyError, match="no terminal to ask on") as caught:
        renew_role(place(repository, said=None), "pilot")
    assert "--passphrase-file" in caught.value.hint
    assert "BUNDLES_PASSPHRASE" in caught.value.hint


def test_a_passphrase_file_comes_before_the_environment_and_each_line_is_tried(repository) -> None:
    file = repository.parent / "passphrases"
    file.write_text(f"of somebody else\n{PASSPHRASE}\n")
    said = Passphrases(file, {"BUNDLES_PASSPHRASE": "wrong"})
    renew_role(publisher_at(repository, NOW, said), "pilot")


def test_an_empty_passphrase_file_is_an_error(repository, tmp_path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match="holds no passphrase"):
        renew_role(publisher_at(repository, NOW, Passphrases(tmp_path / "empty")), "pilot")
    with pytest.raises(InputError, match="cannot be read"):
        renew_role(publisher_at(repository, NOW, Passphrases(tmp_path / "no")), "pilot")


def test_a_person_is_asked_three_times_and_once_for_several_keys(repository) -> None:
    asked = []

    def right(question: str) -> str:
        asked.append(question)
        return PASSPHRASE

    said = Passphrases(None, {}, right)
    renew_role(publisher_at(repository, NOW, said), "root")
    assert len(asked) == 1
    wrong = Passphrases(None, {}, lambda q: asked.append(q) or "wrong")
    with pytest.raises(SigningKeyError):
        renew_role(publisher_at(repository, NOW, wrong), "pilot")
    assert len(asked) == 1 + passphrases.TRIES


def test_new_keys_ask_twice_and_an_empty_answer_repeats_the_last() -> None:
    answers = iter(["first words", "first words", "", "other words", "other wordz"])
    said = Passphrases(None, {}, lambda _: next(answers))
    assert said.for_new("root-1.pem") == b"first words"
    assert said.for_new("root-2.pem") == b"first words"
    with pytest.raises(SigningKeyError, match="differ"):
        said.for_new("root-3.pem")


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(SigningKeyError, match="too short"):
        Passphrases(None, {"BUNDLES_PASSPHRASE": "seven77"}).for_new("root-1.pem")


# Keys that are elsewhere


def test_keys_may_be_moved_away_and_named(repository, tmp_path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (repository / "keys" / "pilot.pem").rename(stick / "pilot.pem")
    with pytest.raises(SigningKeyError) as caught:
        renew_role(place(repository), "pilot")
    assert "signing pilot needs the key pilot.pem" in caught.value.message
    assert str(repository / "keys") in caught.value.message
    assert "--keys DIR" in caught.value.hint
    renew_role(place(repository, keys=[stick]), "pilot")
    assert signed(repository, "2.pilot.json")["version"] == 2


def test_another_key_under_the_name_is_refused(repository) -> None:
    folder = repository / "keys"
    (folder / "stable.pem").replace(folder / "pilot.pem")
    with pytest.raises(SigningKeyError, match="not the pilot key that the repository trusts"):
        renew_role(place(repository), "pilot")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_file_is_told(repository, content: bytes) -> None:
    path = repository / "keys" / "online.pem"
    path.write_bytes(content)
    with pytest.raises(SigningKeyError, match="not an ed25519 key"):
        renew_online(place(repository))


def test_an_online_key_that_others_may_read_is_refused(repository) -> None:
    path = repository / "keys" / "online.pem"
    path.chmod(0o644)
    with pytest.raises(SigningKeyError, match="others may read it") as caught:
        renew_online(place(repository))
    assert "chmod 600" in caught.value.hint


def test_too_few_root_keys_are_told_by_name(repository, tmp_path) -> None:
    for name in ("root-2.pem", "root-3.pem"):
        (repository / "keys" / name).rename(tmp_path / name)
    before = first_state(repository)
    with pytest.raises(SigningKeyError) as caught:
        renew_role(place(repository), "root")
    assert "needs 2 of the 3" in caught.value.message
    assert "found 1" in caught.value.message
    assert "root-2.pem or root-3.pem" in caught.value.message
    assert first_state(repository) == before


# Making one


def test_a_new_repository_is_taken_by_a_client_and_offers_nothing(repository, client) -> None:
    assert client.offers(repository / "public") == {}


def test_the_first_version_is_signed_as_the_spec_says(repository) -> None:
    root = signed(repository, "1.root.json")
    assert root["consistent_snapshot"] is True
    assert root["roles"]["root"]["threshold"] == 2
    assert len(root["roles"]["root"]["keyids"]) == 3
    assert root["roles"]["snapshot"]["keyids"] == root["roles"]["timestamp"]["keyids"]
    assert root["expires"] == "2029-02-28T12:00:00Z"
    delegations = signed(repository, "1.targets.json")["delegations"]["roles"]
    assert [(r["name"], r["paths"], r["terminating"]) for r in delegations] == [
        ("pilot", ["pilot/*"], True),
        ("stable", ["stable/*"], True),
    ]
    assert signed(repository, "1.targets.json")["targets"] == {}
    assert signed(repository, "1.pilot.json")["expires"] == "2028-02-29T12:00:00Z"
    stamp = signed(repository, "timestamp.json")
    assert (stamp["signed_at"], stamp["expires"]) == (
        "2026-03-01T12:00:00Z",
        "2026-03-08T12:00:00Z",
    )
    assert signed(repository, "1.snapshot.json")["expires"] == "2026-03-31T12:00:00Z"


def test_lengths_and_digests_of_metadata_are_signed_above_them(repository) -> None:
    meta = signed(repository, "1.snapshot.json")["meta"]
    assert set(meta) == {"targets.json", "pilot.json", "stable.json"}
    for entry in (*meta.values(), signed(repository, "timestamp.json")["meta"]["snapshot.json"]):
        assert set(entry) == {"version", "length", "hashes"}


def test_a_directory_that_is_taken_stays_as_it_is(tmp_path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RepositoryError, match="is there already"):
        make_repository(place(tmp_path), 1, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(("count", "threshold"), [(2, 3), (0, 0), (1, 0), (21, 2)])
def test_numbers_of_root_keys_that_cannot_be_are_refused(tmp_path, count, threshold) -> None:
    with pytest.raises(InputError, match="root keys cannot be"):
        make_repository(place(tmp_path / "r"), count, threshold)


def test_what_a_killed_init_left_is_no_hindrance(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    (tmp_path / ".r.init" / "keys").mkdir(parents=True)
    (tmp_path / ".r.init" / "keys" / "root-1.pem").write_text("half")
    (tmp_path / "r").mkdir()  # empty: allowed
    make_repository(place(tmp_path / "r"), 1, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r"]


def test_keys_can_be_made_on_a_stick_and_never_touch_the_disk_of_the_repository(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    make_repository(place(tmp_path / "r"), 2, 1, tmp_path / "stick")
    assert [p.name for p in (tmp_path / "r" / "keys").iterdir()] == ["online.pem"]
    assert len(list((tmp_path / "stick").iterdir())) == 5


def test_commands_on_what_is_no_repository_say_so(tmp_path) -> None:
    with pytest.raises(RepositoryError, match="not a bundle repository"):
        renew_online(place(tmp_path))
    assert not list(tmp_path.iterdir())


def test_damaged_metadata_are_told(repository) -> None:
    (repository / "public" / "metadata" / "1.snapshot.json").write_text("{")
    with pytest.raises(RepositoryError, match="snapshot are damaged"):
        renew_online(place(repository))
    (repository / "public" / "metadata" / "1.snapshot.json").unlink()
    with pytest.raises(RepositoryError, match="is missing"):
        renew_online(place(repository))


def test_a_repository_that_lost_its_timestamp_does_not_begin_again_at_version_1(repository) -> None:
    (repository / "public" / "metadata" / "timestamp.json").unlink()
    with pytest.raises(RepositoryError, match=r"timestamp\.json is missing"):
        renew_online(place(repository))
    assert not (repository / "public" / "metadata" / "timestamp.json").exists()


# One publisher at a time


def test_a_second_publisher_waits_and_then_gives_up(repository) -> None:
    with (repository / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError), locked(repository, wait_s=0.1):
            pass
    with locked(repository, wait_s=0):
        pass


# The journal


@pytest.mark.parametrize(
    "path", ["../keys/online.pem", "/etc/passwd", "metadata/../../x", "targets/a/b/c", "x.json", ""]
)
def test_nothing_is_written_outside_public(tmp_path, path: str) -> None:
    with pytest.raises(RepositoryError, match="not a file of a repository"):
        journal.commit(tmp_path, [FileChange(path, b"x")])
    (tmp_path / "journal.json").write_text(json.dumps([{"path": path, "content": "eA=="}]))
    with pytest.raises(RepositoryError, match="not a file of a repository"):
        journal.recover(tmp_path)


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '[{"path": "metadata/a"}]'])
def test_a_damaged_journal_is_told(tmp_path, content: str) -> None:
    (tmp_path / "journal.json").write_text(content)
    if content == "{}":  # nothing in it: nothing to do
        assert journal.recover(tmp_path)
        return
    with pytest.raises(RepositoryError, match="is damaged"):
        journal.recover(tmp_path)


def test_files_appear_in_an_order_that_clients_may_watch(repository, versions, monkeypatch) -> None:
    seen = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(Path(b).name), real(a, b)))
    put(place(repository), versions[0], "pilot")
    rotation.replace_key(place(repository), "targets")
    archive = next(n for n in seen if n.endswith(".settled.bundle"))
    assert seen == [
        "journal.json", archive, "2.pilot.json", "2.snapshot.json", "timestamp.json",
        "journal.json", "2.targets.json", "3.snapshot.json", "timestamp.json", "2.root.json",
    ]  # fmt: skip


def first_state(repository: Path) -> dict[str, bytes]:
    """Everything that is served."""
    public = repository / "public"
    return {str(p.relative_to(public)): p.read_bytes() for p in public.rglob("*") if p.is_file()}


def named_for_good(repository: Path) -> dict[str, bytes]:
    """What has its version or digest in its name: a cache may keep it for ever."""
    fleeting = ("timestamp.json", ".new")
    return {k: v for k, v in first_state(repository).items() if not k.endswith(fleeting)}


# Publishers that die

KILLED = """
import os, resource, shutil, signal, sys
from pathlib import Path
from bundles.repository import pem
from bundles.repository import publish
from bundles.repository import rotation
from bundles.repository.journal import RepositoryError
from tests.bundles.repository.repositories import later, place, put
pem.SCRYPT_N = 2
source, out, versions = map(Path, sys.argv[1:4])
where = lambda at: later(place(at), hours=1)
operations = {
    "add": lambda at: put(where(at), versions / "2", "pilot", 100),
    "withdraw": lambda at: publish.withdraw_bundle(where(at), "tiny@1"),
    "rotate": lambda at: rotation.replace_key(where(at), "online"),
    "rotate-root": lambda at: rotation.replace_key(where(at), "root"),
    "rotate-pilot": lambda at: rotation.replace_key(where(at), "pilot"),
}

def dying(real, left):
    # Before a call is after the one before it.
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call

for name, operation in operations.items():
    moment = 0
    while True:
        moment += 1
        at = out / f"{name}-{moment}"
        shutil.copytree(source, at)
        child = os.fork()
        if child == 0:
            left = [moment]
            os.replace, os.fsync = dying(os.replace, left), dying(os.fsync, left)
            os.unlink = dying(os.unlink, left)
            operation(at)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            shutil.rmtree(at)
            print(name, moment - 1)
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        if moment > 200:
            sys.exit("it never ends")

for size in (0, 900, 4_000):  # as a full disk: files end at this many bytes
    at = out / f"full-{size}"
    shutil.copytree(source, at)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            operations["add"](at)
        except RepositoryError as error:
            os._exit(3)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3, status
"""


@pytest.fixture(scope="module")
def killed(made_repository, versions, tmp_path_factory):
    """Repositories whose publisher was killed at every moment, by operation; before and after."""
    folder = tmp_path_factory.mktemp("killed")
    source = folder / "source"
    shutil.copytree(made_repository, source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pem, "SCRYPT_N", 2)
        put(place(source), versions[0], "pilot")
    (folder / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, source, folder / "out", versions[0].parent],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    moments = dict(line.split() for line in done.stdout.splitlines())
    return source, folder / "out", {name: int(count) for name, count in moments.items()}


AFTER = {
    "add": {"pilot/settled": "tiny@2"},
    "withdraw": {},
    "rotate": {"pilot/settled": "tiny@1"},
    "rotate-root": {"pilot/settled": "tiny@1"},
    "rotate-pilot": {"pilot/settled": "tiny@1"},
}
BEFORE = {"pilot/settled": "tiny@1"}


@pytest.mark.parametrize("operation", AFTER)
def test_a_publisher_killed_at_any_moment_leaves_the_old_or_the_new(
    killed, operation, tmp_path, versions
) -> None:
    source, out, moments = killed
    root = first_root(source)
    old = Client(tmp_path / "old", root)
    assert old.offers(source / "public") == BEFORE
    assert moments[operation] > 5
    seen = []
    for moment in range(1, moments[operation] + 1):
        at = out / f"{operation}-{moment}"
        watching = Client(tmp_path / f"old-{moment}", root)
        shutil.copytree(old.cache, watching.cache, symlinks=True)
        # Nobody has repaired anything yet.
        found = watching.offers(at / "public", later(place(at), hours=2).now)
        assert found == Client(tmp_path / f"new-{moment}", root).offers(at / "public")
        assert found in (BEFORE, AFTER[operation])
        seen.append(found)
        # The next command: whole, not older than what was seen, and nothing left over.
        appeared = named_for_good(at)
        put(later(place(at), hours=2), versions[2], "stable")
        assert appeared.items() <= named_for_good(at).items()
        again = watching.offers(at / "public", later(place(at), hours=3).now)
        assert again.pop("stable/settled") == "tiny@3"
        assert again in (found, AFTER[operation])
        assert not (at / "journal.json").exists()
        assert repository_status(place(at))["notes"] == []
    assert seen[0] == BEFORE
    assert seen[-1] == AFTER[operation]


@pytest.mark.parametrize("size", [0, 900, 4_000])
def test_a_full_disk_leaves_the_old_and_the_next_command_works(
    killed, size, tmp_path, versions, monkeypatch
) -> None:
    source, out, _ = killed
    at, root = out / f"full-{size}", first_root(source)
    assert Client(tmp_path / "a", root).offers(at / "public") == BEFORE
    put(later(place(at), hours=2), versions[1], "pilot")
    found = Client(tmp_path / "b", root).offers(at / "public", later(place(at), hours=2).now)
    assert found == AFTER["add"]


def test_what_was_begun_is_told_until_it_is_finished(repository, versions, monkeypatch) -> None:
    def dies(directory: Path) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "recover", dies)
        with pytest.raises(KeyboardInterrupt):
            put(place(repository), versions[0], "pilot")
    (note,) = repository_status(place(repository))["notes"]
    assert note["code"] == "interrupted"
    renew_online(place(repository))
    assert repository_status(place(repository))["notes"] == []
    assert Repository(repository, NOW).targets("pilot").version == 2
