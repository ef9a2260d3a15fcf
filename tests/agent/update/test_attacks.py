"""Every attack of TUF's security model, from outside: the real command, and a real web server.

A machine has followed the centre through two bundles; the second is in force. Someone then serves
it something else, and whatever that is, the second stays in force, whole; and when the real
repository answers again, its third bundle is offered.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from agent.errors import UnreachableError
from agent.update import source
from bundles.repository import rotation
from bundles.repository.renewal import renew_role
from tests.agent.update.attacker import NEVER, STRANGER, Mirror, end_in, unsigned
from tests.agent.update.followed import (
    Machine,
    World,
    made_world,
    refused,
    the_third_is_offered,
    unharmed,
)
from tests.agent.update.published import copied, new_centre
from tests.agent.update.servers import answering, serving

DAY_S = 86_400


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return made_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def machine(world, tmp_path) -> Machine:
    shutil.copytree(world.machine.state, tmp_path / "machine", symlinks=True)
    return Machine(tmp_path / "machine", world.now.root)


Bend = Callable[[World, Path], Mirror]
ATTACKS: list = []


def attack(words: str, *, code: int = 5, stolen: bool = False) -> Callable[[Bend], Bend]:
    """Register an attack: what the command must say, and its exit code.

    ``stolen``: the attacker holds the online key; only a new one ends what he can do.
    """

    def keep(bend: Bend) -> Bend:
        name = bend.__name__.replace("_", "-")
        ATTACKS.append(pytest.param(bend, code, words, stolen, id=name))
        return bend

    return keep


# Arbitrary software: other bytes, or signed by who may not.


@attack("Observed hash")
def other_bytes_of_the_same_length(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    for path in mirror.targets():
        path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    return mirror


@attack("does not match expected length")
def a_bundle_cut_short(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    for path in mirror.targets():
        path.write_bytes(path.read_bytes()[:-512])
    return mirror


@attack("longer than")
def a_bundle_with_more_behind_it(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    for path in mirror.targets():
        path.write_bytes(path.read_bytes() + bytes(512))
    return mirror


@attack("length 0")
def an_empty_bundle(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    for path in mirror.targets():
        path.write_bytes(b"")
    return mirror


@attack("Observed hash")
def an_older_bundle_under_the_name_of_the_new_one(world, tmp) -> Mirror:
    mirror, old = world.mirror("later", tmp), world.mirror("old", tmp)
    mirror.targets()[0].write_bytes(old.targets()[0].read_bytes())
    return mirror


def _own_offer(mirror: Mirror, key: str, path: str = "stable/settled.bundle") -> Mirror:
    archive = mirror.targets("pilot")[0].read_bytes()
    mirror.forge("stable", lambda role: mirror.offer(role, path, archive), [key])
    mirror.relist(roles=["stable"])
    return mirror


@attack("stable was signed by 0/1 keys", stolen=True)
def a_bundle_on_stable_signed_by_the_pilot_key(world, tmp) -> Mirror:
    return _own_offer(world.mirror("now", tmp), "pilot")


@attack("stable was signed by 0/1 keys", stolen=True)
def a_bundle_signed_by_a_stranger(world, tmp) -> Mirror:
    return _own_offer(world.mirror("now", tmp), "stranger")


@attack("stable was signed by 0/1 keys", stolen=True)
def a_bundle_signed_by_the_online_key(world, tmp) -> Mirror:
    return _own_offer(world.mirror("now", tmp), "online")


@attack("timestamp was signed by 0/1 keys")
def the_repository_of_another_centre(world, tmp) -> Mirror:
    return Mirror(new_centre(tmp / "other"), tmp / "mirror")


@attack("root was signed by 0/2 keys")
def a_new_root_by_strangers(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("root", lambda root: root.add_key(STRANGER.public_key, "root"), ["stranger"])
    return mirror


# Rollback: what was signed once, and is not in force any more.


@attack("New timestamp version 3 must be >= 5")
def the_whole_repository_as_it_was(world, tmp) -> Mirror:
    return world.mirror("old", tmp)


@attack("New timestamp version 3 must be >= 5")
def an_older_timestamp(world, tmp) -> Mirror:
    mirror, old = world.mirror("now", tmp), world.mirror("old", tmp)
    shutil.copy(old.path("timestamp"), mirror.path("timestamp"))
    return mirror


@attack("New snapshot version must be >= 5, got version 4", stolen=True)
def an_older_snapshot_under_a_new_timestamp(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    older = MetaFile(mirror.version("snapshot") - 1)
    mirror.stamp(lambda timestamp: setattr(timestamp, "snapshot_meta", older))
    return mirror


@attack("Expected stable.json version", stolen=True)
def an_older_role_of_the_channel_listed_again(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.relist(stable=mirror.version("stable") - 1)
    return mirror


@attack("Expected targets.json version", stolen=True)
def older_delegations_listed_again(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.relist(targets=mirror.version("targets") - 1)
    return mirror


# Mix and match: parts of different times, or in each other's place.


@attack("does not match expected length")
def the_snapshot_of_another_time(world, tmp) -> Mirror:
    mirror, old = world.mirror("later", tmp), world.mirror("old", tmp)
    shutil.copy(old.path("snapshot"), mirror.path("snapshot"))
    return mirror


@attack("does not match expected length")
def the_role_of_another_time(world, tmp) -> Mirror:
    mirror, old = world.mirror("later", tmp), world.mirror("old", tmp)
    shutil.copy(old.path("stable"), mirror.path("stable"))
    return mirror


@attack("does not match expected length")
def the_role_of_another_channel(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    shutil.copy(mirror.path("pilot"), mirror.path("stable"))
    return mirror


@attack("stable was signed by 0/1 keys", stolen=True)
def the_role_of_another_channel_listed_as_this_one(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    shutil.copy(mirror.path("pilot"), mirror.path("stable", mirror.version("stable") + 1))
    mirror.relist(roles=["stable"])
    return mirror


@attack("half copied", code=4)
def a_new_timestamp_before_what_it_names(world, tmp) -> Mirror:
    mirror, later = world.mirror("now", tmp), world.mirror("later", tmp)
    shutil.copy(later.path("timestamp"), mirror.path("timestamp"))
    return mirror


# Too few signatures, and those of revoked keys.


@attack("root was signed by 1/2 keys")
def a_root_with_one_signature_of_two(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("root", lambda _: None, ["root-1"])
    return mirror


@attack("Failed to deserialize JSON")
def a_root_signed_twice_by_the_same_key(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("root", lambda _: None, ["root-1"])
    body = json.loads(mirror.path("root").read_text())
    body["signatures"] *= 2
    mirror.path("root").write_text(json.dumps(body))
    return mirror


@attack("timestamp was signed by 0/1 keys")
def a_timestamp_without_a_signature(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    unsigned(mirror.path("timestamp"))
    return mirror


@attack("does not match expected length")
def a_snapshot_without_a_signature(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    unsigned(mirror.path("snapshot"))
    return mirror


@attack("targets was signed by 0/1 keys", stolen=True)
def delegations_without_a_signature(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("targets", lambda _: None, [])
    mirror.relist(roles=["targets"])
    return mirror


@attack("stable was signed by 0/1 keys", stolen=True)
def a_channel_without_a_signature(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("stable", lambda _: None, [])
    mirror.relist(roles=["stable"])
    return mirror


def _rotated(world: World, tmp: Path, *which: str) -> Mirror:
    """The repository after keys were replaced; the attacker still has the old ones."""
    centre = copied(world.later, tmp / "rotated")
    for role in which:
        rotation.replace_key(centre.at(), role)
    mirror = Mirror(centre, tmp / "mirror")
    mirror.good = centre
    return mirror


@attack("stable was signed by 0/1 keys")
def a_channel_signed_by_its_revoked_key(world, tmp) -> Mirror:
    mirror = _rotated(world, tmp, "stable")
    _own_offer(mirror, "stable")
    rotation.replace_key(mirror.good.at(), "online")  # that one was stolen too
    return mirror


@attack("timestamp was signed by 0/1 keys")
def a_timestamp_signed_by_the_revoked_online_key(world, tmp) -> Mirror:
    mirror = _rotated(world, tmp, "online")
    mirror.stamp()
    return mirror


@attack("root was signed by 1/2 keys")
def a_root_signed_with_a_revoked_root_key(world, tmp) -> Mirror:
    mirror = _rotated(world, tmp, "root")
    mirror.forge("root", lambda _: None, ["root-1", "root-2"])
    return mirror


# Signatures that have ended.


@attack("out of date: Final root.json is expired")
def a_root_that_has_expired(world, tmp) -> Mirror:
    mirror = world.mirror("later", tmp)
    mirror.forge("root", end_in(days=-1), ["root-1", "root-2"])
    mirror.good = copied(world.later, tmp / "renewed")
    shutil.copy(mirror.path("root"), mirror.good.public / "metadata")
    renew_role(mirror.good.at(), "root")
    return mirror


@attack("out of date: timestamp.json is expired", stolen=True)
def a_timestamp_that_has_expired(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.stamp(end_in(minutes=-1))
    return mirror


@attack("out of date: snapshot.json is expired", stolen=True)
def a_snapshot_that_has_expired(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("snapshot", end_in(minutes=-1), ["online"])
    mirror.stamp()
    return mirror


@attack("out of date: New targets is expired", stolen=True)
def delegations_that_have_expired(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("targets", end_in(days=-1), ["targets"])
    mirror.relist(roles=["targets"])
    return mirror


@attack("out of date: New stable is expired", stolen=True)
def a_channel_that_has_expired(world, tmp) -> Mirror:
    mirror = world.mirror("now", tmp)
    mirror.forge("stable", end_in(days=-1), ["stable"])
    mirror.relist(roles=["stable"])
    return mirror


@pytest.mark.parametrize(("bend", "code", "words", "stolen"), ATTACKS)
def test_what_the_centre_does_not_offer_is_refused_and_harms_nothing(
    world, machine, tmp_path, bend, code, words, stolen
) -> None:
    mirror = bend(world, tmp_path)
    with unharmed(machine, world), serving(mirror.directory) as server:
        refused(machine.update(server.url), code, words)
    good = mirror.good or (world.rekeyed if stolen else world.later)
    the_third_is_offered(machine, world, good)


# The pilot key may sign for pilot, whatever it writes into its role.


def test_what_the_pilot_key_says_of_stable_is_not_heard(world, machine, tmp_path) -> None:
    mirror = world.mirror("now", tmp_path)
    archive = world.mirror("later", tmp_path).targets()[0].read_bytes()

    def offer(role) -> None:
        mirror.offer(role, "stable/settled.bundle", archive)
        mirror.offer(role, "stable/candidate.bundle", archive, rollout=99)

    mirror.forge("pilot", offer, ["pilot"])
    mirror.relist(roles=["pilot"])
    with unharmed(machine, world), serving(mirror.directory) as server:
        assert machine.update(server.url).code == 7
    the_third_is_offered(machine, world, world.rekeyed)


# Fast forward: versions and times far ahead, so that nothing genuine is ever new again.


def far_ahead(days: float):
    """A timestamp that holds for ever, and says that it was signed in the future."""

    def change(timestamp) -> None:
        timestamp.version = 2**31
        timestamp.expires = NEVER
        then = datetime.now(UTC) + timedelta(days=days)
        timestamp.unrecognized_fields["signed_at"] = then.strftime("%Y-%m-%dT%H:%M:%SZ")

    return change


def test_versions_and_a_time_far_ahead_are_undone_by_a_new_online_key(
    world, machine, tmp_path
) -> None:
    mirror = world.mirror("now", tmp_path)
    mirror.forge("snapshot", end_in(days=5_000), ["online"], step=2**31)
    mirror.stamp(far_ahead(days=300))
    with unharmed(machine, world), serving(mirror.directory) as server:
        assert machine.update(server.url).code == 7  # all of it is signed as it must be
        refused(machine.update(world.later.public), 5, "timestamp")
    ran = machine.update(world.rekeyed.public)
    assert ran.code == 0, ran.err
    assert machine.bundle() == world.digests[2]


def test_a_time_at_which_nothing_else_holds_is_not_believed(world, machine, tmp_path) -> None:
    mirror = world.mirror("now", tmp_path)
    mirror.stamp(far_ahead(days=64 * 365))
    with unharmed(machine, world), serving(mirror.directory) as server:
        refused(machine.update(server.url), 5, "is expired")
    the_third_is_offered(machine, world, world.rekeyed)


def test_a_channel_far_ahead_is_undone_by_new_keys_of_channel_and_snapshot(
    world, machine, tmp_path
) -> None:
    mirror = world.mirror("now", tmp_path)
    mirror.forge("stable", end_in(days=5_000), ["stable"], step=2**31)
    mirror.relist(roles=["stable"])
    mirror.stamp()
    with unharmed(machine, world), serving(mirror.directory) as server:
        assert machine.update(server.url).code == 7
        refused(machine.update(world.later.public), 5, "timestamp")
    good = _rotated(world, tmp_path, "stable", "online").good
    the_third_is_offered(machine, world, good)


# Freeze: the same repository for ever; and clocks that would let it.


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Callable[[float], dict[str, str]]:
    """The environment of a process whose clock says ``seconds`` since 1970."""
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    source_file = Path(__file__).with_name("clock_shift.c")
    subprocess.run([compiler, *flags, "-o", made, source_file, "-ldl"], check=True)

    def environment(seconds: float) -> dict[str, str]:
        return {"LD_PRELOAD": str(made), "CLOCK_SHIFT": str(int(seconds - time.time()))}

    return environment


def test_a_repository_that_stays_as_it_was_is_refused_after_a_week(
    world, machine, tmp_path, at
) -> None:
    next_week = at(time.time() + 8 * DAY_S)
    with unharmed(machine, world), serving(world.now.public) as server:
        assert machine.update(server.url).code == 7
        ran = machine.update(server.url, **next_week)
        refused(ran, 5, "out of date: timestamp.json is expired")
        assert "has not renewed it" in ran.err
        assert "clock of this machine is wrong" in ran.err
    renewed = copied(world.later, tmp_path / "renewed")
    renewed.timestamp(datetime.now(UTC) + timedelta(days=8))
    ran = machine.update(renewed.public, "--check", "--json", **next_week)
    assert (ran.code, ran.json["offered"]["digest"]) == (0, world.digests[2])


def test_at_1970_what_is_in_force_stays_so_and_what_has_ended_is_not_believed(
    world, machine, tmp_path, at
) -> None:
    ended = world.mirror("now", tmp_path)
    ended.stamp(end_in(hours=-3))  # after 1970, but before the centre last signed
    with unharmed(machine, world):
        ran = machine.update(world.now.public, "--json", **at(1_000))
        assert ran.code == 7, ran.err
        assert [note["code"] for note in ran.json["notes"]] == ["clock-behind"]
        refused(machine.update(ended.directory, **at(1_000)), 5, "timestamp.json is expired")
        refused(machine.update(world.old.public, **at(1_000)), 5, "timestamp")
    the_third_is_offered(machine, world, world.rekeyed)


def test_a_clock_decades_ahead_is_named_and_leaves_no_mark(world, machine, at) -> None:
    with unharmed(machine, world):
        ran = machine.update(world.later.public, **at(time.time() + 64 * 365 * DAY_S))
        refused(ran, 5, "is expired")
        assert "Most likely the clock of this machine is wrong" in ran.err
    the_third_is_offered(machine, world, world.later)


# Data without an end, and data that hardly comes.


def _pouring(mirror: Mirror, name: str, piece: bytes, pause: float = 0.0) -> Callable:
    """Serves a mirror, but the file called ``name`` never ends."""

    def answer(handler) -> None:
        path = mirror.directory / handler.path.lstrip("/")
        endless = path.name.endswith(name)
        if not endless and not path.is_file():
            return handler.send_error(404)
        handler.send_response(200)
        handler.end_headers()
        if not endless:
            handler.wfile.write(path.read_bytes())
            return None
        try:
            while not handler.about.stopping.wait(pause):
                handler.wfile.write(piece)
                handler.about.poured = getattr(handler.about, "poured", 0) + len(piece)
        except OSError:
            pass  # it has had enough
        return None

    return answer


@pytest.mark.parametrize(
    "name", ["root.json", "timestamp.json", "snapshot.json", "stable.json", "settled.bundle"]
)
def test_a_file_without_an_end_is_given_up(world, machine, tmp_path, name) -> None:
    mirror = world.mirror("later", tmp_path)
    with (
        unharmed(machine, world),
        answering(_pouring(mirror, name, b" " * (1 << 16))) as server,
    ):
        refused(machine.update(server.url), 5, "sends more than it may")
        assert server.poured < 16 << 20  # most of it lay in the buffers of the network
    the_third_is_offered(machine, world, world.later)


@pytest.mark.parametrize("name", ["timestamp.json", "settled.bundle"])
def test_a_file_that_hardly_comes_is_given_up(world, machine, tmp_path, monkeypatch, name) -> None:
    """In this process, so that its two minutes for a file can be a second."""
    mirror = world.mirror("later", tmp_path)
    quick = partial(source.open_source, limits=source.DownloadLimits(whole_s=1.0))
    monkeypatch.setattr(source, "open_source", quick)
    with unharmed(machine, world), answering(_pouring(mirror, name, b" ", 0.05)) as server:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="took longer than 1 s") as raised:
            machine.call(server.url)
        assert time.monotonic() - began < 100
    assert raised.value.hint
    monkeypatch.undo()
    the_third_is_offered(machine, world, world.later)


def test_a_whole_update_has_an_end_of_its_own(world, machine, tmp_path, monkeypatch) -> None:
    mirror = world.mirror("later", tmp_path)
    quick = partial(source.open_source, limits=source.DownloadLimits(all_s=1.0))
    monkeypatch.setattr(source, "open_source", quick)
    with unharmed(machine, world), answering(_pouring(mirror, "settled.bundle", b" ", 0.05)) as at:
        ran = machine.update(at.url)
    assert (ran.code, ran.out) == (4, "")
    assert "the whole update took longer than 1 s" in ran.err
    assert "Nothing was changed" in ran.err
    monkeypatch.undo()
    the_third_is_offered(machine, world, world.later)


# What this machine keeps of the metadata is lost or damaged, and then comes something older.


def deleted(state: Path, world: World) -> None:
    shutil.rmtree(state / "repository")


def emptied(state: Path, world: World) -> None:
    for path in (state / "repository").rglob("*.json"):
        path.write_bytes(b"")


def garbage(state: Path, world: World) -> None:
    for path in (state / "repository").rglob("*.json"):
        path.write_bytes(os.urandom(500))


def replaced_by_an_older_one(state: Path, world: World) -> None:
    shutil.rmtree(state / "repository")
    Machine(state.with_name("other"), world.now.root).call(world.old.public)
    shutil.copytree(state.with_name("other") / "repository", state / "repository", symlinks=True)


@pytest.mark.parametrize("damage", [deleted, emptied, garbage, replaced_by_an_older_one])
def test_an_old_repository_is_refused_whatever_became_of_the_local_copy(
    world, machine, damage
) -> None:
    damage(machine.state, world)
    with unharmed(machine, world), serving(world.old.public) as server:
        refused(machine.update(server.url), 5, "older than what this machine has already seen")
    the_third_is_offered(machine, world, world.later)


def test_the_local_copy_still_refuses_an_old_repository_when_the_state_is_lost(
    world, machine
) -> None:
    (machine.state / "state.sqlite").write_bytes(b"torn")
    with serving(world.old.public) as server:
        refused(machine.update(server.url), 2, "state.corrupt-1")  # once, to be noticed
        refused(machine.update(server.url), 5, "timestamp")
    the_third_is_offered(machine, world, world.later)


# What is not a file, where the local copy has files.


def a_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def a_link_to_what_never_ends(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def a_directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def a_link_to_itself(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path)


@pytest.mark.parametrize("name", ["timestamp.json", "root_history/2.root.json"])
@pytest.mark.parametrize("put", [a_pipe, a_link_to_what_never_ends, a_directory, a_link_to_itself])
def test_what_is_no_file_in_the_local_copy_holds_nothing_up(world, machine, put, name) -> None:
    put(machine.state / "repository" / name)
    ran = machine.update(world.later.public, "--check")
    assert ran.code == 0, ran.err
    assert machine.call(world.later.public)["outcome"] == "activated"
    assert machine.bundle() == world.digests[2]


def test_a_local_copy_that_is_a_link_does_not_reach_what_it_leads_to(
    world, machine, tmp_path
) -> None:
    precious = tmp_path / "precious"
    shutil.copytree(machine.state / "repository", precious, symlinks=True)
    (precious / "tmp-my-work").write_text("a year of it")
    before = {p.name: p.read_bytes() for p in precious.iterdir() if p.is_file()}
    shutil.rmtree(machine.state / "repository")
    (machine.state / "repository").symlink_to(precious)
    assert machine.update(world.later.public, "--check").code == 0
    assert {p.name: p.read_bytes() for p in precious.iterdir() if p.is_file()} == before


# A USB stick is no safer than a server.


@pytest.mark.parametrize("put", [a_pipe, a_link_to_what_never_ends])
def test_what_is_no_file_on_a_stick_is_refused(world, machine, tmp_path, put) -> None:
    mirror = world.mirror("later", tmp_path)
    put(mirror.path("timestamp"))
    with unharmed(machine, world):
        refused(machine.update(mirror.directory), 5, "timestamp.json")
    the_third_is_offered(machine, world, world.later)
