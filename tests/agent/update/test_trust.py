import copy
import json
import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import DelegatedRole, MetaFile, TargetFile

from agent.errors import InputError, StateError, UnreachableError, UntrustedError
from agent.update.archive import MAX_BYTES
from agent.update.floors import MAX_VERSION, NO_FLOORS, Floors
from agent.update.source import LIMITS, DownloadLimits, open_source
from agent.update.trust import Trust, refresh
from agent.update.tuf_updater import open_updater
from tests.agent.update.centre import DAY, LIVES, NOW, Centre
from tests.agent.update.servers import answering, serving

OTHER = "cd" * 32


@pytest.fixture
def repository(tmp_path) -> Centre:
    """With one settled bundle in ``stable``."""
    made = Centre(tmp_path / "repository")
    made.offer("stable")
    made.publish("stable")
    return made


class Machine:
    """A machine's side: its cache, its floors, its clock."""

    def __init__(self, folder, repository, root=None):
        self.place, self.repository = folder / "cache", repository
        self.root = root or repository.trusted_root
        self.floors, self.now = NO_FLOORS, NOW

    def refresh(self, place=None, channel="stable", limits=LIMITS):
        source = open_source(str(place or self.repository.directory), limits)
        trust = Trust(self.root, channel, self.place, self.floors, self.now)
        session = refresh(source, trust)
        stored = json.loads(json.dumps(session.trusted.floors.to_json()))  # as the state keeps them
        self.floors = Floors.from_json(stored)
        return session

    def refused(self, words=None, place=None, channel="stable") -> UntrustedError:
        floors = self.floors
        with pytest.raises(UntrustedError, match=words) as refusal:
            self.refresh(place, channel)
        assert self.floors is floors
        assert refusal.value.hint
        return refusal.value


@pytest.fixture
def machine(tmp_path, repository) -> Machine:
    return Machine(tmp_path, repository)


def older_copy(repository):
    """The repository as it is now, kept by someone who will replay it."""
    return shutil.copytree(repository.directory, repository.directory.with_name("older"))


def renew(repository, times=1):
    for _ in range(times):
        repository.publish("stable")


# What is offered.


def test_what_a_channel_offers_is_read(repository, machine):
    repository.offer("stable", "candidate", b"newer", digest=OTHER, rollout=25, version="8")
    repository.publish("stable")
    trusted = machine.refresh().trusted
    settled, candidate = trusted.offers["settled"], trusted.offers["candidate"]
    assert (settled.name, settled.version, settled.rollout) == ("loops", "7", 100)
    assert (settled.digest, settled.features_version, settled.length) == ("ab" * 32, 3, 8)
    assert (candidate.slot, candidate.digest, candidate.rollout) == ("candidate", OTHER, 25)
    assert trusted.notes == ()


def test_a_channel_with_nothing_in_it_offers_nothing(machine):
    trusted = machine.refresh(channel="pilot").trusted
    assert trusted.offers == {}
    assert trusted.withdrawn == frozenset()


def test_what_is_withdrawn_is_read_from_the_role_and_from_its_targets(repository, machine):
    repository.offer("stable", withdrawn=["01" * 32])
    repository.offer("stable", "candidate", withdrawn=["02" * 32])
    repository.roles["stable"].unrecognized_fields["withdrawn"] = ["03" * 32]
    repository.publish("stable")
    assert machine.refresh().trusted.withdrawn == {"01" * 32, "02" * 32, "03" * 32}


def test_the_ends_of_all_signatures_are_told(machine):
    expires = machine.refresh().trusted.expires
    assert {role: (end - NOW) / DAY for role, end in expires.items()} == {
        "root": 1095,
        "targets": 1095,
        "stable": 730,
        "snapshot": 30,
        "timestamp": 7,
    }


def test_the_floors_are_the_versions_and_the_time_of_signing(repository, machine):
    repository.now = NOW + 100
    renew(repository, 3)
    floors = machine.refresh().trusted.floors
    assert floors.versions == {"root": 1, "timestamp": 5, "snapshot": 5, "targets": 1, "stable": 5}
    assert floors.signed_at == NOW + 100
    assert set(floors.keys) == set(floors.versions)


def test_a_channel_not_followed_now_keeps_its_floor(repository, machine):
    renew(repository, 3)
    machine.refresh()
    machine.refresh(channel="pilot")
    assert machine.floors.versions["stable"] == 5
    assert machine.floors.versions["pilot"] == 1


def test_the_cache_is_private(machine):
    machine.refresh()
    assert machine.place.stat().st_mode & 0o777 == 0o700


def test_there_are_two_channels(machine):
    with pytest.raises(InputError, match="no channel 'nightly'"):
        machine.refresh(channel="nightly")


def test_a_repository_without_the_channel_is_refused(repository, machine):
    del repository.targets.delegations.roles["stable"]
    repository.publish("targets")
    machine.refused("it has no channel stable")


def test_an_unchanged_repository_costs_two_files(repository, machine):
    with serving(repository.directory) as server:
        machine.refresh(server.url)
        del server.asked[:]
        machine.refresh(server.url)
    assert server.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]


# Downloads.


def test_a_bundle_is_downloaded_as_it_was_signed(repository, machine):
    session = machine.refresh()
    assert session.download(session.trusted.offers["settled"]) == b"a bundle"


@pytest.mark.parametrize("content", [b"A bundle", b"a bundl", b"", b"a bundle and more"])
def test_other_bytes_than_those_signed_are_refused(repository, machine, content):
    session = machine.refresh()
    offer = session.trusted.offers["settled"]
    repository.file_of(offer.target).write_bytes(content)
    with pytest.raises(UntrustedError):
        session.download(offer)


def test_a_bundle_that_is_missing_is_no_matter_of_trust(repository, machine):
    session = machine.refresh()
    offer = session.trusted.offers["settled"]
    repository.file_of(offer.target).unlink()
    with pytest.raises(UnreachableError, match=r"has no .*settled\.bundle"):
        session.download(offer)


def test_a_bundle_said_to_be_too_large_is_not_asked_for(repository, machine):
    repository.offer("stable").length = MAX_BYTES + 1
    repository.publish("stable")
    with serving(repository.directory) as server:
        session = machine.refresh(server.url)
        with pytest.raises(UntrustedError, match=f"most that is taken is {MAX_BYTES}"):
            session.download(session.trusted.offers["settled"])
    assert not [path for path in server.asked if "targets/" in path]


def test_a_repository_without_consistent_snapshots_is_read_too(repository, machine):
    repository.root.consistent_snapshot = False
    for name in ("targets", "stable", "snapshot"):
        repository.path_of(name).rename(repository.directory / f"metadata/{name}.json")
    repository.root.version += 1
    repository.write("root")
    session = machine.refresh()
    offer = session.trusted.offers["settled"]
    hashed = repository.file_of(offer.target)
    hashed.rename(hashed.with_name("settled.bundle"))
    assert session.download(offer) == b"a bundle"


# A cache that did not survive, and someone who waited for that.


def emptied(place):
    for path in files(place):
        path.write_bytes(b"")


def truncated(place):
    for path in files(place):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deleted(place):
    for path in files(place):
        path.unlink()


def garbage(place):
    for path in files(place):
        path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def foreign(place):
    for path in files(place):
        path.write_text('{"signed": {"_type": "root", "version": 99}, "signatures": []}')


def all_gone(place):
    shutil.rmtree(place)


def only_timestamp_emptied(place):
    (place / "timestamp.json").write_bytes(b"")


def timestamp_emptied(place):
    (place / "timestamp.json").write_bytes(b"")


def timestamp_and_snapshot_emptied(place):
    for name in ("timestamp", "snapshot"):
        (place / f"{name}.json").write_bytes(b"")


def mixed_up(place):
    (place / "timestamp.json").rename(place / "x")
    (place / "snapshot.json").rename(place / "timestamp.json")
    (place / "x").rename(place / "snapshot.json")


def a_file_in_its_place(place):
    shutil.rmtree(place)
    place.write_text("x")


def a_dangling_link_in_its_place(place):
    shutil.rmtree(place)
    place.symlink_to(place.with_name("nowhere"))


def directories_for_files(place):
    for path in files(place):
        path.unlink()
        path.mkdir()


def a_file_for_the_directory_of_roots(place):
    shutil.rmtree(place / "root_history")
    (place / "root_history").write_text("x")


def a_directory_for_the_link_to_the_root(place):
    (place / "root.json").unlink()
    (place / "root.json").mkdir()


def files(place):
    return [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]


DAMAGES = [
    emptied,
    truncated,
    deleted,
    garbage,
    foreign,
    all_gone,
    only_timestamp_emptied,
    timestamp_and_snapshot_emptied,
    mixed_up,
    a_file_in_its_place,
    a_dangling_link_in_its_place,
    directories_for_files,
    a_file_for_the_directory_of_roots,
    a_directory_for_the_link_to_the_root,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_does_no_harm(repository, machine, damage):
    machine.refresh()
    damage(machine.place)
    assert machine.refresh().trusted.floors.versions["timestamp"] == 2
    damage(machine.place)
    renew(repository)
    session = machine.refresh()
    assert session.trusted.floors.versions["timestamp"] == 3
    assert session.download(session.trusted.offers["settled"]) == b"a bundle"


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_older_repository_is_refused_however_the_cache_was_damaged(repository, machine, damage):
    older = older_copy(repository)
    renew(repository)
    machine.refresh()
    damage(machine.place)
    machine.refused("older than what this machine has already seen|Expected stable", older)
    machine.refused("older than what this machine has already seen|Expected stable", older)
    machine.refresh()


@pytest.mark.parametrize("damage", [None, timestamp_emptied, all_gone])
def test_an_old_stick_is_told_in_the_same_words_whoever_notices(repository, machine, damage):
    older = older_copy(repository)
    renew(repository)
    machine.refresh()
    if damage:  # else python-tuf's own cache knows better
        damage(machine.place)
    refusal = machine.refused("older than what this machine has already seen", older)
    assert "an old copy of the repository" in refusal.hint
    assert "proxy" not in refusal.hint


@pytest.mark.parametrize("role", ["snapshot", "targets", "stable"])
def test_an_older_role_listed_again_is_called_older(repository, machine, role):
    renew(repository)
    repository.publish("targets")
    machine.refresh()
    if role == "snapshot":
        repository.roles["timestamp"].snapshot_meta = MetaFile(1)
        repository.roles["timestamp"].version += 1
        repository.write("timestamp")
    else:
        repository.roles["snapshot"].meta[f"{role}.json"] = MetaFile(1)
        repository.publish()
    machine.refused("older than what this machine has already seen")


def test_what_was_older_does_not_stay_in_the_cache(repository, machine):
    older = older_copy(repository)
    renew(repository)
    machine.refresh()
    all_gone(machine.place)
    machine.refused("older", older)
    assert not machine.place.exists()


def test_leftovers_of_a_power_cut_are_swept(machine):
    machine.refresh()
    (machine.place / "tmpab12cd").write_text("torn")
    machine.refresh()
    assert not (machine.place / "tmpab12cd").exists()


def test_a_cache_that_cannot_be_written_is_said(tmp_path, machine):
    (tmp_path / "file").write_text("x")
    machine.place = tmp_path / "file" / "cache"
    with pytest.raises(StateError, match=r"the update cache .* cannot be written: Not a directory"):
        machine.refresh()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 2000), which=st.integers(0, 10))
def test_bytes_changed_anywhere_in_the_cache_do_no_harm(tmp_path_factory, data, at, which):
    folder = tmp_path_factory.mktemp("changed")
    repository = Centre(folder / "repository")
    machine = Machine(folder, repository)
    machine.refresh(channel="pilot")
    there = sorted(files(machine.place))
    path = there[which % len(there)]
    content = path.read_bytes()
    path.write_bytes(content[:at] + data + content[at + len(data) :])
    repository.publish()
    assert machine.refresh(channel="pilot").trusted.floors.versions["timestamp"] == 2


# Floors, role by role.


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "stable"])
def test_every_role_has_a_floor(machine, role):
    machine.refresh()
    versions = {**machine.floors.versions, role: machine.floors.versions[role] + 1}
    machine.floors = replace(machine.floors, versions=versions)
    all_gone(machine.place)
    machine.refused(rf"{role}\.json has version \d, older than .* \(version \d\)")


def test_a_newer_root_that_is_withheld_is_missed(repository, machine):
    repository.root.unrecognized_fields["x"] = "y"
    repository.publish("root")
    machine.refresh()
    all_gone(machine.place)
    (repository.directory / "metadata/2.root.json").unlink()
    machine.refused(r"root\.json has version 1, older")


def test_the_floor_of_the_root_holds_even_when_its_keys_change(repository, machine):
    machine.refresh()
    other_keys = {**machine.floors.keys, "root": "2:" + ",".join(["ee" * 32] * 3)}
    versions = {**machine.floors.versions, "root": 2}
    machine.floors = replace(machine.floors, keys=other_keys, versions=versions)
    machine.refused(r"root\.json has version 1, older")


def ahead(repository, machine, role, version=1_000_000):
    """Someone with the online key pushes a version far ahead."""
    honest = repository.roles[role].version
    repository.roles[role].version = version
    repository.publish()
    machine.refresh()
    repository.roles[role].version = honest


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_what_a_stolen_online_key_pushed_ahead_is_undone_by_replacing_it(
    repository, machine, role, cache
):
    ahead(repository, machine, role)
    repository.publish()
    machine.refused()
    repository.rotate("snapshot", "timestamp")
    repository.publish("root")
    if cache == "lost":
        all_gone(machine.place)
    machine.refresh()
    assert machine.floors.versions[role] == repository.roles[role].version < 10
    renew(repository)
    machine.refresh()


@pytest.mark.parametrize("channel", ["stable", "targets"])
def test_what_a_stolen_key_of_a_role_pushed_ahead_is_undone_by_replacing_it(
    repository, machine, channel
):
    honest = repository.roles[channel].version
    repository.roles[channel].version = 1_000_000
    repository.publish(channel)
    machine.refresh()
    repository.roles[channel].version = honest
    repository.publish(channel)
    machine.refused()
    # TUF asks for a new snapshot key as well: the versions listed by the old one only grow.
    repository.rotate(channel, "snapshot", "timestamp")
    repository.publish("root", "targets", "stable")
    machine.refresh()
    assert machine.floors.versions[channel] < 10


def test_a_key_that_is_only_added_does_not_lower_a_floor(repository, machine):
    older = older_copy(repository)
    renew(repository)
    machine.refresh()
    second = CryptoSigner.generate_ed25519()
    for role in ("timestamp", "snapshot"):
        repository.root.add_key(second.public_key, role)
    repository.publish("root")
    root = repository.path_of("root")
    shutil.copy(root, older / "metadata" / root.name)  # what is old still verifies under it
    all_gone(machine.place)
    machine.refused(r"timestamp\.json has version 2, older", older)


def test_old_metadata_do_not_pass_below_a_floor_that_started_again(repository, machine):
    older = older_copy(repository)
    renew(repository)
    machine.refresh()
    repository.rotate("snapshot", "timestamp")
    repository.publish("root")
    root = repository.path_of("root")
    shutil.copy(root, older / "metadata" / root.name)
    all_gone(machine.place)
    machine.refused("cannot be trusted", older)


def test_a_root_signed_by_old_and_new_keys_is_followed(repository, machine):
    old, new = repository.signers["root"], [CryptoSigner.generate_ed25519() for _ in range(3)]
    for signer in old:
        repository.root.revoke_key(signer.public_key.keyid, "root")
    for signer in new:
        repository.root.add_key(signer.public_key, "root")
    repository.signers["root"] = old + new
    repository.publish("root")
    repository.signers["root"] = new
    repository.publish("root")
    machine.refresh()
    assert machine.floors.versions["root"] == 3


@pytest.mark.parametrize("version", [MAX_VERSION + 1, 10**400])
def test_a_version_that_no_state_could_keep_is_refused(repository, machine, version):
    repository.roles["timestamp"].version = version
    repository.publish()
    machine.refused("not a sensible number")


def test_a_chain_of_roots_longer_than_is_followed_in_one_go_is_followed_by_the_next_update(
    repository, machine
):
    machine.refresh()
    for _ in range(7):
        repository.publish("root")
    with serving(repository.directory) as server:
        for reached in (4, 7):
            with pytest.raises(UnreachableError, match=f"version {reached} is reached") as told:
                machine.refresh(server.url, limits=DownloadLimits(roots=3))
            assert "goes on from there" in told.value.hint
        before = len(server.asked)
        machine.refresh(server.url, limits=DownloadLimits(roots=3))
    assert machine.floors.versions["root"] == 8
    roots = [path for path in server.asked if path.endswith("root.json")]
    assert roots == [f"/metadata/{version}.root.json" for version in range(2, 10)]
    assert before == 6


KEPT = {"versions": {"root": 1, "stable": 7}, "keys": {"root": "2:ab,cd"}, "signed_at": NOW}


def test_floors_come_back_as_they_were_kept():
    floors = Floors.from_json(KEPT)
    assert floors == Floors({"root": 1, "stable": 7}, {"root": "2:ab,cd"}, NOW)
    assert Floors.from_json(json.loads(json.dumps(floors.to_json()))) == floors
    assert floors.to_json() == KEPT


def test_where_no_floors_were_kept_there_are_none():
    assert Floors.from_json(None) == NO_FLOORS


def test_what_a_newer_agent_keeps_beside_the_floors_is_no_harm():
    assert Floors.from_json({**KEPT, "seen_at": 5, "more": {}}) == Floors.from_json(KEPT)


def test_a_time_without_a_fraction_is_a_time():
    assert Floors.from_json({**KEPT, "signed_at": 0}).signed_at == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("versions", ...),
        ("versions", None),
        ("versions", []),
        ("versions", {"root": "1"}),
        ("versions", {"root": True}),
        ("versions", {"root": 1.0}),
        ("versions", {"root": -1}),
        ("versions", {"root": MAX_VERSION + 1}),
        ("keys", ...),
        ("keys", "2:ab"),
        ("keys", {"root": None}),
        ("signed_at", ...),
        ("signed_at", True),
        ("signed_at", "2027-01-15T08:00:00Z"),
        ("signed_at", float("nan")),
        ("signed_at", float("inf")),
        ("signed_at", 10**400),
    ],
)
def test_floors_that_make_no_sense_are_not_taken_for_none(field, value):
    kept = {**KEPT, field: value}
    if value is ...:
        del kept[field]
    with pytest.raises(StateError, match="makes no sense") as refused:
        Floors.from_json(kept)
    assert "--state-dir" in refused.value.hint


# Time.


INTERNALS = "python-tuf has changed inside: look at tuf_updater.py, and at _accepted in trust.py"


@pytest.mark.parametrize("year", [2001, 2100])
def test_of_python_tufs_inside_there_is_what_is_used_and_it_does_what_is_relied_on(tmp_path, year):
    signed = datetime(year, 1, 1, tzinfo=UTC).timestamp()  # far from now: the clock cannot decide
    repository = Centre(tmp_path / "repository", signed)
    source = open_source(str(repository.directory))

    def updater(place, reference):
        return open_updater(source, repository.trusted_root, tmp_path / place, reference)

    try:
        fresh = updater("fresh", signed)
        inside = fresh._trusted_set
        assert isinstance(inside.reference_time, datetime), INTERNALS
        fresh.refresh()
        assert fresh.get_targetinfo("stable/settled.bundle") is None
        assert inside.root is inside["root"], INTERNALS
        assert inside.targets.delegations.roles["stable"].keyids, INTERNALS
        assert inside.contains("stable", "targets"), INTERNALS
        assert not inside.contains("stable", "pilot"), INTERNALS
        assert [inside[name].version for name in ("timestamp", "snapshot", "stable")], INTERNALS
    except (AttributeError, KeyError, ExpiredMetadataError) as error:
        pytest.fail(f"{INTERNALS} ({error!r})")
    for lives, role in ((7, "timestamp"), (30, "snapshot"), (730, "stable"), (1095, "root")):
        renewed = dict.fromkeys(LIVES, 5000) | {role: lives}
        repository.publish("root", "targets", "stable", lives=renewed)
        updater(role, signed + (lives - 1) * DAY).refresh()
        late = updater(f"{role}-late", signed + (lives + 1) * DAY)
        with pytest.raises(ExpiredMetadataError, match=role):
            late.refresh() or late.get_targetinfo("stable/settled.bundle")


def test_what_has_expired_is_refused_and_both_causes_are_named(machine):
    machine.now = NOW + 8 * DAY
    refusal = machine.refused(r"out of date: timestamp\.json is expired")
    assert "`bundles timestamp`" in refusal.hint
    assert "the clock of this machine is wrong: it says 2027-01-23" in refusal.hint
    assert refusal.hint.startswith("Either the centre")


@pytest.mark.parametrize(
    ("role", "lives"), [("root", 3), ("snapshot", 3), ("targets", 3), ("stable", 3)]
)
def test_every_role_expires(repository, machine, role, lives):
    repository.publish("root", "targets", "stable", lives={role: lives})
    machine.refresh()
    machine.now = NOW + 4 * DAY
    hint = machine.refused(f"{role}.* is expired").hint
    command = "timestamp" if role == "snapshot" else f"repo renew {role}"
    assert f"has not renewed it (`bundles {command}`" in hint
    assert hint.count("`") == 2


def test_a_clock_decades_ahead_is_named_first(machine):
    machine.refresh()
    machine.now = NOW + 12_000 * DAY
    assert machine.refused("out of date").hint.startswith("Most likely the clock of this machine")


def test_a_clock_beyond_all_calendars_is_no_crash(machine):
    machine.now = 1e18
    assert "9999-12-31" in machine.refused("out of date").hint


@pytest.mark.parametrize("now", [0.0, -1e12])
def test_a_clock_that_starts_at_1970_updates_and_is_told(machine, now):
    machine.now = now
    trusted = machine.refresh().trusted
    [(code, words)] = trusted.notes
    assert code == "clock-behind"
    assert "says 1970-01-01" in words
    assert "signed on 2027-01-15" in words
    assert not words.endswith(".")  # whoever shows it ends the sentence


def test_a_clock_that_starts_at_1970_does_not_bring_expired_metadata_back(repository, machine):
    older = older_copy(repository)
    repository.now = NOW + 30 * DAY
    renew(repository)
    machine.now = NOW + 30 * DAY
    machine.refresh()
    # Old signatures under a floor of time alone: as if versions had not grown.
    machine.floors = replace(machine.floors, versions={}, keys={})
    all_gone(machine.place)
    machine.now = 0.0
    machine.refused("out of date", older)


def test_by_the_floor_of_time_an_expired_timestamp_is_the_last_file_asked_for(repository, machine):
    machine.floors = Floors({}, {}, NOW + 8 * DAY)
    machine.now = 0.0
    with serving(repository.directory) as server:
        machine.refused(r"timestamp\.json is expired", server.url)
    assert server.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_nothing_counts_that_ended_before_the_newest_signature(repository, machine):
    repository.now = NOW - 800 * DAY
    repository.publish("stable")
    repository.now = NOW
    repository.publish()
    machine.now = 0.0  # neither clock nor floor says that it is 2027; the timestamp does
    assert "`bundles repo renew stable`" in machine.refused(r"stable\.json is expired").hint


def test_a_clock_a_few_hours_behind_is_no_matter(machine):
    machine.now = NOW - 0.9 * DAY
    assert machine.refresh().trusted.notes == ()


def test_the_floor_of_time_never_falls(repository, machine):
    machine.refresh()
    repository.now = NOW - 2 * DAY
    renew(repository)
    machine.refresh()
    assert machine.floors.signed_at == NOW


def test_a_time_signed_by_a_stolen_key_is_undone_by_replacing_it(repository, machine):
    machine.refresh()
    repository.roles["timestamp"].unrecognized_fields["signed_at"] = "2028-06-01T00:00:00Z"
    repository.roles["timestamp"].version += 1
    repository.write("timestamp")
    machine.now = NOW + 6 * DAY  # the thief's time is nearly two years ahead of it
    machine.refused("is expired")  # nothing holds so long; and no floor was raised
    machine.floors = replace(machine.floors, signed_at=NOW + 25_000 * DAY)  # had it been
    repository.now = machine.now
    renew(repository)
    machine.refused("is expired")
    repository.rotate("snapshot", "timestamp")
    repository.publish("root", "targets", "stable")
    machine.refresh()
    assert machine.floors.signed_at == machine.now


@pytest.mark.parametrize(
    "signed_at",
    [..., None, 5, "", "2027-01-15", "2027-13-15T08:00:00Z", "2027-01-15T08:00:00+00:00", "٢"],
)
def test_a_timestamp_that_does_not_say_when_it_was_signed_is_refused(
    repository, machine, signed_at
):
    timestamp = repository.roles["timestamp"]
    if signed_at is ...:
        del timestamp.unrecognized_fields["signed_at"]
    else:
        timestamp.unrecognized_fields["signed_at"] = signed_at
    repository.write("timestamp")
    machine.refused("does not say when it was signed")


# Signatures.


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "stable"])
def test_a_changed_file_is_refused(repository, machine, role):
    path = repository.path_of(role)
    content = json.loads(path.read_bytes())
    content["signed"]["note"] = 1
    path.write_text(json.dumps(content))
    machine.refused("cannot be trusted")


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "stable"])
def test_a_file_signed_by_another_key_is_refused(repository, machine, role):
    repository.signers = {**repository.signers, role: [CryptoSigner.generate_ed25519()]}
    repository.publish("root", "targets", "stable")
    machine.refused("signed by 0/")


def test_a_root_with_one_signature_of_two_is_refused(repository, machine):
    repository.signers["root"] = repository.signers["root"][:1]
    repository.publish("root")
    machine.refused("root was signed by 1/2 keys")


def test_the_key_of_one_channel_does_not_sign_for_the_other(repository, machine):
    repository.signers["stable"] = repository.signers["pilot"]
    repository.publish("stable")
    machine.refused("stable was signed by 0/1 keys")


def test_a_bundle_listed_by_another_role_than_the_channels_is_refused(repository, machine):
    listed = repository.roles["stable"].targets.pop("stable/settled.bundle")
    repository.targets.targets[listed.path] = listed
    repository.publish("targets", "stable")
    machine.refused("not signed by the keys of stable")


def test_a_role_that_comes_before_the_channels_own_is_refused(repository, machine):
    roles = repository.targets.delegations.roles
    repository.targets.delegations.roles = {
        "pilot": DelegatedRole("pilot", roles["pilot"].keyids, 1, False, ["*/*"]),
        "stable": roles["stable"],
    }
    target = TargetFile.from_data("stable/settled.bundle", b"theirs", ["sha256"])
    repository.roles["pilot"].targets[target.path] = target
    repository.publish("targets", "pilot")
    machine.refused("stable")


def test_snapshot_and_role_of_different_days_do_not_mix(repository, machine):
    older = repository.path_of("stable").read_bytes()
    repository.publish("stable")
    repository.path_of("stable").write_bytes(older)
    hint = machine.refused(r"do not belong together: Expected stable v3, got v2").hint
    assert "while it was being published" in hint


@pytest.mark.parametrize("content", [b"", b"{}", b"not a root"])
def test_a_trusted_root_that_is_none_is_told_from_a_bad_repository(repository, machine, content):
    machine.root = content
    refusal = machine.refused("the trusted root of this machine cannot be used")
    assert "Put the root.json that the centre gives out" in refusal.hint


def test_the_root_of_another_centre_is_no_root_of_this_one(tmp_path, machine):
    machine.root = Centre(tmp_path / "other").trusted_root
    hint = machine.refused("timestamp was signed by 0/1 keys").hint
    assert "root.json of this machine may be another centre's" in hint
    assert "proxy" not in hint


def test_the_root_of_another_centre_is_none_for_this_ones_newer_roots(
    tmp_path, repository, machine
):
    repository.publish("root")
    machine.root = Centre(tmp_path / "other").trusted_root
    assert "may be another centre's" in machine.refused("root was signed by 0/2 keys").hint


def test_a_channel_signed_by_a_stranger_is_not_the_root_of_this_machine(repository, machine):
    repository.signers = {**repository.signers, "stable": [CryptoSigner.generate_ed25519()]}
    repository.publish("stable")
    assert "root.json" not in machine.refused("stable was signed by 0/1 keys").hint


# Answers of servers.


@pytest.mark.parametrize("place", ["directory", "server"])
def test_where_there_is_no_repository_it_says_so(tmp_path, machine, place):
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty") as server:
        wanted = pytest.raises(UnreachableError, match="there is no bundle repository at")
        with wanted:
            machine.refresh(server.url if place == "server" else tmp_path / "empty")


def test_a_repository_that_is_half_copied_is_unreachable(repository, machine):
    repository.path_of("snapshot").unlink()
    with pytest.raises(UnreachableError, match=r"has no 2\.snapshot\.json") as refused:
        machine.refresh()
    assert "half copied" in refused.value.hint


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_server_in_trouble_is_unreachable(machine, status):
    wanted = pytest.raises(UnreachableError, match=rf"\(HTTP {status}\)")
    with answering(lambda handler: handler.send_error(status)) as server, wanted as refused:
        machine.refresh(server.url)
    assert refused.value.hint


def test_a_page_of_a_portal_is_not_trusted(machine):
    page = b"<html>Please accept our terms</html>"

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        handler.wfile.write(page)

    with answering(answer) as server:
        assert "page of its own" in machine.refused("cannot be trusted", server.url).hint


@pytest.mark.parametrize(
    ("role", "most"),
    [
        ("timestamp", 16 << 10),
        ("snapshot", 256 << 10),
        ("targets", 1 << 20),
        ("stable", 1 << 20),
        ("root", 256 << 10),
    ],
)
def test_files_larger_than_metadata_may_be_are_refused(repository, machine, role, most):
    repository.roles[role].unrecognized_fields["padding"] = "x" * (most + 1)
    repository.publish("root", "targets", "stable")
    machine.refused(rf"sends more than it may: .*{role}\.json is longer than {most} bytes")


def test_a_length_signed_by_a_stolen_online_key_does_not_raise_the_largest(repository, machine):
    repository.roles["snapshot"].version += 1
    repository.roles["timestamp"].version += 1
    huge = MetaFile(repository.roles["snapshot"].version, length=10**15)
    repository.roles["timestamp"].snapshot_meta = huge
    repository.write("timestamp")
    repository.path_of("snapshot").write_bytes(b"x" * (MAX_BYTES + 1))
    machine.refused(f"longer than {MAX_BYTES} bytes")


# Fields of our own: signed, and checked all the same.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
        ("schema", True),
        ("schema", ...),
        ("name", ""),
        ("name", "x" * 201),
        ("name", "a\x1b[31m"),
        ("name", 7),
        ("name", ...),
        ("version", None),
        ("version", "\n"),
        ("digest", "AB" * 32),
        ("digest", "ab"),
        ("digest", "../../etc/passwd"),
        ("digest", ...),
        ("features_version", 0),
        ("features_version", "3"),
        ("features_version", True),
        ("features_version", 10**9),
        ("rollout", 0),
        ("rollout", 101),
        ("rollout", True),
        ("rollout", ...),
        ("withdrawn", ["ab"]),
        ("withdrawn", "ab" * 32),
        ("withdrawn", ["ab" * 32] * 101),
        ("withdrawn", {}),
        ("withdrawn", ...),
    ],
)
@pytest.mark.parametrize("slot", ["settled", "candidate"])
def test_a_field_that_makes_no_sense_is_refused(repository, machine, slot, field, value):
    repository.offer("stable", slot, **{field: value})
    repository.publish("stable")
    refusal = machine.refused("cannot be trusted")
    assert refusal.message.isprintable()


def test_a_settled_bundle_is_for_every_machine(repository, machine):
    repository.offer("stable", "settled", rollout=99)
    repository.publish("stable")
    machine.refused("rollout")


@pytest.mark.parametrize("custom", [None, [], "x", 5])
def test_a_target_about_which_nothing_is_said_is_refused(repository, machine, custom):
    target = repository.offer("stable")
    target.unrecognized_fields["custom"] = custom
    repository.publish("stable")
    machine.refused(r"nothing is said about stable/settled\.bundle")


@pytest.mark.parametrize("withdrawn", [None, "x", ["x"], ["ab" * 32] * 101])
def test_a_list_of_the_withdrawn_that_is_none_is_refused(repository, machine, withdrawn):
    repository.roles["stable"].unrecognized_fields["withdrawn"] = withdrawn
    repository.publish("stable")
    machine.refused("digest")


@pytest.mark.parametrize("hashes", [{"md5": "0" * 32}, {"sha1": "0" * 40}])
def test_a_target_without_sha_256_is_refused(repository, machine, hashes):
    repository.offer("stable").hashes = hashes
    repository.publish("stable")
    machine.refused("has no SHA-256")


def test_fields_that_are_not_known_yet_are_no_harm(repository, machine):
    repository.offer("stable", colour="green")
    repository.roles["stable"].unrecognized_fields["history"] = [{"name": "older"}]
    repository.publish("stable")
    assert machine.refresh().trusted.offers["settled"].name == "loops"


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=20),
    st.sampled_from(["targets", "stable", "../x", "ab" * 32, "2027-01-15T08:00:00Z", "1.0.31"]),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@settings(max_examples=150, deadline=None)
@given(
    role=st.sampled_from(["root", "targets", "stable", "snapshot", "timestamp"]),
    drawn=st.lists(
        st.tuples(st.integers(0, 10_000), ANYTHING | st.just(...)), min_size=1, max_size=3
    ),
)
def test_a_centre_gone_mad_that_signs_nonsense_is_refused_and_crashes_nothing(
    tmp_path_factory, role, drawn
):
    folder = tmp_path_factory.mktemp("mad")
    repository = Centre(folder / "repository")
    repository.offer("stable")
    repository.offer("stable", "candidate")
    repository.publish("root", "targets", "stable")
    machine = Machine(folder, repository)
    signed = copy.deepcopy(repository.roles[role].to_dict())
    for number, value in drawn:
        there = list(places(signed))[1:]
        *path, last = there[number % len(there)] if there else ("x",)
        inside = signed
        for key in path:
            inside = inside[key]
        if value is not ...:
            inside[last] = value
        elif isinstance(inside, dict):
            del inside[last]
    repository.write_any(role, signed)
    told = "taken"
    try:
        session = machine.refresh()
        for offer in session.trusted.offers.values():
            session.download(offer)
    except (UnreachableError, UntrustedError) as error:
        told = error.message
    assert told.isprintable()


def test_a_key_identifier_that_is_none_is_no_crash(repository, machine):
    repository.root.roles["snapshot"].keyids.append(None)
    signed = repository.root.to_dict()
    signed["version"] = repository.root.version = 2
    repository.write_any("root", signed)
    machine.refresh()
    machine.refresh()
    assert "None" in machine.floors.keys["snapshot"]


def test_a_fleet_of_roots_is_followed_to_its_end(repository, machine):
    for _ in range(40):
        repository.root.version += 1
        repository.write("root")
    machine.refresh()
    assert machine.floors.versions["root"] == 41
    assert Path(machine.place / "root.json").resolve().name == "41.root.json"
