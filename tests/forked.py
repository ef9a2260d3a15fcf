"""Commands as processes of their own, forked where what they import is loaded already.

To import what a command needs costs 0.3 to 3 s of CPU, more than most commands then do, and tests
start a thousand. Here a server (one for each worker of a run) imports it once; a process that is
forked from it has its own arguments, environment, folder, output and exit code, and dies alone.
Tests of a start itself, or of the installed script, run the script.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
# sklearn: 2 s where pandas and pyarrow are installed, which it then imports.
PRELOADED = (
    "tests.forked agent.commands.root agent.terminal.crash agent.settings.resolve "
    "agent.calibration.calibrate agent.advise.explain agent.advise.scan agent.advise.tune "
    "agent.update.flow agent.update.manage agent.report.flow agent.doctor.self_test "
    "agent.doctor.examine agent.page.file agent.page.gather agent.upkeep.drift "
    "agent.upkeep.upkeep rich.table sklearn.ensemble bundles.cli bundles.fleet.server "
    "bundles.fleet.app alembic.command alembic.config sqlalchemy.dialects.postgresql "
    "sqlalchemy.dialects.sqlite psycopg uvicorn tuf.api.metadata"
).split()


@dataclass(frozen=True)
class Command:
    """One call of ``main`` of a package's ``cli``; ``first`` is Python that is run before."""

    package: str
    arguments: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    first: str = ""


@dataclass(frozen=True)
class Done:
    """How it ended."""

    returncode: int
    stdout: str
    stderr: str


def start(command: Command, out: Path, err: Path) -> BaseProcess:
    """A process that runs it; what it says goes to the end of ``out`` and ``err``."""
    SERVER.set_forkserver_preload(PRELOADED)
    process = SERVER.Process(target=_become, args=(command, str(out), str(err)))
    process.start()
    return process


def run(
    package: str,
    *arguments: object,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600,
    first: str = "",
) -> Done:
    """The command, as ``subprocess.run`` of the installed script would run it."""
    words = tuple(map(str, arguments))
    chosen = {k: os.fspath(v) for k, v in (os.environ if env is None else env).items()}
    command = Command(package, words, chosen, str(cwd or "."), first)
    with tempfile.TemporaryDirectory(prefix="forked-") as place:
        out, err = Path(place) / "out", Path(place) / "err"
        process = start(command, out, err)
        end(process, timeout)
        return Done(process.exitcode, out.read_text(), err.read_text())


def end(process: BaseProcess, timeout: float) -> None:
    """Wait for it, and kill it where that takes too long."""
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"it was still at work after {timeout} s")


def _end_with(parent: BaseProcess) -> None:
    """Leave nothing at work behind tests that were killed."""
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _become(command: Command, out: str, err: str) -> None:
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.chdir(command.cwd)
    os.environ.clear()
    os.environ.update(command.env)
    sys.argv = [command.package, *command.arguments]
    exec(command.first, {})
    code = importlib.import_module(f"{command.package}.cli").main()
    atexit._run_exitfuncs()  # multiprocessing leaves them out
    sys.exit(code)
