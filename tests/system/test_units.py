"""What the units and the package say of themselves, without booting anything."""

import re
import shutil
import subprocess
import tomllib
from configparser import RawConfigParser

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from agent.errors import Exit
from tests.conftest import agent
from tests.system.conftest import JOBS, REPOSITORY, unit

UNITS = REPOSITORY / "systemd"
WORST = 20  # tenths: systemd-analyze's exposure of 2.0
needs_analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)


class _Unit(RawConfigParser):
    def optionxform(self, optionstr):
        return optionstr


def read(job, kind="service"):
    parser = _Unit(strict=False)
    parser.read(UNITS / unit(job, kind))
    return parser["Service" if kind == "service" else "Timer"]


def declared():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@needs_analyze
@pytest.mark.parametrize("job", [*JOBS, "notify"])
def test_the_exposure_of_each_job_is_at_most_two(job):
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager")
    done = subprocess.run(
        [*command, f"--threshold={WORST}", UNITS / unit(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_what_measures_is_neither_slowed_down_nor_limited():
    slowing = re.compile("Nice|CPU.*|IO.*|Memory(Max|High|Low|Min)|Tasks.*|.*Scheduling.*")
    assert [key for key in read("calibrate") if slowing.fullmatch(key)] == []


def test_what_measures_has_no_network():
    assert read("calibrate")["PrivateNetwork"] == "yes"
    assert read("calibrate")["RestrictAddressFamilies"] == "none"


def fine_codes(job):
    """Exit codes that are no failure; last stands the signal of a stop before Python listens."""
    *codes, stopped = read(job)["SuccessExitStatus"].split()
    assert stopped == "SIGTERM"
    return set(map(int, codes))


@pytest.mark.parametrize("job", JOBS)
def test_what_is_no_fault_of_the_machine_is_no_failure(job):
    fine = fine_codes(job)
    assert fine >= {Exit.BUSY, Exit.NOTHING_TO_DO, Exit.INTERRUPTED}
    assert (Exit.UNREACHABLE in fine) == (job != "calibrate")
    assert (Exit.NOT_NOW in fine) == (job == "calibrate")
    assert not fine & {Exit.USAGE, Exit.NOT_TRUSTED, Exit.PROBLEM, Exit.BUG}


@pytest.mark.parametrize("job", JOBS)
def test_however_a_job_ends_somebody_can_be_told(job):
    text = (UNITS / unit(job)).read_text()
    assert f"OnSuccess={unit('notify')}\nOnFailure={unit('notify')}\n" in text
    assert fine_codes("notify") == {Exit.NOTHING_TO_DO, Exit.INTERRUPTED}


@pytest.mark.parametrize("job", [*JOBS, "notify"])
def test_every_command_of_a_unit_is_one_of_the_agents(job):
    words = read(job)["ExecStart"].split()
    assert words[0] == "/usr/bin/agent"
    known = agent(*words[1:2], "--help")
    assert known.code == 0
    assert [word for word in words[2:] if word not in known.out] == []


@pytest.mark.parametrize("job", JOBS)
def test_every_timer_looks_each_hour_and_catches_up(job):
    timer = read(job, "timer")
    assert (timer["OnCalendar"], timer["Persistent"]) == ("hourly", "yes")
    assert timer["RandomizedDelaySec"] == "10min"


@pytest.mark.parametrize("job", JOBS)
def test_only_what_tells_something_draws_its_delay_anew_each_time(job):
    assert read(job, "timer").get("FixedRandomDelay", "no") == ("no" if "report" in job else "yes")


def test_the_package_has_the_version_of_the_agent():
    first = (REPOSITORY / "debian/changelog").read_text().split("\n")[0]
    assert f"({declared()['version']})" in first


def test_the_package_names_the_maintainer_and_the_page_that_the_wheel_names():
    known = declared()
    [one] = known["maintainers"]
    who = f"{one['name']} <{one['email']}>"
    control = (REPOSITORY / "debian/control").read_text()
    assert f"\nMaintainer: {who}\n" in control
    assert f"\nHomepage: {known['urls']['Homepage']}\n" in control
    assert f"\n -- {who}  " in (REPOSITORY / "debian/changelog").read_text()


def test_the_lock_holds_every_dependency_within_its_bounds():
    text = (REPOSITORY / "debian/requirements.lock").read_text()
    pinned = dict(re.findall(r"(?m)^([\w-]+)==(\S+) \\$", text))
    for line in declared()["dependencies"]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(Version(pinned[wanted.name])), line


def test_the_configuration_that_is_shipped_is_right_also_with_its_examples(tmp_path):
    shipped = (REPOSITORY / "docs/reference/config.toml").read_text()
    examples = re.sub(r"(?m)^# (\w+ = )", r"\1", shipped)
    assert examples != shipped
    for text in (shipped, examples):
        file = tmp_path / "config.toml"
        file.write_text(text)
        said = agent("config", "check", file)
        assert said.code == 0, said.out + said.err
