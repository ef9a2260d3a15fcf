"""``agent update`` and ``agent bundle`` as a person runs them, against a real repository."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler
from threading import Event

import pytest

from agent.bundle.bundle import default_bundle, load_bundle
from agent.bundle.installed import path_of
from agent.model.paired import Judgement, PairedLoss
from agent.state.rows import seal_all
from agent.state.state import open_state
from agent.update.flow import SECRET, bucket
from agent.update.verdict import both_judged
from bundles.repository import stick as publish_stick
from tests.agent.update.in_process import agent
from tests.agent.update.published import made_bundle, new_centre, served
from tests.conftest import agent as agent_process
from tests.conftest import valid
from tests.fake_runner import FEW_S, FakeRunner, as_the_bundle_says, calibrate_simulated

BUILT_IN = load_bundle(default_bundle()).digest


@pytest.fixture(scope="session")
def truth(first):
    """A machine of which the first bundle is right, but for its being three times as slow."""
    return FakeRunner(as_the_bundle_says(first, times=3.0), noise=0.02)


@pytest.fixture(scope="session")
def once_measured(made_once, truth, first):
    def fill(place):
        assert calibrate_simulated(place / "state", first, machine=truth).body.verdict.believed

    return made_once("measured", fill) / "state"


@pytest.fixture
def machine(tmp_path, once_measured):
    """A machine with stored timings of its own."""
    shutil.copytree(once_measured, tmp_path / "machine")
    return tmp_path / "machine"


@pytest.fixture
def fresh(tmp_path):
    """A machine that was never calibrated."""
    return tmp_path / "machine"


def update(state, centre, *more, place=None):
    where = place or centre.public
    return agent("update", "--from", where, "--root", centre.root, "--state-dir", state, *more)


def in_force(state) -> str:
    rows = agent("bundle", "list", "--state-dir", state, "--json").json["bundles"]
    return next(row["digest"] for row in rows if row["in_force"])


BROKEN_PROXIES = {
    "ALL_PROXY": "socks5://user:secret@127.0.0.1:1",
    "HTTPS_PROXY": "http://user:secret@127.0.0.1:99999",
    "https_proxy": "nonsense.invalid",
}


@pytest.mark.parametrize("variable", BROKEN_PROXIES)
def test_a_variable_that_names_no_usable_proxy_is_named(fresh, centre, variable):
    to = ("--from", "https://bundles.invalid", "--root", centre.root, "--state-dir", fresh)
    ran = agent_process("update", *to, **{variable: BROKEN_PROXIES[variable]})
    assert ran.code == 4
    assert "proxy" in ran.err
    assert f"hint: Set {variable} to an HTTP proxy, as in http://HOST:PORT" in ran.err
    assert "secret" not in ran.err


def test_a_broken_proxy_for_http_is_nothing_to_a_server_on_this_machine(fresh, centre, first):
    centre.add(first)
    with served(centre.public) as url:
        to = ("--from", url, "--root", centre.root, "--state-dir", fresh)
        ran = agent_process("update", *to, HTTP_PROXY="nonsense", ALL_PROXY="socks5://x:1")
    assert ran.code == 0, ran.err


def test_a_bundle_from_a_web_server_is_put_in_force_and_predicts(
    fresh, centre, first, gemm
) -> None:
    digest = centre.add(first)
    with served(centre.public) as url:
        words = ("--from", url, "--root", centre.root, "--state-dir", fresh, "--json")
        ran = agent_process("update", *words)
    assert ran.code == 0, ran.err
    valid(ran.json, "update")
    assert ran.json["outcome"] == "activated"
    assert ran.json["before"]["digest"] == BUILT_IN
    assert ran.json["after"]["digest"] == digest == in_force(fresh)
    sizes = [x for n in ("ni", "nj", "nk") for x in ("--size", f"{n}=64")]
    asked = (
        "predict",
        gemm,
        *sizes,
        "--no-run",
        "--schedule",
        "original",
        "--state-dir",
        fresh,
        "--json",
    )
    assert agent(*asked).json["bundle"]["name"] == "field"


def test_a_directory_works_like_a_web_server(fresh, centre, first) -> None:
    digest = centre.add(first)
    assert update(fresh, centre).code == 0
    assert in_force(fresh) == digest


def test_a_second_update_has_nothing_to_do(fresh, centre, first) -> None:
    centre.add(first)
    update(fresh, centre)
    ran = update(fresh, centre, "--json")
    assert (ran.code, ran.json["outcome"]) == (7, "up-to-date")


def test_checking_says_what_there_is_and_changes_nothing(fresh, centre, first) -> None:
    digest = centre.add(first)
    ran = update(fresh, centre, "--check", "--json")
    assert (ran.code, ran.json["outcome"]) == (0, "available")
    assert ran.json["offered"]["digest"] == digest
    assert in_force(fresh) == BUILT_IN
    assert not list((fresh / "bundles").glob("*"))


def test_an_update_refits_the_stored_timings_and_shows_both_scores(
    machine, centre, first, second
) -> None:
    centre.add(first)
    update(machine, centre, "--force")
    centre.add(second)
    ran = update(machine, centre, "--force", "--json")
    valid(ran.json, "update")
    verdict = ran.json["verdict"]
    assert verdict["kernels"] >= 3
    assert {verdict["old"], verdict["new"]} > {0.0} or verdict["old"] != verdict["new"]
    status = agent("status", "--state-dir", machine, "--json").json["calibration"]
    assert status["bundle"]["digest"] == ran.json["after"]["digest"] == in_force(machine)
    words = agent("bundle", "list", "--state-dir", machine).out
    assert "by update" in words


def test_a_bundle_that_is_worse_here_is_not_kept_nor_asked_for_again(
    machine, centre, misleading
) -> None:
    digest = centre.add(misleading)
    ran = update(machine, centre, "--json")
    valid(ran.json, "update")
    assert (ran.code, ran.json["outcome"]) == (7, "declined")
    assert ran.json["verdict"]["worse"]
    assert in_force(machine) == BUILT_IN
    again = update(machine, centre, "--json")
    assert (again.code, again.json["outcome"]) == (7, "declined")
    assert [n["code"] for n in again.json["notes"]] == ["declined-before"]
    forced = update(machine, centre, "--force", "--json")
    assert (forced.code, forced.json["outcome"]) == (0, "activated")
    assert in_force(machine) == digest


def test_a_bundle_that_is_shown_to_be_no_worse_here_is_taken(machine, centre, first) -> None:
    digest = centre.add(first)
    ran = update(machine, centre, "--json")
    valid(ran.json, "update")
    assert (ran.code, ran.json["outcome"]) == (0, "activated")
    assert ran.json["verdict"]["no_worse"]
    assert ran.json["verdict"]["seconds_difference"] <= 0
    assert in_force(machine) == digest


def test_four_kernels_are_no_evidence_so_an_update_waits_for_more(
    tmp_path, centre, first, truth
) -> None:
    place = tmp_path / "few"
    assert calibrate_simulated(place, first, FEW_S, truth).body.verdict.believed
    digest = centre.add(first)
    ran = update(place, centre, "--json")
    valid(ran.json, "update")
    assert (ran.code, ran.json["outcome"]) == (7, "waiting")
    assert [note["code"] for note in ran.json["notes"]] == ["too-few-kernels"]
    assert in_force(place) == BUILT_IN
    assert "waits until it can be compared" in update(place, centre).out
    calibrate_simulated(place, first, machine=truth)
    assert update(place, centre, "--json").json["outcome"] == "activated"
    assert in_force(place) == digest


@pytest.mark.parametrize(
    ("speedups", "times", "decision"),
    [
        ((-0.1, 0.02), (-0.1, 0.02), "take"),
        ((-0.1, 0.02), (0.3, 0.02), "decline"),
        ((0.3, 0.02), (-0.1, 0.02), "decline"),
        ((-0.1, 0.02), (0.1, 0.3), "wait"),
        ((0.83, 0.8), (-0.1, 0.02), "wait"),
    ],
)
def test_both_predictions_are_judged_and_what_cannot_be_told_waits(
    speedups, times, decision
) -> None:
    def judged(gap):
        return Judgement(PairedLoss(12, 1.0, 1.0 + gap[0], *gap))

    assert both_judged(judged(speedups), judged(times)).decision == decision


def test_a_withdrawn_bundle_is_left_for_the_one_before_it(machine, centre, first, second) -> None:
    digest = centre.add(first)
    update(machine, centre, "--force")
    centre.add(second)
    update(machine, centre, "--force")
    centre.withdraw("field@2")
    ran = update(machine, centre, "--json")
    assert (ran.code, ran.json["outcome"]) == (0, "activated")
    assert in_force(machine) == digest
    assert "withdrawn" in [n["code"] for n in ran.json["notes"]]
    assert update(machine, centre, "--json").json["outcome"] == "up-to-date"


def test_the_only_bundle_withdrawn_brings_back_the_built_in_one(fresh, centre, first) -> None:
    centre.add(first)
    update(fresh, centre)
    centre.withdraw("field")
    ran = update(fresh, centre, "--json")
    assert (ran.code, ran.json["outcome"]) == (0, "went-back")
    assert in_force(fresh) == BUILT_IN
    assert update(fresh, centre).code == 7


def test_a_rollback_refits_and_updates_do_not_undo_it(machine, centre, first, second) -> None:
    digest = centre.add(first)
    update(machine, centre, "--force")
    centre.add(second)
    update(machine, centre, "--force")
    ran = agent("bundle", "rollback", "--state-dir", machine, "--json")
    assert ran.code == 0, ran.err
    valid(ran.json, "bundle-rollback")
    assert in_force(machine) == digest
    status = agent("status", "--state-dir", machine, "--json").json["calibration"]
    assert status["bundle"]["digest"] == digest
    assert update(machine, centre, "--json").json["outcome"] == "declined"
    assert in_force(machine) == digest


def test_a_pinned_machine_stays_until_it_is_unpinned(fresh, centre, first) -> None:
    digest = centre.add(first)
    ran = agent("bundle", "pin", "--state-dir", fresh, "--json")
    valid(ran.json, "bundle-pin")
    assert update(fresh, centre).code == 7
    assert in_force(fresh) == BUILT_IN
    assert agent("bundle", "rollback", "--state-dir", fresh).code == 2
    agent("bundle", "unpin", "--state-dir", fresh)
    assert update(fresh, centre).code == 0
    assert in_force(fresh) == digest


def test_bundles_are_listed_and_shown_with_where_they_came_from(fresh, centre, first) -> None:
    digest = centre.add(first)
    update(fresh, centre)
    listed = agent("bundle", "list", "--state-dir", fresh, "--json").json
    valid(listed, "bundle-list")
    assert [row["digest"] for row in listed["bundles"]] == [digest, BUILT_IN]
    for which in ("field", "field 1", digest[:12]):
        shown = agent("bundle", "show", which, "--state-dir", fresh, "--json").json
        valid(shown, "bundle-show")
        assert (shown["digest"], shown["licence"]) == (digest, "Apache-2.0")
    built_in = agent("bundle", "show", "built-in", "--state-dir", fresh).out
    assert "evaluation" in built_in
    assert agent("bundle", "show", "nonsense", "--state-dir", fresh).code == 2


def test_a_bundle_damaged_on_the_disk_is_fetched_again(fresh, centre, first, second) -> None:
    centre.add(first)
    update(fresh, centre)
    digest = centre.add(second)
    update(fresh, centre)
    path = next(p for p in (fresh / "bundles").iterdir() if digest.startswith(p.name))
    (path / "encoder.onnx").write_bytes(b"torn")
    assert in_force(fresh) != digest
    assert update(fresh, centre).code == 0
    assert in_force(fresh) == digest


def test_a_machine_outside_the_roll_out_takes_what_is_settled(
    tmp_path, centre, first, second
) -> None:
    settled, candidate = centre.add(first), centre.add(second, rollout=50)
    found = set()
    for number in range(6):
        state = tmp_path / f"m{number}"
        assert update(state, centre).code == 0
        found.add(in_force(state))
    assert found <= {settled, candidate}
    assert found


def test_nothing_on_offer_is_no_failure(fresh, centre) -> None:
    ran = update(fresh, centre, "--json")
    assert (ran.code, ran.json["outcome"]) == (7, "not-offered")


def test_where_there_is_something_is_said(fresh, centre, first) -> None:
    centre.add(first, channel="pilot")
    ran = update(fresh, centre)
    assert ran.code == 7
    assert "stable offers nothing for this machine" in ran.out
    assert 'channel pilot offers field 1 (`channel = "pilot"` in the configuration)' in ran.out


def test_a_machine_that_was_not_drawn_is_told_so(fresh, centre, first) -> None:
    digest = centre.add(first, rollout=50)
    secret = next(x for n in range(99) if bucket(x := bytes([n]) * 32, digest) >= 50)
    with open_state(fresh) as state:
        state.remember(SECRET, {"secret": secret.hex()})
    ran = update(fresh, centre)
    assert ran.code == 7
    assert "stable offers field 1 to 50 % of its machines, chosen at random, and this" in ran.out
    assert "channel pilot" not in ran.out


def test_a_bundle_for_another_agent_is_not_fetched(fresh, centre, first, monkeypatch) -> None:
    from agent.loopnest.features.vector import FEATURES_VERSION
    from bundles.repository import publish

    monkeypatch.setattr(publish, "FEATURES_VERSION", FEATURES_VERSION + 1)
    centre.add(first)
    ran = update(fresh, centre, "--json")
    assert (ran.code, ran.json["outcome"]) == (7, "not-offered")
    assert [n["code"] for n in ran.json["notes"]] == ["other-agent"]


def test_an_unreachable_repository_is_told_apart_from_an_untrusted_one(
    tmp_path, fresh, centre, first
) -> None:
    centre.add(first)
    gone = update(fresh, centre, place="http://127.0.0.1:9")
    assert gone.code == 4
    nowhere = update(fresh, centre, place=tmp_path / "no-stick")
    assert nowhere.code == 4
    other = tmp_path / "root.json"
    root = json.loads(centre.root.read_text())
    root["signatures"] = root["signatures"][:1]
    other.write_text(json.dumps(root))
    asked = ("--from", centre.public, "--root", other, "--state-dir", fresh)
    assert agent("update", *asked).code == 5
    assert in_force(fresh) == BUILT_IN


def test_expired_signatures_are_refused_and_the_clock_is_named(fresh, tmp_path, first) -> None:
    last_week = datetime.now(UTC) - timedelta(days=8)
    centre = new_centre(tmp_path / "centre", last_week)
    centre.add(first, now=last_week)
    ran = update(fresh, centre)
    assert ran.code == 5
    assert "clock" in ran.err
    centre.timestamp()
    assert update(fresh, centre).code == 0


def test_without_a_repository_or_a_root_it_is_said_what_to_configure(fresh, centre, first) -> None:
    centre.add(first)
    ran = agent("update", "--state-dir", fresh)
    assert ran.code == 7  # every hour on machines that have none: not a failure
    assert "repository" in ran.err
    ran = agent("update", "--from", centre.public, "--root", "/nowhere", "--state-dir", fresh)
    assert ran.code == 2
    assert "root.json" in ran.err


def test_the_repository_may_come_from_the_configuration(tmp_path, fresh, centre, first) -> None:
    centre.add(first, "pilot")
    file = tmp_path / "config.toml"
    file.write_text(
        f'repository = "{centre.public}"\ntrusted_root = "{centre.root}"\nchannel = "pilot"\n'
    )
    assert agent("update", "--state-dir", fresh, AGENT_CONFIG=str(file)).code == 0
    bad = file.with_name("bad.toml")
    bad.write_text('channel = "nightly"\n')
    assert agent("update", "--state-dir", fresh, AGENT_CONFIG=str(bad)).code == 2


def test_an_update_waits_for_nobody_and_names_who_is_at_work(fresh, centre, first) -> None:
    from agent.state.lock import hold

    centre.add(first)
    fresh.mkdir()
    with hold(fresh, "calibrate"):
        ran = update(fresh, centre)
    assert ran.code == 6
    assert "agent calibrate" in ran.err


def test_an_update_does_not_write_into_a_state_that_was_replaced_while_it_waited(
    fresh, centre, first
) -> None:
    centre.add(first)

    class Replacing(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.endswith("settled.bundle"):
                shutil.copy(fresh / "state.sqlite", fresh / "restored")
                (fresh / "restored").rename(fresh / "state.sqlite")
            super().do_GET()

        def log_message(self, *_):
            pass

    with served(centre.public, Replacing) as url:
        ran = update(fresh, centre, place=url)
    assert ran.code == 2
    assert "has taken the place of" in ran.err
    assert in_force(fresh) == BUILT_IN
    assert update(fresh, centre).code == 0


def test_three_ways_back_are_kept_and_older_bundles_leave_the_disk(fresh, centre, tmp_path) -> None:
    for number in range(6):
        centre.add(made_bundle(tmp_path / f"b{number}", str(number), seed=number))
        assert update(fresh, centre).code == 0
    assert len(list((fresh / "bundles").iterdir())) == 4
    rows = agent("bundle", "list", "--state-dir", fresh, "--json").json["bundles"]
    assert sum(not row["on_disk"] for row in rows) == 2


def test_a_password_in_the_address_is_not_shown(fresh, centre, first) -> None:
    centre.add(first)
    with served(centre.public) as url:
        secret = url.replace("http://", "http://user:geheim@")
        ran = update(fresh, centre, "--json", place=secret)
        again = update(fresh, centre, place=secret)
    assert ran.code == 0, ran.err
    assert "geheim" not in ran.out + ran.err + again.out + again.err


def test_a_bundle_offered_again_is_taken_again(fresh, centre, first) -> None:
    digest = centre.add(first)
    update(fresh, centre)
    centre.withdraw("field")
    update(fresh, centre)
    assert in_force(fresh) == BUILT_IN
    centre.add(first)
    assert update(fresh, centre).code == 0
    assert in_force(fresh) == digest


def test_checking_says_that_the_bundle_in_force_was_withdrawn(fresh, centre, first) -> None:
    digest = centre.add(first)
    update(fresh, centre)
    centre.withdraw("field")
    ran = update(fresh, centre, "--check", "--json")
    valid(ran.json, "update")
    assert (ran.code, ran.json["outcome"]) == (0, "withdrawn")
    assert in_force(fresh) == digest


def test_a_rollback_does_not_go_to_a_withdrawn_bundle(fresh, centre, first, second) -> None:
    centre.add(first)
    update(fresh, centre)
    centre.add(second)
    update(fresh, centre)
    centre.withdraw("field@1")
    update(fresh, centre)
    assert agent("bundle", "rollback", "--state-dir", fresh).code == 0
    assert in_force(fresh) == BUILT_IN
    assert update(fresh, centre, "--json").json["outcome"] == "declined"
    assert in_force(fresh) == BUILT_IN


def test_what_was_rolled_back_stays_on_the_disk_should_it_be_wanted(
    tmp_path, fresh, centre, first
) -> None:
    digest = centre.add(first)
    update(fresh, centre)
    agent("bundle", "rollback", "--state-dir", fresh)
    rows = agent("bundle", "list", "--state-dir", fresh, "--json").json["bundles"]
    assert [row["on_disk"] for row in rows if row["digest"] == digest] == [True]


def test_a_damaged_database_stops_the_update_that_finds_it(fresh, centre, first) -> None:
    centre.add(first)
    agent("bundle", "pin", "--state-dir", fresh)
    (fresh / "state.sqlite").write_bytes(b"rubbish" * 1000)
    ran = update(fresh, centre)
    assert ran.code == 2
    assert "damaged" in ran.err
    assert "pin" in ran.err
    assert in_force(fresh) == BUILT_IN
    assert update(fresh, centre).code == 0


def test_a_calibration_of_another_machine_does_not_hide_the_bundle_in_force(
    machine, centre, first, gemm
) -> None:
    """Its timings cannot be fitted again here."""
    digest = centre.add(first)
    with open_state(machine) as state:
        state._db.execute("UPDATE timing SET machine = 'another'")
        seal_all(state._db, "timing")
    ran = update(machine, centre, "--json")
    assert [n["code"] for n in ran.json["notes"]] == ["not-calibrated"]
    assert ran.json["after"]["digest"] == digest
    sizes = [x for n in ("ni", "nj", "nk") for x in ("--size", f"{n}=64")]
    asked = (
        "predict",
        gemm,
        *sizes,
        "--no-run",
        "--schedule",
        "original",
        "--state-dir",
        machine,
        "--json",
    )
    assert agent(*asked).json["bundle"]["name"] == "field"
    notes = agent("status", "--state-dir", machine, "--json").json["notes"]
    assert [note["code"] for note in notes] == ["other-bundle"]


def test_the_bundle_commands_alone_show_their_help() -> None:
    ran = agent("bundle")
    assert ran.code == 0
    assert "rollback" in ran.out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
def test_root_leaves_the_state_of_a_user_alone(fresh, centre, first) -> None:
    centre.add(first)
    agent("bundle", "pin", "--state-dir", fresh)
    for path in (fresh, *fresh.iterdir()):
        os.chown(path, 54321, 54321)
    words = ("--from", centre.public, "--root", centre.root, "--state-dir", fresh)
    ran = agent_process("update", *words)  # it may become that user for good
    assert ran.code == 2
    assert "54321" in ran.err
    assert {path.stat().st_uid for path in fresh.iterdir()} == {54321}


def test_something_else_in_the_place_of_a_bundle_does_not_stop_an_update(
    fresh, centre, first
) -> None:
    digest = centre.add(first)
    (fresh / "bundles").mkdir(parents=True)
    os.mkfifo(fresh / "bundles" / ".new-pipe")
    os.mkfifo(path_of(fresh, digest))
    assert update(fresh, centre).code == 0
    assert in_force(fresh) == digest
    assert [p.name for p in (fresh / "bundles").iterdir()] == [path_of(fresh, digest).name]


def test_a_site_may_change_to_another_centre(tmp_path, fresh, centre, first, second) -> None:
    centre.add(first)
    centre.timestamp()
    update(fresh, centre)
    other = new_centre(tmp_path / "other")
    digest = other.add(second)
    assert (
        agent("update", "--from", other.public, "--root", centre.root, "--state-dir", fresh).code
        == 5
    )
    assert update(fresh, other).code == 0
    assert in_force(fresh) == digest


def test_a_stick_that_is_served_in_place_of_the_live_repository_is_noted(
    fresh, tmp_path, first
) -> None:
    month = datetime.now(UTC) - timedelta(days=30)
    centre = new_centre(tmp_path / "centre", month)
    centre.add(first, now=month)
    stick = tmp_path / "stick"
    publish_stick.export_copy(centre.at(month), stick, timedelta(days=400))
    with served(stick) as url:
        ran = update(fresh, centre, "--json", place=url)
    assert ran.code == 0, ran.err
    assert "old-signature" in [note["code"] for note in ran.json["notes"]]
    plugged = update(fresh, centre, "--json", place=stick)
    assert "old-signature" not in [note["code"] for note in plugged.json["notes"]]


@pytest.mark.parametrize("awaited", ["timestamp.json", "settled.bundle"])
def test_another_command_works_while_an_update_waits_and_what_it_did_holds(
    fresh, centre, first, awaited
) -> None:
    centre.add(first)
    asked, go_on = Event(), Event()

    class Waiting(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.endswith(awaited):
                asked.set()
                go_on.wait(60)
            super().do_GET()

        def log_message(self, *_):
            pass

    with served(centre.public, Waiting) as url, ThreadPoolExecutor(1) as pool:
        words = ("--from", url, "--root", centre.root, "--state-dir", fresh, "--json")
        updating = pool.submit(agent_process, "update", *words)
        try:
            assert asked.wait(60)
            pinned = agent("bundle", "pin", "--state-dir", fresh)
            second_update = update(fresh, centre)
        finally:
            go_on.set()
        ran = updating.result()
    assert pinned.code == 0, pinned.err
    assert second_update.code == 6
    assert "agent update" in second_update.err
    assert (ran.code, ran.json["outcome"]) == (7, "pinned"), ran.err
    assert in_force(fresh) == BUILT_IN
