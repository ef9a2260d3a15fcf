"""The package, built once, and a machine on which it is installed."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.measure.resolve import CACHE
from tests.conftest import kept_between_runs
from tests.system.box import Box, why_not, within

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 900  # of a test: the first one builds the package
STATE = "var/lib/calibration-agent"
JOBS = ("update", "calibrate", "report")
QUIET = """
quiet_wait = "2m"
max_busy = 1.0
max_steal = 1.0
max_temperature = 150
on_battery = true
"""
SITE = f'budget = "2s"{QUIET}'  # the shortest there is


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(PATIENCE_S))


def unit(job: str, kind: str = "service") -> str:
    return f"calibration-agent-{job}.{kind}"


def asked(box: Box, question: str) -> int:
    """A number from the state of a machine, seen from outside; 0 where there is none yet."""
    path = box.root / STATE / "state.sqlite"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute(question).fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def timings(box: Box) -> int:
    """How many timings the machine's state holds."""
    return asked(box, "SELECT count(*) FROM timing")


def calibrations(box: Box) -> int:
    return asked(box, "SELECT count(*) FROM calibration")


def forget(box: Box, *, compiled: bool = False) -> None:
    """Nothing was ever measured on this machine; on request, nothing compiled either."""
    kept = "" if compiled else f"! -name {CACHE}"
    every = f"find /{STATE} -mindepth 1 -maxdepth 1 {kept} -exec rm -r {{}} +"
    box.run("sh", "-c", f"{every} && systemctl reset-failed")


def run_job(box: Box, job: str) -> tuple[str, int, str]:
    """Run a job to its end; its result and exit code, and what it said."""
    box.run("systemctl", "start", unit(job), check=False)
    let_nobody_be_told(box)
    words = box.words(unit(job))
    return box.show(unit(job), "Result"), int(box.show(unit(job), "ExecMainStatus")), words


def let_nobody_be_told(box: Box) -> None:
    """End what a job's end has begun: whether somebody is to be told is of a test of its own."""
    box.run("systemctl", "stop", unit("notify"))


def calibrate(box: Box) -> tuple[str, int, str]:
    """``run_job`` for calibrating."""
    return run_job(box, "calibrate")


def begin_measuring(box: Box) -> None:
    """Start the calibrating job, and wait until two timings are on the disk; many more are due."""
    longer = "/etc/calibration-agent/conf.d/55-longer.toml"
    before = timings(box)
    box.write(longer, 'budget = "10s"')
    box.run("systemctl", "start", "--no-block", unit("calibrate"))
    within(PATIENCE_S / 3, lambda: timings(box) >= before + 2, "nothing was measured")
    box.run("rm", longer)


def other_version(package: Path, version: str, schema: int, folder: Path) -> Path:
    """The same package under another version, which reads states up to another schema."""
    tree, made = folder / "control", package.parent / f"test-{version}.deb"
    subprocess.run(["dpkg-deb", "--control", package, tree], check=True)
    for name, old, new in (
        ("control", r"(?m)^Version: .*$", f"Version: {version}"),
        ("preinst", r"(?m)^READS=.*$", f"READS={schema}"),
    ):
        path = tree / name
        text, changes = re.subn(old, new, path.read_text())
        assert changes == 1, name
        path.write_text(text)
    # Only this part is packed again: the files take longer than all that is done with them.
    shutil.copy(package, made)
    members = subprocess.run(["ar", "t", made], check=True, capture_output=True, text=True).stdout
    [part] = [folder / name for name in members.split() if name.startswith("control.tar")]
    root = ("--owner=0", "--group=0", "--numeric-owner")
    subprocess.run(["tar", "-C", tree, *root, "-caf", part, "."], check=True)
    subprocess.run(["ar", "r", made, part], check=True, capture_output=True)
    return made


@pytest.fixture(scope="session")
def bootable(made_once):
    def fill(place):
        (place / "why-not").write_text(why_not())

    if reason := (made_once("bootable", fill) / "why-not").read_text():
        pytest.skip(f"no system can be booted here: {reason}")


def isolated_environment(**more: str) -> dict[str, str]:
    """This environment, less what would make a build or another Python use this one's files."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**ours, **more}


@pytest.fixture(scope="session")
def tools() -> dict[str, str]:
    """For builds: tools and executables that earlier runs of these tests have made of the same."""

    def fill(place):
        run_build(sys.executable, "-m", "venv", place)
        for lock in locks:
            run_build(place / "bin/pip", "install", "--require-hashes", "--no-deps", "-r", lock)
        (place / "prebuilt").mkdir()

    locks = [REPOSITORY / "tools" / name for name in ("build.lock", "prebuild.lock")]
    place = kept_between_runs("tools", [*locks, Path(sys.executable)], fill)
    return {"TOOLS": str(place), "CALIBRATION_AGENT_PREBUILT_KEPT": str(place / "prebuilt")}


@pytest.fixture(scope="session")
def wheel(made_once, tools):
    """A function that gives an architecture's wheel, made by the documents' own command."""

    def make(architecture: str) -> Path:
        def fill(place):
            build_wheel(REPOSITORY, architecture, place, **tools)

        [made] = made_once(f"wheel-{architecture}", fill).iterdir()
        return made

    return make


def build_wheel(source: Path, kind: str, folder: Path, **environment: str) -> Path:
    """A wheel of a source tree, pure or of an architecture, in a folder."""
    command = (source / "tools/build-wheel", kind, folder)
    return Path(run_build(*command, PYTHON=sys.executable, **environment))


def run_build(*command, **environment) -> str:
    """What a command that builds something printed; an assertion with its words if it failed."""
    done = subprocess.run(
        command,
        env=isolated_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout.strip()


@pytest.fixture(scope="session")
def package(bootable, wheel, tools, made_once) -> Path:
    """The .deb, made by the one command that the documents name; or the one in $DEB."""
    if given := os.environ.get("DEB"):
        return Path(given).resolve()

    def fill(place):
        mine = str(wheel(os.uname().machine))
        quick = {"COMPRESSION": "-Zgzip -z1", "WHEEL": mine, **tools}
        made = run_build(REPOSITORY / "debian" / "build-deb", **quick)
        shutil.move(REPOSITORY / made, place)

    [made] = made_once("package", fill).glob("calibration-agent_*.deb")
    return made


@pytest.fixture(scope="session")
def new_box(package):
    """A function that gives a machine that is off and has nothing installed, as a context."""

    @contextmanager
    def make():
        # Outside pytest's folders, which it keeps: this is a mount point, and goes at the end.
        folder = Path(tempfile.mkdtemp(prefix="box-"))
        with Box(folder, package.parent) as box:
            yield box
        folder.rmdir()

    return make


@pytest.fixture(scope="module")
def box(new_box, package):
    """A machine that is on, with the package installed; quiet enough whatever else runs here."""
    with new_box() as made:
        made.boot()
        made.run("dpkg", "--install", package)
        made.run("systemctl", "stop", *(unit(job, "timer") for job in JOBS))  # tests start jobs
        made.write("/etc/calibration-agent/conf.d/50-test.toml", SITE)
        yield made
