"""The file of the state: its tables by schema, what damage is, and how it is set aside.

A damaged file is moved aside, never deleted; a file from a newer agent is left alone. Errors of
SQLite and the system are told in people's words.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.errors import DamagedError, StateError
from agent.json_values import JsonObject, finite_object
from agent.state.rows import AFRESH, CHECKSUM, read_any_text, seal_all, select
from agent.system.private import (
    ANOTHER,
    inspect_path,
    name_of,
    refuse_if_replaceable,
    refuse_if_writable,
)

FILE = "state.sqlite"
SCHEMA = 4  # each has tables of its own: a number that does not fit them has flipped
APPLICATION = 0x43414C41  # "CALA": tells our file from any other SQLite file
BUSY_TIMEOUT_S = 10.0
MAX_BODY = 4 << 20
WITH_SUDO = "Run it with sudo: it then acts as the owner of that directory."

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
TABLES = ("run", "timing", "calibration", "event", "fact", "drift", "spool")
_TABLES_4 = "".join(f"ALTER TABLE {name} ADD COLUMN {CHECKSUM} INTEGER;\n" for name in TABLES)
_SINCE = (_TABLES, _TABLES_2, _TABLES_3, _TABLES_4)  # what each schema added
_WITH_CHECKSUMS = 4
# What SQLite says of the disk, the rights or other processes: the file may be whole.
_NOT_THE_FILES_FAULT = frozenset((
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
))  # fmt: skip


def make_directory(directory: Path) -> None:
    """Make the state directory, private to this user; StateError where that fails."""
    user = os.geteuid()
    with _reached(directory):
        refuse_if_replaceable(inspect_path(directory), user)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = inspect_path(directory)  # somebody may have been first
    refuse_if_replaceable(place, user)
    owner = directory.stat().st_uid
    if user == 0 and owner != 0:  # what root leaves there, its owner could not read
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
    refuse_if_writable(place, user)
    _refuse_planted(directory, user)


@contextlib.contextmanager
def _reached(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = f"the state directory {directory} cannot be made: {error.strerror}"
        raise StateError(words, ANOTHER) from error


def _refuse_planted(directory: Path, user: int) -> None:
    """What lies in the directory was put there by its owner, or it was open to others once."""
    with _reached(directory), os.scandir(directory) as entries:
        for entry in entries:
            owner = entry.stat(follow_symlinks=False).st_uid
            if owner not in (0, user):
                raise StateError(
                    f"{entry.path} belongs to the user {name_of(owner)}, and lies in the state of "
                    f"{name_of(user)}",
                    f"Look at what it is. Then remove it, or give it back: `sudo chown -R "
                    f"--reference={directory} {entry.path}`.",
                )


def refuse_anothers(directory: Path) -> None:
    """Refuse to believe a state that a third user could have written.

    Raises:
        StateError: so it is. OSError: the directory cannot be looked at.
    """
    place, user = inspect_path(directory), os.geteuid()
    if place.found is None:
        return
    owner = place.found.st_uid
    if owner not in (0, user):
        raise StateError(f"the state {directory} belongs to the user {name_of(owner)}", WITH_SUDO)
    refuse_if_replaceable(place, user)
    refuse_if_writable(place, owner)


def create(db: sqlite3.Connection) -> None:
    """Make what this schema has and an older one (or none) has not, in one transaction."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA:
        return
    db.execute("BEGIN IMMEDIATE")
    for statement in "".join(_SINCE[version:]).split(";"):
        db.execute(statement)
    if version < _WITH_CHECKSUMS:
        for table in TABLES:
            seal_all(db, table)
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute(f"PRAGMA user_version={SCHEMA}")
    db.execute("COMMIT")


def damage_of(path: Path, *, every_record: bool = False) -> str:
    """What is wrong with the file, empty if nothing; StateError if a newer agent wrote it."""
    if path.is_symlink() or not path.is_file():
        raise StateError(f"{path} is not a plain file", "Move it away, or use --state-dir DIR.")
    refuse_closed(path, os.R_OK, "read")
    try:
        uri = f"{path.resolve().as_uri()}?mode={'rw' if os.access(path.parent, os.W_OK) else 'ro'}"
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with contextlib.closing(db):
            read_any_text(db)
            return _inspect(db, path) or (_unreadable(db) if every_record else "")
    except sqlite3.DatabaseError as error:
        # Errors that Python's own module makes have no code.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_THE_FILES_FAULT:
            raise StateError(f"{path} cannot be opened: {error}", _hint(error)) from error
        return str(error)
    except UnicodeDecodeError:  # from the file into the words of an error
        return "its text is not UTF-8"


def refuse_closed(path: Path, right: int, done: str) -> None:
    """StateError if this user lacks a right (``os.R_OK``, ``os.W_OK``) on a file that is there."""
    if path.exists() and not os.access(path, right):
        owner = name_of(path.stat().st_uid)
        raise StateError(f"{path} of the user {owner} cannot be {done}", _to_read(path))


def _to_read(path: Path) -> str:
    """What helps somebody who may not use the file; sudo does not where its owner is the wrong one.

    Root acts as the owner of the directory, who then is the one who may not.
    """
    try:
        folder, file = path.parent.stat().st_uid, path.stat().st_uid
    except OSError:
        return WITH_SUDO
    if folder != file:
        return f"Give it back: `sudo chown --reference={path.parent} {path}`."
    if file == os.geteuid():
        return f"Run `chmod u+rw {path}`."
    return WITH_SUDO


def _inspect(db: sqlite3.Connection, path: Path) -> str:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return ""  # made and not yet filled when the power went
    if application != APPLICATION:
        return "it is another program's database"
    tables = _tables(db)
    made = next((n for n in range(SCHEMA, 0, -1) if _tables_of(n) == tables), 0)
    if version > SCHEMA and not made:
        raise StateError(
            f"{path} was written by a newer agent (schema {version}, this agent knows {SCHEMA})",
            f"Update this agent: install the newer one again. To go on with this one: `rm {path}`, "
            "which costs a calibration.",
        )
    if version != made:
        return f"its tables are not those of schema {version}"
    with path.open("rb") as file:
        if max(file.read(20)[18:]) > 2:  # SQLite would read the file, and say it is read-only
            return "its header names a format that does not exist"
    verdict = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return "" if verdict == "ok" else verdict.splitlines()[-1]


def _tables(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """Every table and index: kind, name, table and how it was made."""
    found = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
    return frozenset((*map(str, names), " ".join((sql or "").split())) for *names, sql in found)


def _tables_of(version: int) -> frozenset[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript("".join(_SINCE[:version]))
        return _tables(db)


def _unreadable(db: sqlite3.Connection) -> str:
    """Where a record lies that cannot be read, empty if nowhere."""
    known = {name for _, name, *_ in _tables(db)}
    for table in (name for name in TABLES if name in known):
        try:
            for row in select(db, table):
                if "body" in row.keys() and table != "spool":  # noqa: SIM118  of a row of SQLite
                    load(row["body"])
        except DamagedError:
            return f"a record of {table} cannot be read"
    return ""


def move_aside(path: Path) -> Path:
    """Rename a damaged file and its journal to the first free ``state.corrupt-<n>``."""
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
def explained(path: Path | None = None) -> Iterator[None]:
    """SQLite's and the system's errors in people's words."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        where = f" ({path})" if path else ""
        raise StateError(f"the state database{where}: {error}", _hint(error)) from error
    except OSError as error:
        hint = _to_read(path) if path and isinstance(error, PermissionError) else ""
        raise StateError(f"{path or 'the state directory'}: {error.strerror}", hint) from error


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
def closing_on_error(db: sqlite3.Connection) -> Iterator[None]:
    """Close the connection if what is done with it fails."""
    try:
        yield
    except BaseException:
        db.close()
        raise


def dump(body: Mapping[str, object]) -> str:
    """A record as the file keeps it; what is not finite becomes null."""
    return json.dumps(finite_object(body), allow_nan=False, separators=(",", ":"))


def load(text: object) -> JsonObject:
    """A record of the file; DamagedError if it is none."""
    try:
        body = json.loads(text) if isinstance(text, str) and len(text) <= MAX_BODY else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise DamagedError("the state database holds a record that cannot be read", AFRESH)
    return body
