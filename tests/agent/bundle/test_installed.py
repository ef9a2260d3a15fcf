"""Which bundle is in force, and what happens where it cannot be used."""

import json
import shutil

import pytest

from agent.bundle.bundle import default_bundle, load_bundle
from agent.bundle.installed import (
    ACTIVATED,
    BUILT_IN,
    DECLINED,
    PINNED,
    UNPINNED,
    bundle_for,
    bundle_in_force,
    left,
    outdated,
    path_of,
    pin_of,
    ways_back,
)
from agent.state.state import open_state, read_state
from agent.update.install import sweep
from tests.agent.state.states import left_by_schema


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path) as opened:
        yield opened


@pytest.fixture
def make(tmp_path, tiny_bundle):
    """Install the tiny bundle under a version of one's own; its digest."""

    def made(version: str) -> str:
        place = tmp_path / "making"
        shutil.copytree(tiny_bundle, place)
        manifest = json.loads((place / "manifest.json").read_text())
        (place / "manifest.json").write_text(json.dumps({**manifest, "version": version}))
        digest = load_bundle(place).digest
        path_of(tmp_path, digest).parent.mkdir(exist_ok=True)
        place.rename(path_of(tmp_path, digest))
        return digest

    return made


def activate(state, *digests: str) -> None:
    for digest in digests:
        state.note([(ACTIVATED, digest, {"why": "update"})], 0.0)


def test_a_fresh_machine_uses_the_built_in_bundle(state, tmp_path) -> None:
    assert bundle_in_force(state, tmp_path).bundle.path == default_bundle()


def test_the_newest_activation_is_in_force(state, tmp_path, make) -> None:
    first, second = make("1"), make("2")
    activate(state, first, second)
    assert bundle_in_force(state, tmp_path).bundle.digest == second
    activate(state, first)
    assert bundle_in_force(state, tmp_path).bundle.digest == first


@pytest.mark.parametrize("harm", ["missing", "torn", "exchanged"])
def test_a_bundle_that_is_not_whole_gives_way_to_the_one_before(
    state, tmp_path, make, harm
) -> None:
    first, second = make("1"), make("2")
    activate(state, first, second)
    path = path_of(tmp_path, second)
    if harm == "missing":
        shutil.rmtree(path)
    elif harm == "torn":
        (path / "encoder.onnx").write_bytes(b"")
    else:
        shutil.rmtree(path)
        shutil.copytree(path_of(tmp_path, first), path)
    found = bundle_in_force(state, tmp_path)
    assert found.bundle.digest == first
    assert [code for code, _ in found.notes] == ["bundle-passed-over"]


def test_with_all_bundles_gone_the_built_in_one_still_works(state, tmp_path, make) -> None:
    activate(state, make("1"), make("2"))
    shutil.rmtree(tmp_path / "bundles")
    found = bundle_in_force(state, tmp_path)
    assert found.bundle.path == default_bundle()
    assert len(found.notes) == 2


def test_a_bundle_that_was_left_is_no_way_back_until_it_is_activated_again(
    state, tmp_path, make
) -> None:
    first, second = make("1"), make("2")
    activate(state, first, second)
    state.note([(DECLINED, second, {}), (ACTIVATED, first, {})], 1.0)
    assert ways_back(state) == (first,)
    assert set(left(state)) == {second}
    activate(state, second)
    assert ways_back(state) == (second, first)
    assert not left(state)


def test_the_built_in_bundle_comes_back_whatever_its_digest_is_by_then(
    state, tmp_path, make
) -> None:
    activate(state, make("1"), BUILT_IN)
    assert bundle_in_force(state, tmp_path).bundle.path == default_bundle()


def test_a_pin_holds_until_it_is_taken_away(state) -> None:
    assert pin_of(state) is None
    state.note([(PINNED, "a", {})], 0.0)
    assert pin_of(state).digest == "a"
    state.note([(UNPINNED, "a", {})], 0.0)
    assert pin_of(state) is None


def test_predicting_keeps_to_the_calibrations_own_bundle(
    tmp_path, state, tiny_bundle, make
) -> None:
    activate(state, make("1"))
    record(state, load_bundle(tiny_bundle))
    assert bundle_for(None, state, tmp_path).bundle.path == tiny_bundle


def test_predicting_leaves_a_calibrations_bundle_that_was_declined(
    tmp_path, state, tiny_bundle, make
) -> None:
    first = make("1")
    record(state, load_bundle(tiny_bundle))
    state.note([(DECLINED, load_bundle(tiny_bundle).digest, {}), (ACTIVATED, first, {})], 0.0)
    assert bundle_for(None, state, tmp_path).bundle.digest == first


def test_predicting_leaves_a_calibration_that_an_unfitted_bundle_outdates(
    tmp_path, state, tiny_bundle, make
) -> None:
    record(state, load_bundle(tiny_bundle))
    first = make("1")
    last = state.calibration_in_force()
    state.note([(ACTIVATED, first, {"outdates": last.id})], 0.0)
    assert outdated(last.id, last.body["bundle"]["digest"], state)
    assert bundle_for(None, state, tmp_path).bundle.digest == first
    record(state, load_bundle(tiny_bundle))
    last = state.calibration_in_force()
    assert not outdated(last.id, last.body["bundle"]["digest"], state)
    assert bundle_for(None, state, tmp_path).bundle.path == tiny_bundle


def test_predicting_leaves_a_path_where_another_bundle_lies_by_now(
    tmp_path, state, tiny_bundle, make
) -> None:
    place = tmp_path / "mine"
    shutil.copytree(tiny_bundle, place)
    record(state, load_bundle(place))
    shutil.rmtree(place)
    path_of(tmp_path, make("9")).rename(place)
    assert bundle_for(None, state, tmp_path).bundle.path == default_bundle()


def test_predicting_goes_on_where_the_calibrations_bundle_was_damaged(
    tmp_path, state, tiny_bundle
) -> None:
    place = tmp_path / "mine"
    shutil.copytree(tiny_bundle, place)
    record(state, load_bundle(place))
    (place / "prior.json").write_text("{")
    found = bundle_for(None, state, tmp_path)
    assert found.bundle.path == default_bundle()
    assert [code for code, _ in found.notes] == ["bundle-passed-over"]


def test_sweeping_keeps_what_is_named_and_removes_the_rest(tmp_path, make) -> None:
    kept, other = make("1"), make("2")
    (tmp_path / "bundles" / ".new-abc").mkdir()
    sweep(tmp_path, [kept])
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == [path_of(tmp_path, kept).name]
    assert not path_of(tmp_path, other).exists()


def test_events_of_a_state_of_an_older_agent_are_none(tmp_path) -> None:
    left_by_schema(1, tmp_path / "old")
    with read_state(tmp_path / "old") as old:
        assert old.events() == ()
        assert old.fact("x") is None
        assert bundle_in_force(old, tmp_path / "old").bundle.path == default_bundle()
    with open_state(tmp_path / "old") as old:
        old.remember("x", {"y": 1})
        assert old.fact("x") == {"y": 1}


def record(state, bundle) -> None:
    """A calibration on a bundle."""
    run = state.begin_run("x", 0)
    state.finish(run, {"bundle": {"digest": bundle.digest, "path": str(bundle.path)}}, 0.0)
