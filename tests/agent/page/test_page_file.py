"""The page on the disk, and the two options that write it."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import time

import numpy as np
import pytest

from agent.errors import InputError
from agent.page.document import GENERATOR
from agent.page.file import HEAD, check_page_path, is_page, write_page
from agent.page.gather import page_of
from tests.agent.commands.test_cli import failed
from tests.agent.state.states import changed, left_by_schema
from tests.conftest import agent
from tests.other_user import NOBODY, needs_root

PAGE = f'<!DOCTYPE html>\n<meta name="generator" content="{GENERATOR} 0" />old'


def test_the_page_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    write_page(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_is_replaced(tmp_path):
    path = tmp_path / "page.html"
    path.touch()
    write_page(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "content",
    [
        b"SQLite format 3\x00",
        b"<!DOCTYPE html><html><head></head></html>",
        b"\n" + PAGE.encode(),
        b"<!DOCTYPE html>" + b" " * 600 + PAGE.encode(),
        b"\xff",
    ],
)
def test_a_file_of_anything_else_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is there already, and is no page of this") as refused:
        write_page(path, "new")
    assert refused.value.hint == "Name a new file."
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_is_known_again(calibrated):
    assert is_page(page_of(calibrated).encode()[:HEAD])


@pytest.mark.parametrize("name", ["state/page.html", "state/cache/page.html", "way/page.html"])
def test_the_state_directory_is_no_place_for_a_page(tmp_path, name):
    (tmp_path / "state" / "cache").mkdir(parents=True)
    (tmp_path / "way").symlink_to("state")
    with pytest.raises(InputError, match="is in the state directory"):
        check_page_path(tmp_path / name, tmp_path / "state")
    check_page_path(tmp_path / "page.html", tmp_path / "state")
    check_page_path(tmp_path / "page.html", tmp_path / "not-there-yet")


@needs_root
def test_root_does_not_replace_another_users_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    with pytest.raises(InputError, match="a file of nobody's"):
        check_page_path(path)


@needs_root
def test_root_that_acts_as_the_owner_is_told_who_cannot_write_and_where_to(
    calibrated, open_place, as_root, tmp_path
):
    state = shutil.copytree(calibrated, open_place / "state")
    for found in (state, *state.rglob("*")):
        os.chown(found, NOBODY.pw_uid, NOBODY.pw_gid)
    tmp_path.chmod(0o700)
    report = ("--report", tmp_path / "page.html")
    ran = as_root("calibrate", "--refit", "--state-dir", state, *report)
    failed(ran, 2, "cannot be written by the user nobody, as whom this command acts")
    assert "hint: Name a file where nobody may write, e.g. --report /tmp/page.html." in ran.err


def test_the_page_can_be_read_by_whom_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        write_page(tmp_path / "p", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o640


def test_what_no_encoding_has_is_replaced(tmp_path):
    write_page(tmp_path / "p", "a\ud800b")
    assert (tmp_path / "p").read_bytes() == b"a?b"


def test_a_full_disk_leaves_the_old_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            write_page(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == PAGE
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", ["directory", "link", "loop", "fifo", "missing", "long"])
def test_a_place_that_is_no_plain_file_is_refused(tmp_path, make):
    path = tmp_path / "p"
    if make == "directory":
        path.mkdir()
    elif make == "link":
        (tmp_path / "other").write_text("other's")
        path.symlink_to(tmp_path / "other")
    elif make == "loop":
        path.symlink_to(path)
    elif make == "fifo":
        os.mkfifo(path)
    else:
        path = tmp_path / ("no/p" if make == "missing" else "x" * 300)
    with pytest.raises(InputError):
        check_page_path(path)


def test_status_writes_the_page_of_a_calibration(calibrated, tmp_path):
    page = tmp_path / "page.html"
    ran = agent("status", "--state-dir", calibrated, "--report", page)
    assert ran.code == 0
    assert "Calibration 1 is in force" in ran.out
    assert f"page written: {page}" in ran.err
    usable = stored(calibrated)["timings"]["usable"]
    text = page.read_text()
    assert f"All {usable} speed-ups as a table" in text
    assert len(text) < 300_000


def test_calibrate_writes_the_page_and_prints_no_points(calibrated, tiny_bundle, tmp_path):
    state = shutil.copytree(calibrated, tmp_path / "state")
    page = tmp_path / "page.html"
    arguments = ("--refit", "--bundle", tiny_bundle, "--state-dir", state, "--report", page)
    ran = agent("calibrate", "--json", *arguments)
    assert ran.code == 0, ran.err
    assert "points" not in ran.json
    assert ran.json["calibration_id"] == 2
    assert ("Calibration 2, made" in page.read_text()) == ran.json["in_force"]


def test_a_real_calibration_keeps_every_label_beside_its_predictions(really_calibrated):
    body = stored(really_calibrated[0])
    kinds = [p["kind"] for p in body["points"]]
    assert kinds.count("speedup") == body["timings"]["usable"]
    assert kinds.count("seconds") == body["timings"]["base_usable"]
    for way, name in (("calibrated", "calibrated"), ("bundle_alone", "alone")):
        for kind, key in (("speedup", "log_error"), ("seconds", "seconds_log_error")):
            pairs = [(p["measured"], p[name]) for p in body["points"] if p["kind"] == kind]
            error = np.mean([abs(np.log(m / p)) for m, p in pairs])
            assert error == pytest.approx(body["accuracy"][way][key], rel=1e-4)
    assert all(p["low"] <= p["measured"] <= p["high"] for p in body["points"])


def stored(state):
    with sqlite3.connect(f"file:{state}/state.sqlite?mode=ro", uri=True) as db:
        return json.loads(db.execute("SELECT body FROM calibration").fetchone()[0])


def test_a_page_that_cannot_be_written_is_refused_before_measuring(tmp_path, tiny_bundle):
    place = tmp_path / "no" / "page.html"
    arguments = ("--bundle", tiny_bundle, "--state-dir", tmp_path / "state", "--report", place)
    ran = failed(agent("calibrate", *arguments), 2, "there is no directory")
    assert "measuring" not in ran.err


def test_status_without_a_calibration_writes_a_page_that_says_what_to_do(tmp_path):
    page = tmp_path / "page.html"
    assert agent("status", "--state-dir", tmp_path / "none", "--report", page).code == 0
    assert "This machine is not calibrated." in page.read_text()
    assert not (tmp_path / "none").exists()


def test_checks_of_the_state_are_on_the_page_newest_first(calibrated, tmp_path):
    state = shutil.copytree(calibrated, tmp_path / "state")
    body = json.dumps({"verdict": "changed", "worst": 0.3, "sentinels": []})
    changed(state, "INSERT INTO drift (at, body) VALUES (?, ?)", time.time() - 60, "{}")
    changed(state, "INSERT INTO drift (at, body) VALUES (?, ?)", time.time() + 5, body)
    page = page_of(state)
    assert "The last check found that this machine has changed" in page
    assert "the 2 checks on record" in page


def test_a_state_of_an_older_agent_has_no_checks(tmp_path):
    assert "No check was made yet" in page_of(left_by_schema(2, tmp_path))


def test_a_calibration_that_does_not_hold_here_says_so(calibrated, tmp_path):
    state = shutil.copytree(calibrated, tmp_path / "state")
    found = stored(state)
    found["machine"]["fingerprint"] = "another"
    changed(state, "UPDATE calibration SET body = ?", json.dumps(found))
    assert "cannot be relied on here: it was made on another machine" in page_of(state)
