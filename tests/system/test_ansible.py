"""The Ansible role on a machine that is booted: the package, the site's settings, the jobs."""

import json
import shutil

import pytest

from tests.system.conftest import REPOSITORY, unit

PLAYBOOK = shutil.which("ansible-playbook")
pytestmark = pytest.mark.skipif(not PLAYBOOK, reason="not installed: ansible-core, python3-apt")
SITE = {"calibration_agent_settings": {"max_busy": 0.1, "on_battery": True, "channel": "pilot"}}
SITE["calibration_agent_jobs"] = ["calibrate"]


@pytest.fixture(scope="module")
def machine(new_box, package):
    """A machine that is on, and a function that runs the role there with more variables."""
    with new_box() as box:
        box.boot()

        def play(**more):
            given = {"calibration_agent_folder": str(package.parent), **SITE, **more}
            command = (PLAYBOOK, "-i", "localhost,", "-c", "local", "-e", json.dumps(given))
            role = REPOSITORY / "ansible" / "site.yml"
            return box.run(*command, role, check=False, ANSIBLE_NOCOLOR="1")

        yield box, play, play()


def changes(said):
    return int(said.out.rsplit("changed=", 1)[1].split()[0])


def test_the_role_installs_the_package_and_the_sites_settings(machine):
    box, _, said = machine
    assert said.code == 0, said.out[-2000:] + said.err
    shown = box.run("agent", "config", "show", "--json").json["settings"]
    values = {each["name"]: each["value"] for each in shown}
    assert [values[name].lower() for name in ("max_busy", "on_battery", "channel")] == [
        "0.1",
        "true",
        "pilot",
    ]


def test_only_the_jobs_that_are_named_are_on(machine):
    box, _, _ = machine
    on = {job: box.run("systemctl", "is-enabled", unit(job, "timer"), check=False).out.strip()
          for job in ("update", "calibrate", "report")}  # fmt: skip
    assert on == {"update": "disabled", "calibrate": "enabled", "report": "disabled"}


def test_a_second_run_changes_nothing(machine):
    _, play, _ = machine
    said = play()
    assert (said.code, changes(said)) == (0, 0), said.out[-2000:]


def test_settings_that_are_wrong_are_refused_and_those_before_stay(machine):
    box, play, _ = machine
    said = play(calibration_agent_settings={"max_busy": 7})
    assert said.code != 0
    assert "is not a number from 0 to 1" in said.out + said.err
    assert "max_busy = 0.1" in box.run("cat", "/etc/calibration-agent/conf.d/50-site.toml").out
