"""Which bundle a machine takes: pure decisions, no network."""

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.loopnest.features.vector import FEATURES_VERSION
from agent.state.state import BundleEvent, open_state
from agent.update.floors import Floors
from agent.update.flow import Decision, bucket, choose_offer, decide, roll_out_secret
from agent.update.offers import Offer
from agent.update.switch import ROLLED_BACK
from agent.update.trust import Trusted

FLOORS = Floors({}, {}, 0.0)
OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
SECRET = bytes(32)


def offer(digest=NEW, slot="settled", rollout=100, features=FEATURES_VERSION) -> Offer:
    return Offer(slot, "default", "3", digest, features, rollout, 1_000, None)


def signed(*offers: Offer, withdrawn=()) -> Trusted:
    return Trusted(FLOORS, {o.slot: o for o in offers}, frozenset(withdrawn), {}, ())


def event(kind: str, digest: str, **body: str) -> BundleEvent:
    return BundleEvent(1, 0.0, kind, digest, body)


def decided(trusted: Trusted, present=OLD, pin=None, refused=MappingProxyType({})) -> Decision:
    about = {"name": "default", "version": "2", "digest": present}
    return decide(trusted, choose_offer(trusted, SECRET, refused), about, pin, refused)


def step(trusted: Trusted, **more) -> str:
    return decided(trusted, **more).step


def codes(trusted: Trusted, **more) -> list[str]:
    return [code for code, _ in decided(trusted, **more).notes]


def test_another_bundle_is_taken() -> None:
    assert step(signed(offer())) == "take"


def test_the_bundle_in_force_is_up_to_date() -> None:
    assert step(signed(offer(OLD))) == "up-to-date"


def test_nothing_offered_leaves_the_machine_alone() -> None:
    assert step(signed()) == "not-offered"


def test_a_pinned_machine_stays_and_is_told_what_it_misses() -> None:
    pin = event("pinned", OLD)
    assert step(signed(offer()), pin=pin) == "pinned"
    assert codes(signed(offer()), pin=pin) == ["pinned-behind"]
    assert codes(signed(offer(OLD)), pin=pin) == []


def test_a_pinned_machine_stays_even_on_a_withdrawn_bundle_and_says_so() -> None:
    gone = signed(offer(), withdrawn=[OLD])
    assert step(gone, pin=event("pinned", OLD)) == "pinned"
    assert codes(gone, pin=event("pinned", OLD)) == ["pinned-withdrawn"]


def test_a_declined_bundle_is_not_taken_again_and_the_reason_is_told() -> None:
    refused = {NEW: event("declined", NEW, why="worse")}
    assert step(signed(offer()), refused=refused) == "declined"
    assert codes(signed(offer()), refused=refused) == ["declined-before"]


def test_a_declined_bundle_is_better_than_a_withdrawn_one() -> None:
    refused = {NEW: event("declined", NEW, why="worse")}
    assert step(signed(offer(), withdrawn=[OLD]), refused=refused) == "take"


def test_what_a_person_left_does_not_come_back_even_for_a_withdrawn_one() -> None:
    refused = {NEW: event("declined", NEW, why=ROLLED_BACK)}
    assert step(signed(offer(), withdrawn=[OLD]), refused=refused) == "leave"


def test_a_candidate_that_is_refused_or_for_another_agent_does_not_hide_what_is_settled() -> None:
    everybody = next(s for s in map(bytes, ([n] * 32 for n in range(99))) if bucket(s, NEW) < 99)
    for candidate, refused in (
        (offer(NEW, "candidate", 99), {NEW: event("declined", NEW, why="worse")}),
        (offer(NEW, "candidate", 99, FEATURES_VERSION + 1), {}),
    ):
        trusted = signed(offer(OTHER), candidate)
        assert choose_offer(trusted, everybody, refused).digest == OTHER


def test_a_withdrawn_bundle_is_left_where_nothing_else_is_offered() -> None:
    assert step(signed(withdrawn=[OLD])) == "leave"
    assert step(signed(offer(), withdrawn=[OLD, NEW])) == "leave"


def test_a_withdrawn_offer_is_no_offer() -> None:
    assert step(signed(offer(), withdrawn=[NEW])) == "not-offered"


@pytest.mark.parametrize(("version", "word"), [(1, "newer"), (-1, "older")])
def test_a_bundle_for_another_agent_is_not_taken(version: int, word: str) -> None:
    trusted = signed(offer(features=FEATURES_VERSION + version))
    assert step(trusted) == "not-offered"
    assert word in dict(decided(trusted).notes)["other-agent"]


@given(st.binary(min_size=32, max_size=32), st.integers(1, 99))
def test_a_machine_takes_the_candidate_exactly_if_its_bucket_is_below_the_roll_out(
    secret: bytes, rollout: int
) -> None:
    trusted = signed(offer(OTHER), offer(NEW, "candidate", rollout))
    chosen = choose_offer(trusted, secret)
    assert chosen is not None
    assert (chosen.digest == NEW) == (bucket(secret, NEW) < rollout)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 98))
def test_a_wider_roll_out_never_loses_a_machine(secret: bytes, rollout: int) -> None:
    few = signed(offer(OTHER), offer(NEW, "candidate", rollout))
    more = signed(offer(OTHER), offer(NEW, "candidate", rollout + 1))
    if choose_offer(few, secret) == few.offers["candidate"]:
        assert choose_offer(more, secret) == more.offers["candidate"]


def test_a_withdrawn_candidate_sends_everybody_to_what_is_settled() -> None:
    trusted = signed(offer(OTHER), offer(NEW, "candidate", 99), withdrawn=[NEW])
    assert {choose_offer(trusted, bytes([n] * 32)).digest for n in range(50)} == {OTHER}


def test_buckets_are_even_and_independent_from_bundle_to_bundle() -> None:
    secrets = [n.to_bytes(32, "big") for n in range(4_000)]
    first = [bucket(s, NEW) < 10 for s in secrets]
    second = [bucket(s, OTHER) < 10 for s in secrets]
    assert 300 < sum(first) < 500
    both = sum(a and b for a, b in zip(first, second, strict=True))
    assert both < 100  # 40 expected


def test_the_secret_is_made_once_and_kept(tmp_path) -> None:
    with open_state(tmp_path) as state:
        made = roll_out_secret(state)
    with open_state(tmp_path) as state:
        assert roll_out_secret(state) == made
    with open_state(tmp_path / "another") as state:
        assert roll_out_secret(state) != made
