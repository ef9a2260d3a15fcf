"""A machine for tests: systemd booted for real on an overlay of this machine's own root.

$BOX_ROOT names another root file system, as of another release (debian/try-release).

    with Box(folder, packages) as box:
        box.boot()
        box.run("systemctl", "is-system-running")
        box.power_off()          # what was written stays; boot() again

It has the network of nobody, this machine's programs, and a memory file system for what it writes.
``systemd-nspawn`` is never killed: the system in it is asked to end.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from agent.errors import AgentError
from tests.conftest import Ran

NEEDED = ("systemd-nspawn", "nsenter", "mount", "umount", "dpkg", "dpkg-buildpackage", "dh")
ROOT = Path(os.environ.get("BOX_ROOT", "/"))
BOOT_LIMIT_S = 120.0
END_LIMIT_S = 120.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMPILERS = ("cc", "gcc", "clang", "c99", "c89", "tcc", "icx")


class BoxError(AgentError):
    """The box did not do what every such machine does."""


def why_not() -> str:
    """Why this machine cannot boot a box; empty where it can, which is tried."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root can boot a system"
    if not (ROOT / "lib/systemd/systemd").exists():
        return "there is no systemd to boot"
    if str(ROOT) == "/" and not Path("/usr/bin/python3.11").exists():
        return "the package that is built here is for Debian 12, whose Python is 3.11"
    folder = Path(tempfile.mkdtemp(prefix="box-"))
    try:
        with Box(folder) as box:
            box.boot()
    except (BoxError, OSError, subprocess.SubprocessError) as error:
        return f"{error} {getattr(error, 'stderr', '')}".strip()
    finally:
        folder.rmdir()
    return ""


class Box:
    """A machine that is off; use as a context, which ends it and forgets what it wrote.

    Args:
        folder: an empty directory of its own.
        shown: directories of this machine that it can read, where they are here.
    """

    def __init__(self, folder: Path, *shown: Path):
        self._folder, self._shown = folder, shown
        self._nspawn = None
        self._leader = 0
        self.root = folder / "root"
        self.booted = False
        self._started = 0
        self.failed_anyway: frozenset[str] = frozenset()

    def __enter__(self):
        _call("mount", "-t", "tmpfs", "-o", "mode=755", "box", self._folder)
        for name in ("root", "upper", "work"):
            (self._folder / name).mkdir()
        layers = f"lowerdir={ROOT},upperdir={self._folder}/upper,workdir={self._folder}/work"
        try:
            _call("mount", "-t", "overlay", "-o", layers, "box", self.root)
        except subprocess.CalledProcessError:
            _call("umount", self._folder)
            raise
        # As a machine, not as the container image that this may be.
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        (self.root / "etc/machine-id").write_text("5" * 32 + "\n")
        shutil.rmtree(self.root / "var/log/journal", ignore_errors=True)
        (self.root / "var/log/journal").mkdir(parents=True)
        return self

    def __exit__(self, *_):
        try:
            if self._nspawn is not None:
                self.power_off()
        finally:
            _call("umount", self.root)
            _call("umount", self._folder)

    def boot(self) -> None:
        """Switch on, and wait until everything has started."""
        command = ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}"]
        command += [f"--machine=box-{os.getpid()}", "--private-network", "--register=no"]
        command += ["--keep-unit", "--kill-signal=SIGRTMIN+4", "--link-journal=no"]
        command += ["--console=pipe", *(f"--bind-ro={path}" for path in self._shown)]
        with (self._folder / "console").open("a") as console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C for the tests is none for the machine
            )
        self._leader = within(BOOT_LIMIT_S, self._first_process, "it did not boot")
        within(BOOT_LIMIT_S, self._is_up, "it did not start up")
        if not self.booted:
            self.failed_anyway = self.failed()
        self.booted = True

    def failed(self) -> frozenset[str]:
        """Units that have failed, less those of this machine's own that do so in any box."""
        listed = self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "-q")
        return frozenset(line.split()[0] for line in listed.out.splitlines()) - self.failed_anyway

    def _first_process(self) -> int:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise BoxError(f"systemd-nspawn: {(self._folder / 'console').read_text()[-500:]}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        with contextlib.suppress(OSError):  # helpers come and go while we look
            for child in children.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return 0

    def _is_up(self) -> bool:
        # Empty as long as its message bus does not answer; "degraded" is for tests to judge.
        state = self.run("systemctl", "is-system-running", check=False).out.strip()
        return state in ("running", "degraded")

    def power_off(self) -> float:
        """Switch off as a person does; the seconds it took."""
        assert self._nspawn is not None
        began = time.monotonic()
        if self._nspawn.poll() is None and self._leader:
            os.kill(self._leader, signal.SIGRTMIN + 4)
        else:  # it did not come so far
            self._nspawn.terminate()
        self._nspawn.wait(END_LIMIT_S)
        self._nspawn, self._leader = None, 0
        return time.monotonic() - began

    def run(self, *command, check=True, timeout=600.0, **environment) -> Ran:
        """Run a command in it, as its root."""
        told = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **environment}
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "--", "env", "-i"]
            + [f"{name}={value}" for name, value in told.items()]
            + [str(word) for word in command],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            words = f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            raise BoxError(words)
        return Ran(done.returncode, done.stdout, done.stderr)

    def background(self, *command) -> str:
        """Start a command in it, and do not wait; the unit that it is, to be stopped."""
        self._started += 1
        name = f"background-{self._started}"
        options = ("--quiet", "--no-block", "--collect", f"--unit={name}")
        self.run("systemd-run", *options, "--", *command)
        return name

    def write(self, path: str, text: str) -> None:
        """Write a file of it, by root."""
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("sh", "-c", f"cat > {path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE")

    def written(self, pattern: str) -> set[Path]:
        """What it has written on its disk so far, and not removed, and matches."""
        found = (self._folder / "upper").rglob(pattern)
        return {p.relative_to(self._folder / "upper") for p in found if not p.is_char_device()}

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).out.strip()

    def words(self, unit: str) -> str:
        """What a unit has said since it was started last."""
        self.run("journalctl", "--sync")
        run = f"_SYSTEMD_INVOCATION_ID={self.show(unit, 'InvocationID')}"
        return self.run("journalctl", "-b", "-o", "cat", "--no-pager", run).out

    def drop_in(self, unit: str, text: str) -> None:
        """Change a unit in the way its administrator would."""
        self.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
        self.run("systemctl", "daemon-reload")

    def without_drop_in(self, unit: str) -> None:
        """Take that change back."""
        self.run("rm", f"/etc/systemd/system/{unit}.d/test.conf")
        self.run("systemctl", "daemon-reload")

    def hide_compilers(self) -> None:
        """No C compiler from here on."""
        found = [f"{folder}/{name}" for folder in PATH.split(":") for name in COMPILERS]
        self.run("rm", "-f", *found)


def within(seconds: float, ask, complaint: str):
    """The first true answer of ``ask``, asked again and again."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise BoxError(complaint)
        time.sleep(0.05)
    return answer


def _call(*command) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
