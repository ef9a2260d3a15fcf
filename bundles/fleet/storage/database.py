"""SQLite or PostgreSQL behind one door: transactions that write, snapshots that are read."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from agent.errors import AgentError, Exit

LOG = logging.getLogger("bundles.fleet")
TOLD_EVERY_S = 60
MIGRATIONS = Path(__file__).with_name("migrations")
WAIT_S = 30  # for a lock, for one statement
CONNECT_S = 5
SNAPSHOT = "REPEATABLE READ"


class DatabaseError(AgentError):
    """The database is not there, or not as it should be."""

    exit_code = Exit.UNREACHABLE


@dataclass(frozen=True)
class Database:
    """An engine, and how its transactions begin."""

    engine: Engine

    @property
    def is_postgresql(self) -> bool:
        """Or else it is SQLite."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """A transaction; committed at the end.

        Args:
            alone: sees one moment only, and no other such transaction changes it (PostgreSQL; a
                SQLite transaction always does), for what reads and then deletes what it read.
        """
        one_moment = alone and self.is_postgresql
        with self.engine.connect() as connection:
            connection.execution_options(writes=True)
            if one_moment:
                connection.execution_options(isolation_level=SNAPSHOT)
            with connection.begin():
                if one_moment:  # before the first statement, which sets the moment
                    connection.exec_driver_sql("LOCK TABLE progress IN SHARE ROW EXCLUSIVE MODE")
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot: whatever is read in it is of one moment."""
        with self.engine.connect() as connection:
            if self.is_postgresql:
                connection.execution_options(isolation_level=SNAPSHOT, postgresql_readonly=True)
            with connection.begin():
                yield connection

    def insert(self, table: sqlalchemy.Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that knows ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
        return postgresql.insert(table) if self.is_postgresql else sqlite.insert(table)

    def forget(self) -> None:
        """Give away the space of what was deleted, now and not when there is time for it."""
        if self.is_postgresql:
            alone = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            with alone as connection:
                connection.exec_driver_sql("VACUUM (SKIP_LOCKED, ANALYZE) seen, reports, firsts")
            return
        raw = self.engine.raw_connection()  # SQLAlchemy's own would begin a transaction
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            raw.close()

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()


def open_database(address: str, *, create: bool = True) -> Database:
    """The database at ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``, its tables up to date.

    Args:
        address: where it is.
        create: make what is not there; else it is refused.

    Raises:
        DatabaseError: no such database, or a newer version of this program has been at it.
    """
    url = _url(address)
    database = Database(_engine(url))
    try:
        with database_errors_explained(address):
            _make_or_find(database, address, create=create)
            migrate(database.engine)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def database_errors_explained(address: str) -> Iterator[None]:
    """What a database refuses, in words: DatabaseError."""
    try:
        yield
    except SQLAlchemyError as error:
        own = _url(address).get_backend_name() == "sqlite"
        raise DatabaseError(
            f"the database {public_name(address)} cannot be used: {driver_reason(error)}",
            "Is there space left, and may this user write the file and its directory?"
            if own
            else "Is it running, and does the user in its address own it?",
        ) from error


def _make_or_find(database: Database, address: str, *, create: bool) -> None:
    url = _url(address)
    try:
        if create:
            _make_file(url)
        elif _is_missing(url) or not sqlalchemy.inspect(database.engine).has_table("progress"):
            raise DatabaseError(
                f"there is no fleet in {public_name(address)}",
                "Name the centre's database (--database, FLEET_DATABASE); `bundles fleet serve` "
                "makes a new one.",
            )
    except OSError as error:
        raise DatabaseError(
            f"the database {public_name(address)} cannot be made: {error.strerror}",
            "Name another place with --database.",
        ) from error


def public_name(address: str) -> str:
    """The address as it may be told: with the whole path, without a password."""
    url = _url(address)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{Path(url.database or '').absolute()}"
    told = url.set(drivername="postgresql")
    return told.difference_update_query(["password", "sslpassword"]).render_as_string()


class Complaint:
    """Tells the log what fails, however many callers find it out, once a minute."""

    def __init__(self, what: str) -> None:
        self._what, self._next = what, float("-inf")

    def tell(self, error: BaseException) -> None:
        """Say why, unless that was just done."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + TOLD_EVERY_S
            LOG.warning("%s: %s", self._what, driver_reason(error))


COMPLAINT = Complaint("the database does not answer")


def driver_reason(error: BaseException) -> str:
    """The first line of what a driver says."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return said.splitlines()[0]


def public_reason(error: BaseException) -> str:
    """What may be told to anybody: SQLite's reasons name nothing; PostgreSQL's may name a host."""
    told = isinstance(getattr(error, "orig", None), sqlite3.Error)
    return driver_reason(error) if told else "the database does not answer, or takes no more"


def migrate(engine: Engine) -> None:
    """Bring the tables up to this version; one process does it, the others wait.

    Raises:
        DatabaseError: the tables are of a newer version.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(20261124)")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseError(
                f"the fleet's database is not of this version: {error}",
                "Use the version of `bundles` that made it, or a newer one.",
            ) from error


def _url(address: str) -> URL:
    try:
        url = make_url(address)
    except ArgumentError as error:
        hint = "Write sqlite:///FILE or postgresql://USER@HOST/NAME."
        raise DatabaseError("the database's address cannot be read", hint) from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        hint = "Write sqlite:///FILE or postgresql://USER@HOST/NAME."
        raise DatabaseError(f"{url.drivername} is not a database this knows", hint)
    if url.drivername == "sqlite" and (url.database or ":").startswith((":", "file:")):
        raise DatabaseError("SQLite needs a file", "Write sqlite:///FILE.")
    return url


def _is_missing(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()


def _make_file(url: URL) -> None:
    """An empty file that is its owner's only; SQLite gives its journal the same mode."""
    if _is_missing(url):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(url.database or "", flags, 0o600))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    return sqlalchemy.create_engine(
        url,
        pool_size=4,
        max_overflow=4,
        pool_timeout=CONNECT_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_S,
            "tcp_user_timeout": WAIT_S * 1000,  # a server that vanished is not waited for longer
            "keepalives_idle": CONNECT_S,
            "options": f"-c lock_timeout={WAIT_S}s -c timezone=UTC",
        },
    )


def _sqlite(url: URL) -> Engine:
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives the power
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
