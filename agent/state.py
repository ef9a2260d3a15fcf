"""What this machine remembers: one SQLite file, every timing durable as it arrives.

    run          one attempt at a calibration: planned, then finished or not
    timing       one measured variant of the fixed set, written at once
    calibration  the whole result of a run; the newest is in force
    event        what happened to a bundle here (kinds: agent/installed.py)
    fact         a few things to be remembered by name: version floors, the roll-out secret
    drift        checks whether the calibration in force still holds (agent/drift.py)
    spool        reports that wait to be sent (agent/report/)

A calibration becomes visible in the same transaction that finishes its run, so the old one stays
in force until the new one is whole. The rollback journal with FULL synchronisation is used, not
a write-ahead log: a few dozen commits need no speed, and the file can be read from read-only media.
A damaged file is moved aside, never deleted; a file from a newer agent is left alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.errors import DamagedError, StateError
from agent.owner import name_of

FILE = "state.sqlite"
SCHEMA = 3
APPLICATION = 0x43414C41  # "CALA": tells our file from any other SQLite file
BUSY_TIMEOUT_S = 10.0
KEPT_RUNS = 50
KEPT_CALIBRATIONS = 100
KEPT_EVENTS = 500
KEPT_DRIFTS = 400
KEPT_REPORTS = 20  # that wait to be sent
MAX_BODY = 4 << 20
_WITH_SUDO = "Run it with sudo: it then acts as the owner of that directory."
_AFRESH = "Run `agent calibrate`: it keeps the damaged file aside and starts afresh."

_TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT, started_at REAL NOT NULL, finished_at REAL,
    identity TEXT NOT NULL, planned INTEGER NOT NULL
);
CREATE TABLE timing (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run(id), measured_at REAL NOT NULL,
    machine TEXT NOT NULL, toolchain TEXT NOT NULL, source TEXT NOT NULL, sizes TEXT NOT NULL,
    schedule TEXT NOT NULL, protocol TEXT NOT NULL, body TEXT NOT NULL
);
CREATE INDEX timing_run ON timing(run);
CREATE TABLE calibration (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, created_at REAL NOT NULL,
    body TEXT NOT NULL
);
"""
_TABLES_2 = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL,
    digest TEXT NOT NULL, body TEXT NOT NULL
);
CREATE TABLE fact (name TEXT PRIMARY KEY, body TEXT NOT NULL);
"""
_TABLES_3 = """
CREATE TABLE drift (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE spool (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, key TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL
);
"""
_SINCE = (_TABLES, _TABLES_2, _TABLES_3)  # what each schema added
# What SQLite says of the disk, the rights or other processes: the file may be whole.
_NOT_THE_FILES_FAULT = frozenset((
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimingKey:
    """What a timing is of; equal keys may stand in for each other.

    Attributes:
        machine: fingerprint of the machine.
        toolchain: identity of compiler and flags.
        source: digest of the program as written.
        sizes: ``name=value`` joined by commas, sorted.
        schedule: canonical text of the schedule.
        protocol: version of the way it was measured.
    """

    machine: str
    toolchain: str
    source: str
    sizes: str
    schedule: str
    protocol: str


@dataclass(frozen=True, slots=True)
class StoredTiming:
    """A timing as it was written: ``body`` is what the pipeline put there."""

    key: TimingKey
    measured_at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a calibration; ``identity`` says of which machine, compiler and set."""

    id: int
    started_at: float
    finished_at: float | None
    identity: str
    planned: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A calibration: monotone id, creation time (seconds since 1970) and what it says."""

    id: int
    created_at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a bundle on this machine.

    Attributes:
        id: grows with time.
        at: seconds since 1970.
        kind: one of those in ``agent.installed``.
        digest: SHA-256 of the bundle's manifest; empty for the one that came with the agent.
        body: name, version, why, and the verdict where there was one.
    """

    id: int
    at: float
    kind: str
    digest: str
    body: Mapping[str, Any]


class State:
    """The open database; use as a context, which closes it.

    Attributes:
        notices: what a person should know about opening it (a damaged file moved aside).
    """

    def __init__(self, connection: sqlite3.Connection, notices: tuple[str, ...] = ()) -> None:
        self._db = connection
        self.notices = notices

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def begin_run(self, identity: str, planned: int, now: float | None = None) -> Run:
        """Note that a calibration starts."""
        started = time.time() if now is None else now
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO run (started_at, identity, planned) VALUES (?, ?, ?)",
                (started, identity, planned),
            )
        return Run(cursor.lastrowid or 0, started, None, identity, planned)

    def open_run(self) -> Run | None:
        """The newest run if it did not finish."""
        with _explained():
            row = self._db.execute(
                "SELECT id, started_at, finished_at, identity, planned FROM run"
                " ORDER BY id DESC LIMIT 1"
            ).fetchone()
        run = Run(*row) if row else None
        return run if run and run.finished_at is None else None

    def finished_run(self) -> Run | None:
        """The newest run that made a calibration."""
        with _explained():
            row = self._db.execute(
                "SELECT id, started_at, finished_at, identity, planned FROM run"
                " WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1"
            ).fetchone()
        return Run(*row) if row else None

    def record(self, run: Run, rows: Sequence[tuple[TimingKey, Mapping[str, Any]]]) -> None:
        """Write timings that belong together; they are on the disk when this returns."""
        now = time.time()
        values = [(run.id, now, *astuple(key), _dump(body)) for key, body in rows]
        with self._transaction():
            self._db.executemany(
                "INSERT INTO timing (run, measured_at, machine, toolchain, source, sizes,"
                " schedule, protocol, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def timings(self, run: Run) -> tuple[StoredTiming, ...]:
        """The timings of one run, in the order written."""
        with _explained():
            rows = self._db.execute(
                "SELECT machine, toolchain, source, sizes, schedule, protocol, measured_at, body"
                " FROM timing WHERE run = ? ORDER BY id",
                (run.id,),
            ).fetchall()
        return tuple(StoredTiming(TimingKey(*r[:6]), r[6], _load(r[7])) for r in rows)

    def finish(
        self,
        run: Run,
        body: Mapping[str, Any],
        created_at: float,
        events: Sequence[tuple[str, str, Mapping[str, Any]]] = (),
    ) -> int:
        """Put a calibration in force, finish its run, note events: all or nothing; its id."""
        text = _dump(body)
        with self._transaction():
            self._db.execute("UPDATE run SET finished_at = ? WHERE id = ?", (created_at, run.id))
            cursor = self._db.execute(
                "INSERT INTO calibration (run, created_at, body) VALUES (?, ?, ?)",
                (run.id, created_at, text),
            )
            self._note(events, created_at)
            self._forget_old()
        return cursor.lastrowid or 0

    def note(self, events: Sequence[tuple[str, str, Mapping[str, Any]]], at: float) -> None:
        """Note events (kind, digest, body) of bundles, all or none."""
        with self._transaction():
            self._note(events, at)

    def events(self, *kinds: str) -> tuple[Event, ...]:
        """Events of bundles of these kinds (all, if none is named), newest first."""
        if not self._knows_bundles():
            return ()
        with _explained():
            rows = self._db.execute(
                "SELECT id, at, kind, digest, body FROM event ORDER BY id DESC"
            ).fetchall()
        return tuple(
            Event(r[0], r[1], r[2], r[3], _load(r[4])) for r in rows if r[2] in kinds or not kinds
        )

    def fact(self, name: str) -> Mapping[str, Any] | None:
        """What was remembered under a name."""
        if not self._knows_bundles():
            return None
        with _explained():
            row = self._db.execute("SELECT body FROM fact WHERE name = ?", (name,)).fetchone()
        return _load(row[0]) if row else None

    def remember(self, name: str, body: Mapping[str, Any]) -> None:
        """Remember something under a name, in place of what was there."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO fact (name, body) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET body = excluded.body",
                (name, _dump(body)),
            )

    def spool(self, reports: Sequence[tuple[str, bytes]], at: float) -> None:
        """Keep reports (key, bytes) until they are sent; the oldest go where there are too many."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO spool (at, key, body) VALUES (?, ?, ?)",
                [(at, key, body) for key, body in reports],
            )
            self._db.execute(
                "DELETE FROM spool WHERE id NOT IN (SELECT id FROM spool ORDER BY id DESC LIMIT ?)",
                (KEPT_REPORTS,),
            )

    def spooled(self) -> tuple[tuple[str, bytes], ...]:
        """Reports (key, bytes) that wait to be sent, oldest first."""
        with _explained():
            if self._db.execute("PRAGMA user_version").fetchone()[0] < 3:
                return ()
            rows = self._db.execute("SELECT key, body FROM spool ORDER BY id").fetchall()
        return tuple((str(key), bytes(body)) for key, body in rows)

    def unspool(self, keys: Sequence[str]) -> None:
        """Reports under these keys need not be sent any more."""
        with self._transaction():
            self._db.executemany("DELETE FROM spool WHERE key = ?", [(key,) for key in keys])

    def _knows_bundles(self) -> bool:
        """False for a file of an older agent that is only being read."""
        with _explained():
            return bool(self._db.execute("PRAGMA user_version").fetchone()[0] > 1)

    def _note(self, events: Sequence[tuple[str, str, Mapping[str, Any]]], at: float) -> None:
        self._db.executemany(
            "INSERT INTO event (at, kind, digest, body) VALUES (?, ?, ?, ?)",
            [(at, kind, digest, _dump(body)) for kind, digest, body in events],
        )
        self._db.execute(
            "DELETE FROM event WHERE id NOT IN (SELECT id FROM event ORDER BY id DESC LIMIT ?)",
            (KEPT_EVENTS,),
        )

    def latest(self) -> Stored | None:
        """The calibration in force."""
        return next(iter(self.calibrations(1)), None)

    def calibrations(self, most: int = KEPT_CALIBRATIONS) -> tuple[Stored, ...]:
        """Calibrations, newest first."""
        with _explained():
            rows = self._db.execute(
                "SELECT id, created_at, body FROM calibration ORDER BY id DESC LIMIT ?", (most,)
            ).fetchall()
        return tuple(Stored(r[0], r[1], _load(r[2])) for r in rows)

    def note_drift(self, body: Mapping[str, Any], at: float) -> None:
        """Keep what a check found."""
        with self._transaction():
            self._db.execute("INSERT INTO drift (at, body) VALUES (?, ?)", (at, _dump(body)))
            self._db.execute(
                "DELETE FROM drift WHERE id NOT IN (SELECT id FROM drift ORDER BY id DESC LIMIT ?)",
                (KEPT_DRIFTS,),
            )

    def drifts(self) -> tuple[Stored, ...]:
        """Checks whether the calibration in force still holds, newest first."""
        with _explained():
            if self._db.execute("PRAGMA user_version").fetchone()[0] < 3:
                return ()
            rows = self._db.execute("SELECT id, at, body FROM drift ORDER BY id DESC").fetchall()
        return tuple(Stored(r[0], r[1], _load(r[2])) for r in rows)

    def _forget_old(self) -> None:
        self._db.execute(
            "DELETE FROM timing WHERE run NOT IN (SELECT id FROM run ORDER BY id DESC LIMIT ?)",
            (KEPT_RUNS,),
        )
        self._db.execute(
            "DELETE FROM calibration WHERE id NOT IN"
            " (SELECT id FROM calibration ORDER BY id DESC LIMIT ?)",
            (KEPT_CALIBRATIONS,),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back on a full disk
                    self._db.execute("ROLLBACK")
                raise


def open_state(directory: Path) -> State:
    """The state in ``directory`` for writing; made (mode 0700) where there is none.

    Call with the lock held (``agent.lock``). A database that is damaged, or holds a record that
    cannot be read, is renamed to ``state.corrupt-<n>`` beside it and an empty one takes its place;
    ``State.notices`` says so.

    Raises:
        StateError: the directory cannot be written, or a newer agent wrote the database.
    """
    make_directory(directory)
    path = directory / FILE
    notices: tuple[str, ...] = ()
    if path.exists() and (damage := _damage(path, every_record=True)):
        aside = _move_aside(path)
        notices = (f"the state database was damaged ({damage}); kept as {aside}, started afresh",)
    with _explained(path):
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with _closing_on_error(db):
            path.chmod(0o600)
            db.execute("PRAGMA journal_mode=TRUNCATE")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA foreign_keys=ON")
            db.execute("PRAGMA secure_delete=ON")  # secrets and reports that are dropped are gone
            _create(db)
    return State(db, notices)


def read_state(directory: Path) -> State:
    """The state in ``directory`` for reading only; nothing is written.

    Empty where there is none yet, or none but its file when the power went.

    Raises:
        DamagedError: it is damaged.
        StateError: it cannot be read, or a newer agent wrote it.
    """
    path = directory / FILE
    try:
        present = path.exists()
    except OSError as error:
        raise StateError(f"{directory} cannot be read: {error.strerror}", _WITH_SUDO) from error
    if not present:
        return _nothing()
    if damage := _damage(path):
        raise DamagedError(f"the state database {path} is damaged ({damage})", _AFRESH)
    with _explained(path):
        uri = f"{path.resolve().as_uri()}?mode=ro"
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with _closing_on_error(db):
            filled = db.execute("PRAGMA user_version").fetchone()[0]
    if filled:
        return State(db)
    db.close()
    return _nothing()


def _nothing() -> State:
    """The state of a machine that was never calibrated."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _create(db)
    return State(db)


def make_directory(directory: Path) -> None:
    """Make the state directory, private to this user; StateError where that fails."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"the state directory {directory} cannot be made: {error.strerror}",
            "Name another with --state-dir DIR or AGENT_STATE_DIR.",
        ) from error
    owner = directory.stat().st_uid
    if os.geteuid() == 0 and owner != 0:  # what root leaves there, its owner could not read
        raise StateError(
            f"the state directory {directory} belongs to the user {owner}, and you are root",
            f"Run it as that user (`sudo -u '#{owner}' agent ...`), or name another directory "
            "with --state-dir DIR.",
        )
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise StateError(
            f"the state directory {directory} lies on a file system that is read-only",
            "A disk with faults becomes so by itself (`dmesg` tells). Mend it and mount it for "
            "writing, or name another directory with --state-dir DIR.",
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StateError(
            f"the state directory {directory} of the user {name_of(owner)} cannot be written",
            "Run it with sudo, or name another with --state-dir DIR or AGENT_STATE_DIR.",
        )


def _create(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA:
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in "".join(_SINCE[version:]).split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute(f"PRAGMA user_version={SCHEMA}")
    db.execute("COMMIT")


def _damage(path: Path, *, every_record: bool = False) -> str:
    """What is wrong with the file, empty if nothing; StateError if a newer agent wrote it."""
    if path.is_symlink() or not path.is_file():
        raise StateError(f"{path} is not a plain file", "Move it away, or use --state-dir DIR.")
    if not os.access(path, os.R_OK):
        owner = name_of(path.stat().st_uid)
        raise StateError(f"{path} of the user {owner} cannot be read", _WITH_SUDO)
    try:
        uri = f"{path.resolve().as_uri()}?mode={'rw' if os.access(path.parent, os.W_OK) else 'ro'}"
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with contextlib.closing(db):
            return _inspect(db, path) or (_unreadable(db) if every_record else "")
    except sqlite3.DatabaseError as error:
        # Errors that Python's own module makes have no code.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_THE_FILES_FAULT:
            raise StateError(f"{path} cannot be opened: {error}", _hint(error)) from error
        return str(error)
    except UnicodeDecodeError:  # from the file into the words of an error
        return "its text is not UTF-8"


def _inspect(db: sqlite3.Connection, path: Path) -> str:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return ""  # made and not yet filled when the power went
    if application != APPLICATION:
        return "it is another program's database"
    if version > SCHEMA:
        raise StateError(
            f"{path} was written by a newer agent (schema {version}, this agent knows {SCHEMA})",
            "Update this agent, or name another directory with --state-dir.",
        )
    if _columns(db) != _columns_of(version):
        return f"its tables are not those of schema {version}"
    with path.open("rb") as file:
        if max(file.read(20)[18:]) > 2:  # SQLite would read the file, and say it is read-only
            return "its header names a format that does not exist"
    verdict = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if verdict == "ok" else verdict.splitlines()[-1]


def _columns(db: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Every column: the table's name and its own."""
    found = db.execute(
        "SELECT made.name, part.name FROM sqlite_schema AS made, pragma_table_info(made.name)"
        " AS part WHERE made.type = 'table' AND made.name NOT LIKE 'sqlite%'"
    )
    return frozenset((str(table), str(column)) for table, column in found)


def _columns_of(version: int) -> frozenset[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript("".join(_SINCE[: max(version, 0)]))
        return _columns(db)


def _unreadable(db: sqlite3.Connection) -> str:
    """Where a record lies that cannot be read, empty if nowhere; found, it would stop everything.

    SQLite finds damage to its own structures only.
    """
    columns = _columns(db)
    for table in sorted({table for table, _ in columns}):
        body = "body" if (table, "body") in columns and table != "spool" else "'{}'"
        try:
            for row in db.execute(f"SELECT *, {body} FROM {table}"):  # noqa: S608  names of ours
                _load(row[-1])
        except DamagedError:
            return f"a record of {table} cannot be read"
    return ""


def _move_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"state.corrupt-{number}")).exists():
        number += 1
    try:
        path.rename(aside)
        journal = path.with_name(FILE + "-journal")
        if journal.exists():
            journal.rename(aside.with_name(aside.name + "-journal"))
    except OSError as error:
        raise StateError(f"the damaged {path} cannot be moved aside: {error.strerror}") from error
    return aside


@contextlib.contextmanager
def _explained(path: Path | None = None) -> Iterator[None]:
    """SQLite's and the system's errors in people's words."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        where = f" ({path})" if path else ""
        raise StateError(f"the state database{where}: {error}", _hint(error)) from error
    except OSError as error:
        raise StateError(f"{path or 'the state directory'}: {error.strerror}") from error


def _hint(error: Exception) -> str:
    words = str(error)
    if "full" in words or "disk I/O" in words:
        return "Free some space and run the command again: timings written so far are kept."
    if "readonly" in words or "unable to open" in words:
        return "Make the directory writable, or name another with --state-dir DIR."
    if "locked" in words:
        return "Another process uses the database; try again in a moment."
    return "Move the file away and calibrate again if this goes on."


@contextlib.contextmanager
def _closing_on_error(db: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise


def _dump(body: Mapping[str, Any]) -> str:
    return json.dumps(finite(body), allow_nan=False, separators=(",", ":"))


def _load(text: object) -> Mapping[str, Any]:
    try:
        body = json.loads(text) if isinstance(text, str) and len(text) <= MAX_BODY else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise DamagedError("the state database holds a record that cannot be read", _AFRESH)
    return body


def finite(value: Any) -> Any:
    """``value`` with every number that is not finite replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
