"""Where the agent lives: configuration, clock, disk, permissions, its own memory of errors."""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from agent.bundle.installed import CHECKED
from agent.clock import CLOCK_SET, duration, stamp
from agent.doctor.findings import Finding, needs_person, ok, problem, warning
from agent.doctor.scene import Scene
from agent.errors import Exit
from agent.settings.answers import contradictions
from agent.settings.config import SYSTEM_STATE
from agent.state.file import FILE
from agent.state.last_error import last_errors
from agent.state.lock import FILE as LOCK
from agent.state.lock import is_odd, why_not
from agent.system.private import name_of
from agent.system.refused import LOCAL
from agent.terminal.numbers import Count

LEAST_FREE, LITTLE_FREE = 50 << 20, 500 << 20  # bytes
FEWEST_FILES = 1_000  # inodes
MOST_ENTRIES = 5_000  # looked at below the state directory
SLACK_S = 120.0  # of a clock that is corrected now and then
TIME_ERROR = 5  # what adjtimex(2) answers while no time server is followed


def configuration(scene: Scene) -> Iterator[Finding]:
    """Mistakes in the files and variables, and settings that contradict each other."""
    for error in scene.resolved.problems:
        yield problem("configuration", error.message, error.hint)
    wrong = contradictions(scene.config)
    for message, advice in wrong:
        yield problem("configuration", message, advice)
    if not scene.resolved.problems and not wrong:
        files = ", ".join(map(str, scene.resolved.files)) or "no file; the defaults hold"
        yield ok("configuration", files)


def clock(scene: Scene) -> Iterator[Finding]:
    """Ages and signatures are judged by it."""
    here = stamp(scene.now)
    newest = _newest_seen(scene)
    set_it = "Set the clock (`timedatectl set-time`), or let it follow a time server."
    if scene.now < CLOCK_SET:
        yield problem("clock", f"it says {here}: it was never set", set_it)
    elif newest > scene.now + SLACK_S:
        words = f"it says {here}, but something was recorded here at {stamp(newest)}"
        yield problem("clock", words, f"{set_it} If it is right now, that passes with time.")
    else:
        yield ok("clock", here + (", set by a time server" if _follows_server() else ""))


def _newest_seen(scene: Scene) -> float:
    """The latest moment that anything in the state carries."""
    if scene.state is None:
        return 0.0
    moments = [stored.created_at for stored in scene.state.calibrations(1)]
    moments += [event.at for event in scene.state.events()[:1]]
    asked = (scene.state.fact(CHECKED) or {}).get("at")
    return max([*moments, asked if isinstance(asked, float) else 0.0], default=0.0)


def _follows_server() -> bool:
    """What the kernel says, whoever sets its clock; False where it does not say."""
    try:
        return ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) not in (-1, TIME_ERROR)
    except (OSError, AttributeError):
        return False


def disk(scene: Scene) -> Iterator[Finding]:
    """Room for the state, and for compilers in the temporary directory."""
    yield from _room("disk", existing(scene.directory), "the state")
    yield from _runs_programs(existing(scene.directory))
    if unlocked := why_not(existing(scene.directory)):
        yield problem("disk", unlocked, LOCAL)
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError:
        advice = "Make /tmp writable with some free space, or set TMPDIR."
        yield problem("disk", "no temporary directory can be written", advice)
        return
    if temporary.stat().st_dev != existing(scene.directory).stat().st_dev:
        yield from _room("temporary disk", temporary, "compilers")


def _room(check: str, place: Path, user: str) -> Iterator[Finding]:
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    words = f"{free / 2**20:,.0f} MiB free for {user} at {place}"
    if found.f_flag & os.ST_RDONLY:
        advice = "Mount it for writing; look at `dmesg`: a failing disk is often made read-only."
        yield problem(check, f"{place} is on a file system that is read-only", advice)
    elif free < LEAST_FREE or (found.f_files and found.f_favail < FEWEST_FILES):
        files = f", {found.f_favail} files" if found.f_files else ""
        yield problem(check, words + files, "Free some space: nothing can be kept without it.")
    elif free < LITTLE_FREE:
        yield warning(check, words, "Free some space before it is full.")
    else:
        yield ok(check, words)


def _runs_programs(place: Path) -> Iterator[Finding]:
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        advice = "Mount it with `exec`: what is measured is kept, and run, there."
        yield problem("disk", f"{place} is on a file system that runs no programs (noexec)", advice)


def existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that is there and may be looked at."""
    place = directory.absolute()
    while place != place.parent:
        try:
            place.stat()
        except OSError:
            place = place.parent
        else:
            break
    return place


def permissions(scene: Scene) -> Iterator[Finding]:
    """Who owns the state, who may change it."""
    directory = scene.directory
    try:
        found = directory.stat()
    except FileNotFoundError:
        yield from _not_made(directory)
        return
    except OSError as error:
        advice = f"Run it as its owner (`sudo agent doctor`), or look at {existing(directory)}."
        yield problem("permissions", f"{directory} cannot be looked at: {error.strerror}", advice)
        return
    if not stat.S_ISDIR(found.st_mode):
        advice = "Move it away, or name another with --state-dir DIR."
        yield problem("permissions", f"{directory} is not a directory", advice)
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        words = f"{directory} belongs to {name_of(found.st_uid)} and cannot be written by this user"
        yield problem("permissions", words, "Run it as its owner: `sudo agent doctor`.")
    else:
        yield from _inside(directory, found)


def _not_made(directory: Path) -> Iterator[Finding]:
    above = existing(directory)
    if os.access(above, os.W_OK | os.X_OK):
        yield ok("permissions", f"{directory} is not there yet; `agent calibrate` makes it")
    else:
        advice = "Name another with --state-dir DIR or AGENT_STATE_DIR."
        yield problem("permissions", f"{directory} cannot be made in {above}", advice)


def _inside(directory: Path, found: os.stat_result) -> Iterator[Finding]:
    owner = name_of(found.st_uid)
    odd = is_odd(directory)
    if odd:
        lock = directory / LOCK
        words = f"{lock} is not a plain file: agents cannot tell each other that they are at work"
        yield problem("permissions", words, f"Remove it: `rm -r {lock}`.")
    others = [path for path in _below(directory) if _owner(path) not in (found.st_uid, None)]
    if others:
        words = f"{Count(len(others)):file} in {directory} of other users than {owner}, such as"
        advice = f"Give them back: `sudo chown -R --reference={directory} {directory}`."
        yield problem("permissions", f"{words} {others[0]}", advice)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        words = f"other users may write in {directory}: they could put code there that is run"
        yield problem("permissions", words, f"Run `chmod go-w {directory}`.")
    elif not others and not odd:
        yield ok("permissions", f"{directory} belongs to {owner}")


def _below(directory: Path) -> Iterator[Path]:
    places = (Path(folder) / n for folder, ds, fs in os.walk(directory) for n in (*ds, *fs))
    return islice(places, MOST_ENTRIES)


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:  # gone meanwhile
        return None


def database(scene: Scene) -> Iterator[Finding]:
    """What the agent remembers, and what it had to set aside."""
    if scene.trouble is not None:
        yield problem("state", scene.trouble.message, scene.trouble.hint)
    elif (scene.directory / FILE).exists():
        yield ok("state", f"{scene.directory / FILE} is whole")
    else:
        yield ok("state", f"nothing is kept in {scene.directory} yet")
    if scene.directory != SYSTEM_STATE and _is_directory(SYSTEM_STATE):
        yield ok("state", f"the service has one of its own ({SYSTEM_STATE}): `sudo agent doctor`")
    damaged = _named(scene.directory, "state.corrupt-*")
    if damaged:
        words = f"a damaged database was set aside as {damaged[-1]}"
        yield needs_person("state", words, "Check the disk; then the file may be deleted.")


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _named(directory: Path, pattern: str) -> list[Path]:
    try:
        return sorted(directory.glob(pattern))
    except OSError:
        return []


def last_error(scene: Scene) -> Iterator[Finding]:
    """What failed last and has not succeeded since; the traces of bugs."""
    found = last_errors(scene.state) if scene.state is not None else ()
    for error in found:
        words = f"`agent {error.command}` has failed since {stamp(error.since)}: {error.message}"
        offline = error.exit_code == Exit.UNREACHABLE
        advice = error.hint or f"Run `agent {error.command}` by hand to see whether it goes on."
        yield (warning if offline else problem)("last error", words, advice)
    crashes = _named(scene.directory, "crash-*.log")
    if crashes:
        made = crashes[-1].stat().st_mtime
        words = f"the agent met a bug {duration(max(0.0, scene.now - made))} ago: {crashes[-1]}"
        yield warning("last error", words, "Report it with that file; then delete the file.")
    if not found and not crashes:
        yield ok("last error", "none")
