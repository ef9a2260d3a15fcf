"""From a file to a machine that looks after itself, and away again."""

import sqlite3
from contextlib import closing

import pytest

from agent.state import file as state_file
from agent.state.file import SCHEMA
from tests.agent.state.states import made_newer
from tests.system.box import END_LIMIT_S, within
from tests.system.conftest import (
    JOBS,
    SITE,
    STATE,
    asked,
    begin_measuring,
    forget,
    other_version,
    timings,
    unit,
)


def named_after_it(box):
    """Everything on the disk with its name, but for logs."""
    return {p for p in box.written("*calibration-agent*") if not p.is_relative_to("var/log")}


@pytest.fixture(scope="module")
def installed(new_box, package):
    with new_box() as box:
        box.boot()
        said = box.run("dpkg", "--install", package)
        yield box, said


def units_known(box):
    listed = ("list-units", "--all", "--plain", "--no-legend", "calibration*")
    return box.run("systemctl", *listed).out


def assert_timers_wait(box):
    for job in JOBS:
        assert box.run("systemctl", "is-enabled", unit(job, "timer")).out == "enabled\n"
        assert box.run("systemctl", "is-active", unit(job, "timer")).out == "active\n"
        assert box.show(unit(job, "timer"), "NextElapseUSecRealtime")


def test_it_is_installed_without_a_network(installed):
    box, said = installed
    assert "Setting up calibration-agent" in said.out
    assert len(box.run("cat", "/proc/net/route").out.splitlines()) == 1  # the heading: no route
    assert box.run("agent", "--version").out.startswith("agent ")


def test_manual_pages_and_completion_are_in_the_package(installed):
    box, _ = installed
    pages = box.run("ls", "/usr/share/man/man1").out.split()
    assert {"agent.1.gz", "agent-rank.1.gz", "agent-bundle-pin.1.gz"} <= set(pages)
    assert "complete" in box.run("cat", "/usr/share/bash-completion/completions/agent").out


def test_every_timer_waits_and_nothing_has_failed(installed):
    box, _ = installed
    assert_timers_wait(box)
    assert box.failed() == frozenset()


def test_systemd_finds_nothing_to_complain_about_in_the_units(installed):
    box, _ = installed
    units = [unit(job, kind) for job in JOBS for kind in ("service", "timer")] + [unit("notify")]
    said = box.run("systemd-analyze", "verify", "--man=no", *units).err.splitlines()
    assert [line for line in said if "calibration-agent" in line] == []  # some are of others' units


def test_the_state_is_its_own_users_and_there_before_the_first_job(installed):
    box, _ = installed
    found = box.run("stat", "-c", "%U %G %a", f"/{STATE}").out
    assert found == "calibration-agent calibration-agent 700\n"


def test_the_self_test_passes(installed):
    box, _ = installed
    assert box.run("agent", "self-test", "--json").json["schema"] == 1


def test_nothing_in_the_package_is_compiled_again_at_a_start(installed):
    box, _ = installed
    box.run("agent", "--version")
    newer = (
        "find",
        "/usr/lib/calibration-agent",
        "-newer",
        "/var/lib/dpkg/status",
        "-name",
        "*.py*",
    )
    assert box.run(*newer).out == ""


def test_an_upgrade_stops_the_job_at_work_and_keeps_what_it_has_measured(
    installed, package, tmp_path
):
    box, _ = installed
    box.write("/etc/calibration-agent/conf.d/50-test.toml", SITE)
    box.drop_in(unit("calibrate"), "[Service]\nTimeoutStopSec=120s")  # this machine may be busy
    newer = other_version(package, "0.1.0+later", SCHEMA, tmp_path)  # before: it takes a while
    begin_measuring(box)
    before = timings(box)
    try:
        box.run("dpkg", "--install", newer)
    finally:
        newer.unlink()
    assert box.show(unit("calibrate"), "ActiveState") == "inactive"
    assert box.show(unit("calibrate"), "Result") == "success"
    assert timings(box) >= before
    assert_timers_wait(box)
    box.without_drop_in(unit("calibrate"))


def test_a_state_of_the_first_schema_is_taken_over(installed):
    box, _ = installed
    forget(box)
    with closing(sqlite3.connect(box.root / STATE / "state.sqlite")) as old:
        old.executescript(state_file._TABLES)
        old.execute("INSERT INTO run VALUES (7, 1.0, NULL, 'of long ago', 4)")
        old.execute(f"PRAGMA application_id={state_file.APPLICATION}")
        old.execute("PRAGMA user_version=1")
        old.commit()
    box.run("chown", "calibration-agent:calibration-agent", f"/{STATE}/state.sqlite")
    box.run("agent", "bundle", "pin")
    assert asked(box, "PRAGMA user_version") == SCHEMA
    assert asked(box, "SELECT id FROM run") == 7


def test_an_older_package_refuses_a_state_that_it_cannot_read(installed, package, tmp_path):
    box, _ = installed
    box.run("agent", "bundle", "pin")
    older = other_version(package, "0.0.9", SCHEMA - 1, tmp_path)
    try:
        said = box.run("dpkg", "--install", older, check=False)
    finally:
        older.unlink()
    assert said.code != 0
    assert f"/{STATE}/state.sqlite was written by a newer agent" in said.err
    assert f"rm /{STATE}/state.sqlite" in said.err
    version = box.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "calibration-agent").out
    assert version == "0.1.0+later install ok installed"
    assert box.run("agent", "bundle", "unpin").code == 0
    assert_timers_wait(box)


def test_an_agent_leaves_the_state_of_a_newer_one_alone_and_says_so(installed):
    box, _ = installed
    made_newer(box.root / STATE)
    box.run("systemctl", "start", unit("calibrate"), check=False)
    assert box.show(unit("calibrate"), "ExecMainStatus") == "2"
    said = box.words(unit("calibrate"))
    assert "newer" in said
    assert "Traceback" not in said
    assert asked(box, "PRAGMA user_version") == SCHEMA + 1
    forget(box)


def test_removing_keeps_the_state_and_purging_forgets_it(installed):
    box, _ = installed
    box.write("/etc/calibration-agent/conf.d/50-site.toml", 'budget = "20s"')
    box.run("agent", "bundle", "pin")
    assert named_after_it(box)
    box.run("dpkg", "--remove", "calibration-agent")
    assert (box.root / STATE / "state.sqlite").exists()
    assert (box.root / "etc/calibration-agent/config.toml").exists()
    box.run("dpkg", "--purge", "calibration-agent")
    assert named_after_it(box) == set()
    assert box.failed() == frozenset()


def test_a_purge_empties_a_disk_mounted_for_the_state_and_leaves_no_failed_unit(installed, package):
    box, _ = installed
    box.run("dpkg", "--install", package)
    mine = "uid=calibration-agent,gid=calibration-agent,mode=700"
    box.run("mount", "-t", "tmpfs", "-o", mine, "disk", f"/{STATE}")
    box.run("agent", "bundle", "pin")
    box.run("test", "-e", f"/{STATE}/state.sqlite")
    box.write("/etc/calibration-agent/conf.d/50-broken.toml", "budget = [")
    box.run("systemctl", "start", unit("calibrate"), check=False)
    assert unit("calibrate") in box.failed()
    said = box.run("dpkg", "--purge", "calibration-agent")
    assert f"/{STATE} stays" in said.err
    assert box.run("find", f"/{STATE}", "-mindepth", "1").out == ""
    assert box.run("dpkg-query", "-W", "calibration-agent", check=False).code != 0
    # systemd forgets a unit that is no more in its own time
    within(END_LIMIT_S, lambda: not units_known(box), "units that are gone are still known")
    box.run("umount", f"/{STATE}")
    assert box.failed() == frozenset()
