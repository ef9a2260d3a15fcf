"""What the centre does, judged by python-tuf as a client on real files."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    UnsignedMetadataError,
)

from agent.bundle.bundle import default_bundle, load_bundle
from agent.errors import BundleError, InputError, UntrustedError
from agent.update.archive import pack_bundle, unpack
from agent.update.floors import NO_FLOORS
from agent.update.offers import MAX_WITHDRAWN
from agent.update.source import open_source
from agent.update.trust import Trust, Trusted, refresh
from bundles.repository import channel as channels
from bundles.repository import pem, publish, rotation, stick
from bundles.repository.channel import Channel, Listed
from bundles.repository.check import check_repository, repository_status
from bundles.repository.journal import RepositoryError
from bundles.repository.making import make_repository
from bundles.repository.passphrases import SigningKeyError
from bundles.repository.publish import Audience
from bundles.repository.renewal import renew_online, renew_role
from bundles.repository.repository import Repository
from tests.agent.bundle.bundles_made import write_bundle
from tests.bundles.repository.repositories import (
    NOW,
    Client,
    bundle_like,
    first_root,
    later,
    place,
    put,
    signed,
)


@pytest.fixture
def where(repository):
    return place(repository)


def codes(answer, among: str = "notes") -> list[str]:
    return [note["code"] for note in answer[among]]


def digest(bundle: Path) -> str:
    return load_bundle(bundle).digest


# add


def test_a_bundle_added_is_settled_and_clients_get_its_very_bytes(
    repository, public, client, versions
) -> None:
    answer = publish.add_bundle(place(repository), versions[0], Audience("pilot"))
    assert client.offers(public) == {"pilot/settled": "tiny@1"}
    archive = client.cache / "pilot%2Fsettled.bundle"
    assert archive.read_bytes() == pack_bundle(versions[0])
    assert (
        unpack(archive.read_bytes())["encoder.onnx"] == (versions[0] / "encoder.onnx").read_bytes()
    )
    assert answer["changed"]
    assert answer["channels"][0]["settled"]["digest"] == digest(versions[0])


def test_what_is_said_about_a_target_is_what_machines_are_told_to_expect(
    repository, where, versions
) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot", 10)
    targets = signed(repository, "3.pilot.json")["targets"]
    common = {"schema": 1, "name": "tiny", "features_version": 2, "withdrawn": []}
    assert {path: entry["custom"] for path, entry in targets.items()} == {
        "pilot/settled.bundle": {
            **common, "version": "1", "digest": digest(versions[0]), "rollout": 100,
        },
        "pilot/candidate.bundle": {
            **common, "version": "2", "digest": digest(versions[1]), "rollout": 10,
        },
    }  # fmt: skip
    assert signed(repository, "1.stable.json")["targets"] == {}


def test_the_same_bundle_again_changes_nothing(repository, where, versions) -> None:
    put(where, versions[0], "pilot", 10)
    before = signed(repository, "timestamp.json")
    assert not put(where, versions[0], "pilot", 10)["changed"]
    assert signed(repository, "timestamp.json") == before


def test_a_candidate_at_100_becomes_settled(public, where, client, versions) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot", 50)
    assert client.offers(public) == {"pilot/settled": "tiny@1", "pilot/candidate": "tiny@2"}
    put(where, versions[1], "pilot")
    assert client.offers(public) == {"pilot/settled": "tiny@2"}


def test_another_candidate_replaces_the_first_and_says_so(public, where, client, versions) -> None:
    put(where, versions[0], "pilot", 10)
    answer = put(where, versions[1], "pilot", 20)
    assert client.offers(public) == {"pilot/candidate": "tiny@2"}
    assert codes(answer) == ["code-unknown", "no-evaluation", "candidate-replaced"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"golden": None}, "golden"),
        ({"provenance": {}}, "made from"),
        ({"licence": ""}, "licence"),
        ({"features_version": 1}, "features version"),
    ],
)
def test_a_bundle_that_is_not_fit_to_be_published_is_refused(
    repository, tiny_bundle, tmp_path, changes, words
) -> None:
    bad = bundle_like(tiny_bundle, tmp_path / "bad", "1", **changes)
    if changes.get("golden", "") is None:
        manifest = json.loads((bad / "manifest.json").read_text())
        del manifest["golden"]
        (bad / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=words):
        publish.add_bundle(place(repository), bad, Audience("pilot"))
    assert not (repository / "public" / "targets").exists()


@pytest.mark.parametrize("missing", ["licence", "file"])
def test_a_bundle_that_is_refused_is_named_as_the_publisher_named_it(
    repository, tiny_bundle, tmp_path, missing
) -> None:
    bad = bundle_like(tiny_bundle, tmp_path / "mine", "1", licence="")
    if missing == "file":
        (bad / "prior.json").unlink()
    with pytest.raises(BundleError) as caught:
        publish.add_bundle(place(repository), bad, Audience("pilot"))
    assert f"the bundle in {bad} cannot be used" in caught.value.message
    assert "Install" not in caught.value.hint
    assert "`bundles pretrain`" in caught.value.hint


def test_a_bundle_that_fails_its_own_examples_is_refused(repository, tiny_bundle, tmp_path) -> None:
    manifest = json.loads((tiny_bundle / "manifest.json").read_bytes())
    golden = manifest["golden"]
    golden["embedding"][0][0] += 1
    bad = bundle_like(tiny_bundle, tmp_path / "bad", "1", golden=golden)
    with pytest.raises(BundleError, match="off by 1"):
        publish.add_bundle(place(repository), bad, Audience("pilot"))


def test_a_bundle_made_as_a_test_is_published_by_force_only(
    repository, tiny_bundle, tmp_path
) -> None:
    made = json.loads((tiny_bundle / "manifest.json").read_bytes())["provenance"]
    quick = bundle_like(tiny_bundle, tmp_path / "quick", "1", provenance={**made, "quick": True})
    with pytest.raises(InputError, match="--quick"):
        publish.add_bundle(place(repository), quick, Audience("pilot"))
    assert not (repository / "public" / "targets").exists()
    forced = publish.add_bundle(place(repository), quick, Audience("pilot", force=True))
    assert "quick" in codes(forced)
    with pytest.raises(InputError, match="--quick"):
        publish.promote_bundle(place(repository), "tiny@1", Audience("stable"))
    promoted = publish.promote_bundle(place(repository), "tiny@1", Audience("stable", force=True))
    assert promoted["changed"]


def test_a_bundle_that_predicts_times_which_no_machine_takes_is_refused(
    repository, tiny_bundle, tmp_path
) -> None:
    prior = json.loads((tiny_bundle / "prior.json").read_bytes())
    prior["mean"][-1] = -60.0  # log seconds an operation
    golden = json.loads((tiny_bundle / "manifest.json").read_bytes())["golden"]
    encoder = (tiny_bundle / "encoder.onnx").read_bytes()
    bad = write_bundle(tmp_path / "bad", encoder, json.dumps(prior).encode(), golden=golden)
    with pytest.raises(BundleError, match="which is impossible"):
        publish.add_bundle(place(repository), bad, Audience("pilot"))
    assert not (repository / "public" / "targets").exists()


def test_no_bundle_takes_the_name_of_the_one_that_comes_with_the_agent(
    where, tiny_bundle, tmp_path
) -> None:
    own = load_bundle(default_bundle())
    other = bundle_like(tiny_bundle, tmp_path / "other", own.version, name=own.name)
    with pytest.raises(InputError, match="is the name of the bundle that comes with the agent"):
        put(where, other, "pilot")


def test_a_name_and_version_never_means_other_bytes(where, tiny_bundle, versions, tmp_path) -> None:
    put(where, versions[0], "pilot")
    publish.withdraw_bundle(where, "tiny@1")
    other = bundle_like(tiny_bundle, tmp_path / "other", "1", created="2026-11-11T00:00:00Z")
    for channel in ("pilot", "stable"):
        with pytest.raises(InputError, match="published before with other content"):
            put(where, other, channel)


def test_an_older_bundle_is_taken_with_a_warning(where, versions) -> None:
    put(where, versions[1], "pilot")
    assert "not-newer" in codes(put(where, versions[0], "pilot", 10))
    assert "not-newer" not in codes(put(where, versions[2], "pilot", 10))


def test_doubts_about_a_bundle_are_told(where, tiny_bundle, tmp_path, versions) -> None:
    said = {"code_version": "0123", "evaluation": {"log_error": 0.4}, "seeds": [1]}
    good = bundle_like(tiny_bundle, tmp_path / "good", "7", provenance=said)
    assert codes(put(where, good, "pilot")) == []
    dirty = {**said, "code_version": "0123-dirty"}
    bad = bundle_like(tiny_bundle, tmp_path / "bad", "8", provenance=dirty)
    assert codes(put(where, bad, "stable")) == ["code-unknown"]


# promote


def test_promoting_gives_stable_the_same_bytes_under_its_own_key(
    repository, public, where, client, versions
) -> None:
    put(where, versions[0], "pilot")
    publish.promote_bundle(where, "tiny", Audience("stable", 25))
    assert client.offers(public) == {"pilot/settled": "tiny@1", "stable/candidate": "tiny@1"}
    (pilot,) = (public / "targets" / "pilot").iterdir()
    (stable,) = (public / "targets" / "stable").iterdir()
    assert pilot.read_bytes() == stable.read_bytes()


def test_promoting_within_pilot_widens_the_roll_out_of_its_candidate(
    public, where, client, versions
) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot", 10)
    answer = publish.promote_bundle(
        where, "tiny", Audience("pilot", 50)
    )  # no doubt which one is meant
    assert answer["channels"][0]["candidate"]["rollout"] == 50
    assert codes(publish.promote_bundle(where, "tiny", Audience("pilot", 20))) == [
        "rollout-lowered"
    ]
    publish.promote_bundle(where, "tiny", Audience("pilot"))
    assert client.offers(public) == {"pilot/settled": "tiny@2"}


def test_a_name_that_means_two_bundles_must_be_said_with_its_version(where, versions) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot", 10)
    with pytest.raises(InputError, match="several bundles called tiny") as caught:
        publish.promote_bundle(where, "tiny", Audience("stable"))
    assert "tiny@1 or tiny@2" in caught.value.hint
    assert codes(publish.promote_bundle(where, "tiny@2", Audience("stable"))) == ["pilot-candidate"]


def test_what_pilot_does_not_have_cannot_be_promoted(where, versions) -> None:
    put(where, versions[0], "stable")
    with pytest.raises(InputError, match="pilot has no bundle called tiny") as caught:
        publish.promote_bundle(where, "tiny", Audience("stable"))
    assert "nothing" in caught.value.hint


def test_what_was_settled_before_can_still_be_promoted(public, where, client, versions) -> None:
    for version in versions[:3]:
        put(where, version, "pilot")
    publish.promote_bundle(where, "tiny@1", Audience("stable"))
    assert client.offers(public)["stable/settled"] == "tiny@1"


def test_a_settled_bundle_cannot_be_rolled_out_to_fewer(where, versions) -> None:
    put(where, versions[0], "pilot")
    with pytest.raises(InputError, match="is settled"):
        publish.promote_bundle(where, "tiny", Audience("pilot", 10))


def test_promoting_bytes_that_are_gone_is_told(public, where, versions) -> None:
    put(where, versions[0], "pilot")
    next((public / "targets" / "pilot").iterdir()).write_bytes(b"rotten")
    with pytest.raises(RepositoryError, match="missing or damaged"):
        publish.promote_bundle(where, "tiny", Audience("stable"))


# withdraw


def test_withdrawing_brings_back_what_was_settled_before(public, where, client, versions) -> None:
    for version in versions[:3]:
        put(where, version, "pilot")
    publish.withdraw_bundle(where, "tiny@3")
    assert client.offers(public) == {"pilot/settled": "tiny@2"}
    publish.withdraw_bundle(where, "tiny@1")  # offered no more; some machine may still have it
    publish.withdraw_bundle(where, "tiny@2")
    assert client.offers(public) == {}


def test_every_target_says_what_is_withdrawn_and_so_does_the_role(
    repository, where, versions
) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot")
    put(where, versions[2], "pilot", 10)
    publish.withdraw_bundle(where, "tiny@2")
    role = signed(repository, "5.pilot.json")
    gone = [digest(versions[1])]
    assert [entry["custom"]["withdrawn"] for entry in role["targets"].values()] == [gone, gone]
    assert role["withdrawn"] == gone
    publish.withdraw_bundle(where, "tiny@3")
    publish.withdraw_bundle(where, "tiny@1")
    role = signed(repository, "7.pilot.json")
    assert role["targets"] == {}
    assert role["withdrawn"] == [digest(versions[n]) for n in (1, 2, 0)]


def test_withdrawing_a_candidate_leaves_the_settled_one(public, where, client, versions) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot", 10)
    publish.withdraw_bundle(where, "tiny@2")
    assert client.offers(public) == {"pilot/settled": "tiny@1"}


def test_withdrawing_is_for_every_channel_unless_one_is_named(
    public, where, client, versions
) -> None:
    for channel in ("pilot", "stable"):
        put(where, versions[0], channel)
        put(where, versions[1], channel)
    publish.withdraw_bundle(where, "tiny@2", "stable")
    assert client.offers(public) == {"pilot/settled": "tiny@2", "stable/settled": "tiny@1"}
    answer = publish.withdraw_bundle(where, "tiny@2")
    assert [c["channel"] for c in answer["channels"]] == ["pilot"]
    assert client.offers(public)["pilot/settled"] == "tiny@1"
    with pytest.raises(InputError, match="no bundle called tiny@9"):
        publish.withdraw_bundle(where, "tiny@9")


def test_one_command_withdraws_from_both_channels_and_every_machine_goes_on(
    repository, public, where, client, fresh, versions
) -> None:
    for channel in ("pilot", "stable"):
        put(where, versions[0], channel)
        put(where, versions[1], channel)
    client.offers(public)
    then = later(where, hours=1)
    before = signed(repository, "timestamp.json")["version"]
    answer = publish.withdraw_bundle(then, "tiny@2")
    assert [c["channel"] for c in answer["channels"]] == ["pilot", "stable"]
    assert signed(repository, "timestamp.json")["version"] == before + 1
    left = {"pilot/settled": "tiny@1", "stable/settled": "tiny@1"}
    assert client.offers(public, then.now) == fresh().offers(public, then.now) == left
    found = check_repository(then)
    assert found["ok"], found["problems"]
    renew_online(later(then, days=1))
    assert client.offers(public, then.now) == left


def test_a_snapshot_signed_twice_in_one_change_is_described_as_it_is_written(
    repository, public, where, client, versions
) -> None:
    draft = where.draft()
    for name in ("pilot", "stable"):
        with draft.edit_targets(name):
            pass  # signing is all
        draft.add_online()
    draft.publish()
    assert client.offers(public) == {}
    assert check_repository(where)["ok"]


def test_the_daily_timestamp_repairs_one_that_describes_another_snapshot(
    repository, public, where, client
) -> None:
    path = public / "metadata" / "1.snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_bytes())))  # signed the same, other bytes
    with pytest.raises(DownloadLengthMismatchError):
        client.offers(public)
    renew_online(where)
    assert client.offers(public) == {}


@pytest.mark.parametrize("wanted", ["tiny@2", "tiny@4"])
def test_a_candidate_that_another_replaced_can_still_be_withdrawn(
    repository, public, where, client, versions, wanted
) -> None:
    """Most machines of the first roll-out run it, and the channel's record has forgotten it."""
    put(where, versions[0], "pilot")
    put(where, versions[0], "stable")
    put(where, versions[1], "pilot", 99)
    put(where, versions[3], "pilot", 99)
    put(where, versions[4], "pilot", 1)
    answer = publish.withdraw_bundle(where, wanted)
    assert [c["channel"] for c in answer["channels"]] == ["pilot"]
    (number,) = [n for n in (1, 3) if wanted == f"tiny@{n + 1}"]
    assert answer["channels"][0]["withdrawn"] == [digest(versions[number])]
    assert client.offers(public) == {
        "pilot/settled": "tiny@1", "pilot/candidate": "tiny@5", "stable/settled": "tiny@1",
    }  # fmt: skip
    with pytest.raises(InputError, match="stable has no bundle called"):
        publish.withdraw_bundle(where, wanted, "stable")


def test_what_is_withdrawn_already_is_told_and_nothing_is_signed(
    repository, where, versions
) -> None:
    put(where, versions[0], "pilot")
    assert publish.withdraw_bundle(where, "tiny@1")["changed"]
    before = signed(repository, "timestamp.json")
    assert not publish.withdraw_bundle(where, "tiny@1")["changed"]
    assert signed(repository, "timestamp.json") == before


def test_withdrawing_everywhere_needs_the_keys_of_both_and_is_all_or_nothing(
    repository, public, where, client, versions
) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[0], "stable")
    (repository / "keys" / "stable.pem").unlink()
    with pytest.raises(SigningKeyError, match="signing stable"):
        publish.withdraw_bundle(place(repository), "tiny")
    assert len(client.offers(public)) == 2


def test_what_was_withdrawn_comes_back_only_on_purpose(where, public, client, versions) -> None:
    put(where, versions[0], "pilot")
    publish.withdraw_bundle(where, "tiny")
    with pytest.raises(InputError, match="was withdrawn") as caught:
        put(where, versions[0], "pilot")
    assert "--again" in caught.value.hint
    answer = put(where, versions[0], "pilot", again=True)
    assert answer["channels"][0]["withdrawn"] == []
    assert client.offers(public) == {"pilot/settled": "tiny@1"}


# Channels, as pure functions

LISTED = [Listed("a", str(n), f"{n:064x}", 2, 10, f"{n:064x}") for n in range(30)]


@given(st.lists(st.tuples(st.sampled_from(LISTED), st.sampled_from([0, 1, 50, 100])), max_size=60))
def test_no_sequence_of_changes_offers_what_is_withdrawn(steps) -> None:
    channel = Channel()
    for bundle, rollout in steps:
        settled = channel.settled
        if rollout == 0:
            channel = channels.without_bundle(channel, bundle.digest)
            assert bundle.digest in channel.withdrawn
        elif settled != bundle or rollout == 100:
            channel = channels.offer(channel, bundle, rollout, again=True)
            assert bundle in channel.offered
        known = [x.digest for x in (*channel.history, *([channel.settled] * bool(channel.settled)))]
        assert len(set(known)) == len(known)
        assert not {x.digest for x in channel.known} & set(channel.withdrawn)
        assert len(channel.history) <= channels.MOST_HISTORY
        assert len(channel.withdrawn) <= MAX_WITHDRAWN
        assert bool(channel.candidate) == (0 < channel.rollout < 100)
        assert channel.candidate is None or channel.candidate != channel.settled
        role = Repository(Path("nowhere"), NOW).open("pilot").signed
        channels.write_channel(channel, "pilot", role)
        assert channels.read_channel("pilot", role) == channel


@pytest.mark.parametrize(
    "spoil",
    [
        lambda role: role.unrecognized_fields.update(history=[{}]),
        lambda role: role.unrecognized_fields.update(withdrawn=["x"]),
        lambda role: role.targets["pilot/settled.bundle"].custom.pop("name"),
        lambda role: role.targets["pilot/settled.bundle"].unrecognized_fields.clear(),
    ],
)
def test_a_role_that_this_centre_did_not_write_is_told(spoil) -> None:
    role = Repository(Path("nowhere"), NOW).open("pilot").signed
    channels.write_channel(Channel(settled=LISTED[0]), "pilot", role)
    spoil(role)
    with pytest.raises(RepositoryError, match="not this centre's"):
        channels.read_channel("pilot", role)


# timestamp


def test_most_days_only_the_timestamp_is_new(repository, where) -> None:
    assert renew_online(later(where, days=1))["renewed"] == ["timestamp"]
    assert renew_online(later(where, days=16))["renewed"] == ["snapshot", "timestamp"]
    assert signed(repository, "2.snapshot.json")["expires"] == "2026-04-16T12:00:00Z"
    assert signed(repository, "timestamp.json")["signed_at"] == "2026-03-17T12:00:00Z"


@pytest.mark.parametrize("days", [8, 29, 300])
def test_expired_online_signatures_are_repaired(where, public, client, versions, days) -> None:
    put(where, versions[0], "pilot")
    client.offers(public)
    then = later(where, days=days)
    with pytest.raises(ExpiredMetadataError):
        client.offers(public, then.now)
    renew_online(then, clock_is_right=True)
    assert client.offers(public, then.now) == {"pilot/settled": "tiny@1"}


def test_roles_that_end_soon_are_told_and_expired_ones_too(where) -> None:
    assert codes(renew_online(where)) == []
    then = later(where, days=2 * 365 - 59)
    assert codes(renew_online(then, clock_is_right=True)) == ["expires-soon"] * 2
    then = later(where, days=2 * 365 + 1)
    answer = renew_online(then, clock_is_right=True)
    assert codes(answer) == ["expired"] * 2
    assert "`bundles repo renew pilot`" in answer["notes"][0]["message"]


@pytest.mark.parametrize(
    ("days", "words"),
    [(-1, "was signed at 2026-03-01"), (31, "31 days after"), (9_000, "9000 days")],
)
def test_a_clock_that_is_plainly_wrong_signs_nothing(
    repository, where, versions, tmp_path, days, words
) -> None:
    put(where, versions[0], "pilot")
    before = signed(repository, "timestamp.json")
    actions = (
        renew_online,
        lambda w: put(w, versions[1], "pilot"),
        lambda w: publish.promote_bundle(w, "tiny", Audience("stable")),
        lambda w: publish.withdraw_bundle(w, "tiny"),
        lambda w: renew_role(w, "pilot"),
        lambda w: rotation.replace_key(w, "pilot"),
        lambda w: stick.export_copy(w, tmp_path / "stick", timedelta(days=1)),
    )
    for action in actions:
        with pytest.raises(InputError, match=words):
            action(later(where, days=days))
    assert signed(repository, "timestamp.json") == before
    renew_online(later(where, days=days), clock_is_right=True)


def asked(public: Path, root: bytes, cache: Path, now: datetime, floors=NO_FLOORS) -> Trusted:
    """What a machine of pilot trusts that knows ``floors``."""
    source = open_source(str(public))
    return refresh(source, Trust(root, "pilot", cache, floors, now.timestamp())).trusted


@pytest.mark.parametrize(("days", "taken"), [(400, True), (23_400, False)], ids=["2027", "2090"])
def test_a_signature_of_the_future_is_repaired_as_the_how_to_says(
    repository, public, where, versions, tmp_path, days, taken
) -> None:
    put(where, versions[0], "pilot")
    root, cache = first_root(repository), tmp_path / "cache"
    floors = asked(public, root, cache, NOW).floors
    future = later(where, days=days)
    renew_online(future, clock_is_right=True)
    if taken:
        floors = asked(public, root, cache, NOW, floors).floors
        assert floors.signed_at == future.now.timestamp()
    else:  # by then all else has expired
        with pytest.raises(UntrustedError):
            asked(public, root, cache, NOW, floors)
    right = later(where, hours=1)
    with pytest.raises(InputError, match="signed at") as caught:
        renew_online(right)
    assert "`bundles rotate-key online`" in caught.value.hint
    rotation.replace_key(right, "online")
    trusted = asked(public, root, cache, right.now, floors)
    assert trusted.floors.signed_at == right.now.timestamp()
    assert trusted.offers["settled"].version == "1"
    then = later(right, days=1)
    put(then, versions[1], "pilot")
    for known, kept in ((trusted.floors, cache), (NO_FLOORS, tmp_path / "new")):
        assert asked(public, root, kept, then.now, known).offers["settled"].version == "2"
    assert check_repository(then)["ok"]


def test_a_new_online_key_is_not_begun_by_a_clock_far_ahead_unless_a_person_says_so(
    repository, where
) -> None:
    (repository / "keys" / "online.pem").unlink()  # `timestamp` could not sign first
    then = later(place(repository), days=100)
    with pytest.raises(InputError, match="100 days after") as caught:
        rotation.replace_key(then, "online")
    assert "add --clock-is-right" in caught.value.hint
    rotation.replace_key(then, "online", clock_is_right=True)
    assert check_repository(then)["ok"]


# rotate_key, renew


ROTATED = ["root", "root-2", "targets", "pilot", "stable", "online", "root", "timestamp", "pilot"]


def test_a_client_that_slept_through_every_rotation_follows(
    repository, public, where, client, fresh, versions
) -> None:
    put(where, versions[0], "pilot")
    assert client.offers(public) == {"pilot/settled": "tiny@1"}
    awake = fresh()
    for role in ROTATED:
        answer = rotation.replace_key(where, role)
        assert Path(answer["new"]).exists()
        assert awake.offers(public) == {"pilot/settled": "tiny@1"}
        assert fresh().offers(public) == {"pilot/settled": "tiny@1"}
    put(where, versions[1], "pilot")
    assert client.offers(public) == {"pilot/settled": "tiny@2"}
    states = {role["role"]: role["keys"] for role in repository_status(where)["roles"]}
    assert states == {
        "root": ["root-4.pem", "root-5.pem", "root-6.pem"],
        "targets": ["targets-2.pem"],
        "pilot": ["pilot-3.pem"],
        "stable": ["stable-2.pem"],
        "snapshot": ["online-3.pem"],
        "timestamp": ["online-3.pem"],
    }


@pytest.mark.parametrize("role", ["targets", "pilot", "online"])
def test_what_a_replaced_key_signs_is_refused(
    repository, public, where, client, versions, role, tmp_path
) -> None:
    """A thief with the old key: signs with a repository as it was before the rotation."""
    stolen = Path(shutil.copytree(repository, tmp_path / "stolen"))
    rotation.replace_key(where, role)
    put(where, versions[0], "pilot")
    client.offers(public)
    thief = later(place(stolen), days=1)
    for version in versions[:4]:  # ahead of the true one
        put(thief, version, "pilot")
    for root in public.glob("metadata/*.root.json"):
        shutil.copy(root, stolen / "public" / "metadata")
    with pytest.raises((UnsignedMetadataError, BadVersionNumberError)):
        client.offers(stolen / "public", thief.now)


def test_a_root_key_is_replaced_by_name_and_a_lost_one_is_not_needed(repository, public, client):
    (repository / "keys" / "root-2.pem").unlink()
    rotation.replace_key(place(repository), "root-2")
    (root,) = [r for r in repository_status(place(repository))["roles"] if r["role"] == "root"]
    assert root["keys"] == ["root-1.pem", "root-3.pem", "root-4.pem"]
    assert client.offers(public) == {}
    signatures = json.loads((public / "metadata" / "2.root.json").read_bytes())["signatures"]
    assert len(signatures) == 3  # two of the old root's, and the new one


def test_with_a_root_threshold_lost_nothing_is_changed_and_no_key_is_left(repository) -> None:
    for name in ("root-2.pem", "root-3.pem"):
        (repository / "keys" / name).unlink()
    before = sorted(p.name for p in (repository / "keys").iterdir())
    with pytest.raises(SigningKeyError, match="2 of the 3 present root keys, and found 1"):
        rotation.replace_key(place(repository), "root")
    with pytest.raises(SigningKeyError):
        rotation.replace_key(place(repository), "targets")
    assert sorted(p.name for p in (repository / "keys").iterdir()) == before
    assert not (repository / "public" / "metadata" / "2.root.json").exists()


@pytest.mark.parametrize("role", ["targets", "pilot", "online"])
def test_a_lost_key_can_be_replaced(repository, public, client, role) -> None:
    client.offers(public)
    (repository / "keys" / f"{role}.pem").unlink()
    rotation.replace_key(place(repository), role)
    assert client.offers(public) == {}
    renew_online(place(repository))


def test_a_new_key_goes_where_it_is_told_but_the_online_key_stays(repository, tmp_path) -> None:
    away = tmp_path / "away"
    made = rotation.replace_key(place(repository, keys=[away]), "pilot", away)
    assert made["new"] == str(away / "pilot-2.pem")
    made = rotation.replace_key(place(repository, keys=[away]), "online", away)
    assert made["new"] == str(repository / "keys" / "online-2.pem")
    rotation.replace_key(place(repository, keys=[away]), "pilot", away)
    assert sorted(p.name for p in away.iterdir()) == ["pilot-2.pem", "pilot-3.pem"]


@pytest.mark.parametrize(
    ("role", "words"),
    [("root", "a place of its own"), ("targets", "offline"), ("stable", "those who release")],
)
def test_a_new_key_that_lands_beside_the_online_one_is_to_be_moved(
    repository, tmp_path, role, words
) -> None:
    answer = rotation.replace_key(place(repository), role)
    (note,) = answer["notes"]
    assert note["code"] == "offline-keys-here"
    assert answer["new"] in note["message"]
    assert words in note["message"]
    assert "--new-key-in" in note["message"]
    assert codes(rotation.replace_key(place(repository), role, tmp_path / "away")) == []


def test_a_new_online_key_belongs_where_it_is(repository) -> None:
    assert codes(rotation.replace_key(place(repository), "online")) == []


@pytest.mark.parametrize("wanted", ["nobody", "root-9", "", "../root"])
def test_a_key_that_does_not_exist_cannot_be_replaced(where, wanted) -> None:
    with pytest.raises(InputError, match="there is no key"):
        rotation.replace_key(where, wanted)


@pytest.mark.parametrize("role", ["root", "targets", "pilot", "stable"])
def test_a_renewed_role_holds_its_whole_life_again(repository, public, client, role) -> None:
    client.offers(public)
    then = later(place(repository), days=20)
    answer = renew_role(then, role)
    (state,) = [r for r in answer["roles"] if r["role"] == role]
    assert state["version"] == 2
    assert state["days_left"] in (2 * 365, 3 * 365)
    renew_online(then)
    assert client.offers(public, then.now) == {}


def test_online_roles_are_not_renewed_by_hand(where) -> None:
    with pytest.raises(InputError) as caught:
        renew_role(where, "snapshot")
    assert "bundles timestamp" in caught.value.hint
    with pytest.raises(InputError, match="no role leaf"):
        renew_role(where, "leaf")


# export


def test_a_stick_is_taken_for_its_whole_life_and_no_longer(
    where, versions, fresh, tmp_path
) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot", 10)
    publish.promote_bundle(where, "tiny@1", Audience("stable"))
    answer = stick.export_copy(where, tmp_path / "stick", timedelta(days=400))
    assert answer["holds_until"] == "2027-04-05T12:00:00Z"
    offered = {"pilot/settled": "tiny@1", "pilot/candidate": "tiny@2", "stable/settled": "tiny@1"}
    assert fresh().offers(tmp_path / "stick", NOW + timedelta(days=399)) == offered
    with pytest.raises(ExpiredMetadataError):
        fresh().offers(tmp_path / "stick", NOW + timedelta(days=400))
    with pytest.raises(ExpiredMetadataError):
        fresh().offers(where.directory / "public", NOW + timedelta(days=8))


def test_a_machine_that_asked_the_live_repository_since_refuses_the_stick(
    where, public, client, versions, tmp_path
) -> None:
    """Else whoever finds a stick could hold machines on its state for its whole life."""
    put(where, versions[0], "pilot")
    client.offers(public)
    stick.export_copy(where, tmp_path / "stick", timedelta(days=400))
    client.offers(tmp_path / "stick")  # not asked since: fine
    client.offers(public)
    with pytest.raises(BadVersionNumberError):
        client.offers(tmp_path / "stick")
    put(where, versions[1], "pilot")
    assert client.offers(public) == {"pilot/settled": "tiny@2"}


def test_sticks_one_after_another_are_each_newer(where, versions, client, tmp_path) -> None:
    for number, version in enumerate(versions[:3]):
        put(where, version, "pilot")
        stick.export_copy(where, tmp_path / "stick", timedelta(days=300))
        assert client.offers(tmp_path / "stick") == {"pilot/settled": f"tiny@{number + 1}"}
    files = [p for p in (tmp_path / "stick").rglob("*") if p.is_file()]
    assert len(files) == 1 + 1 + 5  # bundle, root; pilot, stable, targets, snapshot, timestamp


def test_a_stick_holds_nothing_that_is_secret(where, versions, tmp_path) -> None:
    put(where, versions[0], "pilot")
    stick.export_copy(where, tmp_path / "stick", timedelta(days=400))
    names = {p.name for p in (tmp_path / "stick").iterdir()}
    assert names == {"metadata", "targets"}
    files = [p for p in (tmp_path / "stick").rglob("*") if p.is_file()]
    assert not [p for p in files if b"PRIVATE" in p.read_bytes()]


def test_a_stick_that_would_outlive_a_role_is_refused(
    repository, where, versions, tmp_path
) -> None:
    publish.add_bundle(where, versions[0], Audience("stable"))
    before = signed(repository, "timestamp.json")
    with pytest.raises(InputError, match="pilot on 2028-02-29, stable on") as caught:
        stick.export_copy(where, tmp_path / "stick", timedelta(days=800))
    assert "`bundles repo renew pilot` and `bundles repo renew stable`" in caught.value.hint
    assert "--valid 730d" in caught.value.hint
    assert not (tmp_path / "stick").exists()
    assert signed(repository, "timestamp.json") == before
    for role in ("pilot", "stable"):
        renew_role(later(where, days=29), role)
    stick.export_copy(later(where, days=29), tmp_path / "stick", timedelta(days=730))


def test_exporting_into_a_directory_of_somebody_else_is_refused(repository, where, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()
    for out in (tmp_path / "photos", tmp_path / "file", repository / "public", repository / "new"):
        with pytest.raises(InputError):
            stick.export_copy(where, out, timedelta(days=30))


def test_a_plain_export_is_what_is_served(public, where, versions, fresh, tmp_path) -> None:
    put(where, versions[0], "pilot")
    put(where, versions[1], "pilot")
    stick.export_copy(where, tmp_path / "www")
    assert fresh().offers(tmp_path / "www") == fresh().offers(public)
    served = {p.relative_to(tmp_path / "www"): p for p in (tmp_path / "www").rglob("*.*")}
    assert all((public / name).read_bytes() == path.read_bytes() for name, path in served.items())


@pytest.mark.parametrize(("text", "days"), [("400d", 400), ("52w", 364), ("1 day", 1)])
def test_a_life_is_read(text, days) -> None:
    assert stick.parse_valid(text) == timedelta(days=days)


@pytest.mark.parametrize("text", ["", "400", "0d", "-1d", "1y", "999999d", "400d or so"])
def test_what_is_no_life_is_refused(text) -> None:
    with pytest.raises(InputError, match="is not a time"):
        stick.parse_valid(text)


# check


def test_a_repository_and_its_export_are_in_order(repository, where, versions, tmp_path) -> None:
    put(where, versions[0], "pilot")
    stick.export_copy(where, tmp_path / "stick", timedelta(days=100))
    for directory in (repository, tmp_path / "stick"):
        found = check_repository(place(directory))
        assert found["ok"], found["problems"]
        assert found["channels"][0]["settled"]["version"] == "1"


OFFLINE_KEYS = {
    f"{name}.pem" for name in ("root-1", "root-2", "root-3", "targets", "pilot", "stable")
}


@pytest.mark.parametrize(
    ("left", "enough"),
    [
        (OFFLINE_KEYS, True),
        ({"root-1.pem", "root-3.pem"}, True),
        ({"root-2.pem"}, False),
        ({"targets.pem"}, False),
        ({"pilot.pem", "stable.pem"}, False),
    ],
)
def test_any_offline_key_beside_the_online_one_is_noted(repository, left, enough) -> None:
    for name in OFFLINE_KEYS - left:
        (repository / "keys" / name).unlink()
    (note,) = check_repository(place(repository))["notes"]
    assert note["code"] == "offline-keys-here"
    assert {name for name in OFFLINE_KEYS if name in note["message"]} == left
    assert ("enough to replace every key" in note["message"]) == enough


def test_with_the_online_key_alone_nothing_is_noted(repository) -> None:
    for name in OFFLINE_KEYS:
        (repository / "keys" / name).unlink()
    assert codes(check_repository(place(repository))) == []


def test_checking_changes_nothing(repository, where, versions) -> None:
    put(where, versions[0], "pilot")
    before = {p: p.stat().st_mtime_ns for p in repository.rglob("*")}
    check_repository(place(repository))
    assert {p: p.stat().st_mtime_ns for p in repository.rglob("*")} == before


def spoil_target(public: Path) -> None:
    path = next((public / "targets" / "pilot").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def spoil_signature(public: Path) -> None:
    path = public / "metadata" / "timestamp.json"
    said = json.loads(path.read_bytes())
    said["signed"]["version"] += 1
    path.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_target, "pilot"),
        (spoil_signature, "timestamp"),
        (lambda public: (public / "metadata" / "2.pilot.json").unlink(), "2.pilot.json"),
        (lambda public: (public / "metadata" / "2.pilot.json").write_text("{}"), "pilot"),
        (
            lambda public: (public / "metadata" / "timestamp.json").unlink(),
            "timestamp.json is missing",
        ),
    ],
)
def test_what_machines_refuse_is_found(repository, public, where, versions, spoil, words) -> None:
    put(where, versions[0], "pilot")
    spoil(public)
    found = check_repository(place(repository))
    assert not found["ok"]
    assert any(words in problem["message"] for problem in found["problems"]), found["problems"]


def test_signatures_that_ended_are_problems_and_ending_ones_notes(repository, where) -> None:
    found = check_repository(later(where, days=8))
    assert codes(found, "problems") == ["refused", "refused", "expired"]
    renew_online(later(where, days=710), clock_is_right=True)
    found = check_repository(later(where, days=710))
    assert found["ok"]
    assert codes(found)[-2:] == ["expires-soon", "expires-soon"]


def test_a_repository_of_somebody_else_is_found_by_the_root_that_machines_have(
    repository, tmp_path, monkeypatch
) -> None:
    make_repository(place(tmp_path / "other"), 1, 1)
    (tmp_path / "root.json").write_bytes(first_root(tmp_path / "other"))
    found = check_repository(place(repository), tmp_path / "root.json")
    assert not found["ok"]
    with pytest.raises(InputError, match="cannot be read"):
        check_repository(place(repository), tmp_path / "no.json")


def test_bytes_that_a_withdrawal_would_need_are_missed_early(
    repository, public, where, versions
) -> None:
    put(where, versions[0], "pilot")
    old = next((public / "targets" / "pilot").iterdir())
    put(where, versions[1], "pilot")
    old.unlink()
    assert "history" in codes(check_repository(place(repository)))


def test_a_timer_that_could_not_sign_is_told(repository) -> None:
    (repository / "keys" / "online.pem").unlink()
    found = check_repository(place(repository))
    assert found["ok"]
    assert codes(found)[0] == "online-key"


# Any sequence

OPERATIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 4), st.sampled_from(["pilot", "stable"]),
              st.sampled_from([1, 30, 100])),
    st.tuples(st.just("promote"), st.integers(0, 4), st.sampled_from(["pilot", "stable"]),
              st.sampled_from([60, 100])),
    st.tuples(st.just("withdraw"), st.integers(0, 4), st.sampled_from(["pilot", "stable", None])),
    st.tuples(st.just("timestamp"), st.integers(0, 20)),
    st.tuples(st.just("rotate"), st.sampled_from(["root", "targets", "pilot", "online"])),
)  # fmt: skip


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(OPERATIONS, min_size=3, max_size=9))
def test_after_any_sequence_old_and_new_clients_agree_with_the_centre(
    made_repository, versions, tmp_path_factory, monkeypatch, steps
) -> None:
    monkeypatch.setattr(pem, "SCRYPT_N", 2)
    folder = tmp_path_factory.mktemp("sequence")
    repository = Path(shutil.copytree(made_repository, folder / "repository"))
    where, root = place(repository), first_root(repository)
    always, asleep = Client(folder / "always", root), Client(folder / "asleep", root)
    asleep.offers(repository / "public")
    for number, step in enumerate(steps):
        where = later(where, hours=1)
        act(where, versions, step)
        if step[0] == "timestamp":
            where = later(where, days=step[1])
        public = repository / "public"
        fresh = Client(folder / f"fresh-{number}", root)
        assert always.offers(public, where.now) == fresh.offers(public, where.now)
        assert fresh.offers(public, where.now) == said_by(repository_status(where))
    assert asleep.offers(repository / "public", where.now) == always.offers(public, where.now)


def act(where, versions, step) -> None:
    kind, *rest = step
    try:
        if kind == "add":
            put(where, versions[rest[0]], rest[1], rest[2])
        elif kind == "promote":
            publish.promote_bundle(where, f"tiny@{rest[0] + 1}", Audience(rest[1], rest[2]))
        elif kind == "withdraw":
            publish.withdraw_bundle(where, f"tiny@{rest[0] + 1}", rest[1])
        elif kind == "timestamp":
            renew_online(later(where, days=rest[0]), clock_is_right=True)
        else:
            rotation.replace_key(where, rest[0])
    except InputError:
        pass  # what makes no sense is refused; nothing may have changed


def said_by(status) -> dict[str, str]:
    found = {}
    for channel in status["channels"]:
        for slot in ("settled", "candidate"):
            if bundle := channel[slot]:
                found[f"{channel['channel']}/{slot}"] = f"{bundle['name']}@{bundle['version']}"
    return found


def test_times_are_utc_in_whole_seconds(repository) -> None:
    moment = datetime(2026, 3, 2, 1, 2, 3, 999_999, tzinfo=UTC)
    renew_online(place(repository, moment))
    assert signed(repository, "timestamp.json")["signed_at"] == "2026-03-02T01:02:03Z"
