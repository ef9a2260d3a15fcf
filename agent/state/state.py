"""What this machine remembers: one SQLite file, every timing durable as it arrives.

    run          one attempt at a calibration: planned, then finished or not
    timing       one measured variant of the fixed set, written at once
    calibration  the whole result of a run; a fact says which is in force
    event        what happened to a bundle here (kinds: agent/bundle/installed.py)
    fact         a few things to be remembered by name: the calibration in force, version floors
    drift        checks whether the calibration in force still holds (agent/upkeep/drift.py)
    spool        reports that wait to be sent (agent/report/)

A calibration becomes visible, and in force if it may, in the same transaction that finishes its
run, so the old one stays in force until the new one is whole. The rollback journal with FULL
synchronisation is used, not a write-ahead log: a few dozen commits need no speed, and the file can
be read from read-only media.
The file itself (tables, damage) is ``agent/state/file.py``'s.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from agent.errors import DamagedError, StateError
from agent.json_values import JsonObject
from agent.state.file import (
    BUSY_TIMEOUT_S,
    FILE,
    WITH_SUDO,
    closing_on_error,
    create,
    damage_of,
    dump,
    explained,
    load,
    make_directory,
    move_aside,
    refuse_anothers,
    refuse_closed,
)
from agent.state.rows import AFRESH, insert, read_any_text, seal, select
from agent.system.refused import set_mode

IN_FORCE = "calibration in force"  # the fact; without it (an older agent) the newest is
KEPT_RUNS = 50
KEPT_CALIBRATIONS = 100
KEPT_EVENTS = 500
KEPT_DRIFTS = 400
KEPT_REPORTS = 20  # that wait to be sent
Body = TypeVar("Body", covariant=True)
Notes = Sequence[tuple[str, str, Mapping[str, object]]]  # events to be: kind, digest, body


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
    body: JsonObject


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a calibration; ``identity`` says of which machine, compiler and set."""

    id: int
    started_at: float
    finished_at: float | None
    identity: str
    planned: int


@dataclass(frozen=True, slots=True)
class StoredRecord(Generic[Body]):
    """A calibration or a check: monotone id, time (seconds since 1970) and what it says."""

    id: int
    created_at: float
    body: Body


@dataclass(frozen=True, slots=True)
class BundleEvent:
    """What happened to a bundle on this machine.

    Attributes:
        id: grows with time.
        at: seconds since 1970.
        kind: one of those in ``agent.bundle.installed``.
        digest: SHA-256 of the bundle's manifest; empty for the one that came with the agent.
        body: name, version, why, and the verdict where there was one.
    """

    id: int
    at: float
    kind: str
    digest: str
    body: JsonObject


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
            number = insert(self._db, "run", started_at=started, identity=identity, planned=planned)
        return Run(number, started, None, identity, planned)

    def open_run(self) -> Run | None:
        """The newest run if it did not finish."""
        run = self._run("")
        return run if run and run.finished_at is None else None

    def run_of(self, calibration: int) -> Run | None:
        """The run that the timings of a calibration were made in."""
        return self._run("WHERE id = (SELECT run FROM calibration WHERE id = ?)", calibration)

    def _run(self, which: str, *given: object) -> Run | None:
        """The newest run of these."""
        rows = self._select("run", f"{which} ORDER BY id DESC LIMIT 1", *given)
        return next((Run(*row[:5]) for row in rows), None)

    def record(self, run: Run, rows: Sequence[tuple[TimingKey, Mapping[str, object]]]) -> None:
        """Write timings that belong together; they are on the disk when this returns."""
        now = time.time()
        texts = [(key, dump(body)) for key, body in rows]
        with self._transaction():
            for key, text in texts:
                more = {"run": run.id, "measured_at": now, "body": text}
                insert(self._db, "timing", **asdict(key), **more)

    def timings(self, run: Run) -> tuple[StoredTiming, ...]:
        """The timings of one run, in the order written."""
        return tuple(
            StoredTiming(
                TimingKey(**{part.name: r[part.name] for part in fields(TimingKey)}),
                r["measured_at"],
                load(r["body"]),
            )
            for r in self._select("timing", "WHERE run = ? ORDER BY id", run.id)
        )

    def finish(
        self,
        run: Run,
        body: Mapping[str, object],
        created_at: float,
        events: Notes = (),
        *,
        in_force: bool = True,
    ) -> int:
        """Keep a calibration, finish its run, note events: all or nothing; its id.

        It is in force from then on, unless ``in_force`` is False: then what was stays.
        """
        text, before = dump(body), self._number_in_force()
        with self._transaction():
            self._db.execute("UPDATE run SET finished_at = ? WHERE id = ?", (created_at, run.id))
            seal(self._db, "run", run.id)
            number = insert(self._db, "calibration", run=run.id, created_at=created_at, body=text)
            self._remember(IN_FORCE, {"id": number if in_force else before})
            self._note(events, created_at)
            self._forget_old(number if in_force else before)
        return number

    def use(self, calibration: int) -> None:
        """Put a calibration in force that is kept."""
        self.remember(IN_FORCE, {"id": calibration})

    def note(self, events: Notes, at: float) -> None:
        """Note events (kind, digest, body) of bundles, all or none."""
        with self._transaction():
            self._note(events, at)

    def events(self, *kinds: str) -> tuple[BundleEvent, ...]:
        """Events of bundles of these kinds (all, if none is named), newest first."""
        return tuple(
            BundleEvent(r["id"], r["at"], r["kind"], r["digest"], load(r["body"]))
            for r in self._select("event", "ORDER BY id DESC")
            if r["kind"] in kinds or not kinds
        )

    def fact(self, name: str) -> JsonObject | None:
        """What was remembered under a name."""
        return next((load(r["body"]) for r in self._select("fact", "WHERE name = ?", name)), None)

    def remember(self, name: str, body: Mapping[str, object]) -> None:
        """Remember something under a name, in place of what was there."""
        if self.fact(name) == body:
            return  # a write waits for the disk
        with self._transaction():
            self._remember(name, body)

    def _remember(self, name: str, body: Mapping[str, object]) -> None:
        text = dump(body)
        self._db.execute("DELETE FROM fact WHERE name = ?", (name,))
        insert(self._db, "fact", name=name, body=text)

    def spool(self, reports: Sequence[tuple[str, bytes]], at: float) -> None:
        """Keep reports (key, bytes) until they are sent; the oldest go where there are too many."""
        with self._transaction():
            for key, body in reports:
                if not any(self._select("spool", "WHERE key = ?", key)):
                    insert(self._db, "spool", at=at, key=key, body=body)
            self._db.execute(
                "DELETE FROM spool WHERE id NOT IN (SELECT id FROM spool ORDER BY id DESC LIMIT ?)",
                (KEPT_REPORTS,),
            )

    def spooled(self) -> tuple[tuple[str, bytes], ...]:
        """Reports (key, bytes) that wait to be sent, oldest first."""
        rows = self._select("spool", "ORDER BY id")
        return tuple((row["key"], row["body"]) for row in rows)

    def unspool(self, keys: Sequence[str]) -> None:
        """Reports under these keys need not be sent any more."""
        with self._transaction():
            self._db.executemany("DELETE FROM spool WHERE key = ?", [(key,) for key in keys])

    def _select(self, table: str, rest: str, *given: object) -> tuple[sqlite3.Row, ...]:
        """Rows of a table; none of one that a file of an older agent, only being read, lacks."""
        with explained():
            if not self._db.execute(f"PRAGMA table_info({table})").fetchone():
                return ()
            return tuple(select(self._db, table, rest, given))

    def _note(self, events: Notes, at: float) -> None:
        for kind, digest, body in events:
            insert(self._db, "event", at=at, kind=kind, digest=digest, body=dump(body))
        self._db.execute(
            "DELETE FROM event WHERE id NOT IN (SELECT id FROM event ORDER BY id DESC LIMIT ?)",
            (KEPT_EVENTS,),
        )

    def calibration_in_force(self) -> StoredRecord[JsonObject] | None:
        """The calibration that predictions use now; None: the bundle predicts alone."""
        rows = self._select("calibration", "WHERE id = ?", self._number_in_force())
        return next((StoredRecord(r["id"], r["created_at"], load(r["body"])) for r in rows), None)

    def _number_in_force(self) -> int:
        """Its id; 0: none is. Before there was the fact, the newest always was."""
        known = self.fact(IN_FORCE)
        if known is None:
            newest = next(iter(self.calibrations(1)), None)
            return newest.id if newest else 0
        number = known.get("id")
        return number if isinstance(number, int) else 0

    def calibrations(self, most: int = KEPT_CALIBRATIONS) -> tuple[StoredRecord[JsonObject], ...]:
        """Calibrations made, in force or not, newest first."""
        rows = self._select("calibration", "ORDER BY id DESC LIMIT ?", most)
        return tuple(StoredRecord(r["id"], r["created_at"], load(r["body"])) for r in rows)

    def note_drift(self, body: Mapping[str, object], at: float) -> None:
        """Keep what a check found."""
        with self._transaction():
            insert(self._db, "drift", at=at, body=dump(body))
            self._db.execute(
                "DELETE FROM drift WHERE id NOT IN (SELECT id FROM drift ORDER BY id DESC LIMIT ?)",
                (KEPT_DRIFTS,),
            )

    def drifts(self) -> tuple[StoredRecord[JsonObject], ...]:
        """Checks whether the calibration in force still holds, newest first."""
        rows = self._select("drift", "ORDER BY id DESC")
        return tuple(StoredRecord(r["id"], r["at"], load(r["body"])) for r in rows)

    def _forget_old(self, in_force: int) -> None:
        """All but the newest calibrations and timings, and those of the one in force."""
        self._db.execute(
            "DELETE FROM timing WHERE run NOT IN (SELECT id FROM run ORDER BY id DESC LIMIT ?)"
            " AND run NOT IN (SELECT run FROM calibration WHERE id = ?)",
            (KEPT_RUNS, in_force),
        )
        self._db.execute(
            "DELETE FROM calibration WHERE id != ? AND id NOT IN"
            " (SELECT id FROM calibration ORDER BY id DESC LIMIT ?)",
            (in_force, KEPT_CALIBRATIONS),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained():
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

    Call with the lock held (``agent.state.lock``). A database that is damaged, or holds a
    record that cannot be read, is renamed to ``state.corrupt-<n>`` beside it and an empty one
    takes its place; ``State.notices`` says so.

    Raises:
        StateError: the directory cannot be written, or a newer agent wrote the database.
    """
    make_directory(directory)
    path = directory / FILE
    notices: tuple[str, ...] = ()
    if path.exists() and (damage := damage_of(path, every_record=True)):
        aside = move_aside(path)
        notices = (f"the state database was damaged ({damage}); kept as {aside}, started afresh",)
    refuse_closed(path, os.W_OK, "written")  # SQLite would say so at the first change only
    with explained(path):
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with closing_on_error(db):
            read_any_text(db)
            with path.open("rb") as file:
                set_mode(file.fileno(), 0o600)
            db.execute("PRAGMA journal_mode=TRUNCATE")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA foreign_keys=ON")
            db.execute("PRAGMA secure_delete=ON")  # secrets and reports that are dropped are gone
            create(db)
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
        refuse_anothers(directory)
        present = path.exists()
    except OSError as error:
        raise StateError(f"{directory} cannot be read: {error.strerror}", WITH_SUDO) from error
    if not present:
        return _nothing()
    if damage := damage_of(path):
        raise DamagedError(f"the state database {path} is damaged ({damage})", AFRESH)
    with explained(path):
        uri = f"{path.resolve().as_uri()}?mode=ro"
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with closing_on_error(db):
            read_any_text(db)
            filled = db.execute("PRAGMA user_version").fetchone()[0]
    if filled:
        return State(db)
    db.close()
    return _nothing()


def _nothing() -> State:
    """The state of a machine that was never calibrated."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    create(db)
    return State(db)
