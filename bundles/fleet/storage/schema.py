"""The tables. Migrations (``migrations/``) make them; a test compares the two.

``seen``, ``reports`` and ``firsts`` are pending: they are emptied as weeks close and cells are
released. ``cells``, ``parts`` and ``evidence`` are what is shown, and hold counts of ten machines
or more only, but for those that are ``labelled``. Moments are whole seconds since 1970.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    false,
)

metadata = MetaData()
KEY: Final = ("week", "bundle", "version", "channel", "architecture", "outcome")
ATTRIBUTES: Final = (
    "used", "gain",
    "calibrated_speedup", "alone_speedup", "calibrated_seconds", "alone_seconds",
    "calibrated_rank", "alone_rank", "calibrated_top", "alone_top",
    "toolchain", "timings", "noise",
)  # fmt: skip


def _key(*, primary: bool) -> list[Column[int] | Column[str]]:
    lengths = {"bundle": 64, "version": 32, "channel": 8, "architecture": 16, "outcome": 16}
    return [
        Column("week", Integer, primary_key=primary, nullable=False, autoincrement=False),
        *(
            Column(name, String(lengths[name]), primary_key=primary, nullable=False)
            for name in KEY[1:]
        ),
    ]


# Which dedupe values a week has seen: nothing stands beside them, and the week's end takes them.
seen = Table(
    "seen",
    metadata,
    Column("week", Integer, primary_key=True, autoincrement=False),
    Column("dedupe", LargeBinary(32), primary_key=True),
    sqlite_with_rowid=False,
)
# Reports that are counted and not yet released.
reports = Table(
    "reports",
    metadata,
    *_key(primary=False),
    *(Column(name, SmallInteger) for name in ATTRIBUTES),
    Column("labelled", Boolean, nullable=False, server_default=false()),
    Index("reports_by_key", *KEY),
)
# What machines said of a bundle for the first time in twelve weeks, and is not yet released.
firsts = Table(
    "firsts",
    metadata,
    *_key(primary=False),
    Column("labelled", Boolean, nullable=False),
    Column("used", SmallInteger),
    Index("firsts_by_key", *KEY[1:]),
)
# Of them, released under the week that it was: machines by the mean of their log error, in bins
# (-1: not known).
evidence = Table(
    "evidence",
    metadata,
    *_key(primary=True),
    Column("value", SmallInteger, primary_key=True, autoincrement=False),
    Column("machines", Integer, nullable=False),
    sqlite_with_rowid=False,
)
# What machines with a label of their site's said last in a week; log errors in bins.
labelled = Table(
    "labelled",
    metadata,
    Column("label", String(32), primary_key=True),
    Column("week", Integer, primary_key=True, autoincrement=False),
    Column("bundle", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("channel", String(8), nullable=False),
    Column("architecture", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("calibrated", SmallInteger),
    Column("alone", SmallInteger),
    sqlite_with_rowid=False,
)
cells = Table(
    "cells",
    metadata,
    *_key(primary=True),
    Column("machines", Integer, nullable=False),
    CheckConstraint("machines > 0", name="cells_not_empty"),
    sqlite_with_rowid=False,
)
# Of a cell, groups of machines by an attribute: their label, or the mean of their bins.
parts = Table(
    "parts",
    metadata,
    *_key(primary=True),
    Column("attribute", String(24), primary_key=True),
    Column("value", SmallInteger, primary_key=True, autoincrement=False),
    Column("machines", Integer, nullable=False),
    Index("parts_by_attribute", "attribute", "week"),
    sqlite_with_rowid=False,
)
# One row: up to which week all is closed, when cells were last released, and what was chosen once
# for all who open the database (None: nothing yet).
progress = Table(
    "progress",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("closed", Integer, nullable=False),
    Column("released_at", BigInteger),
    Column("threshold", Integer),
    Column("late_weeks", Integer),
    CheckConstraint("one = 1", name="progress_is_one_row"),
)
# Who may send (machine) or read (staff) by a token; only its SHA-256 is kept, and the last week in
# which any report came with it.
tokens = Table(
    "tokens",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("sha256", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("heard_week", Integer),
)
users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("argon2", String(256), nullable=False),
)
sessions = Table(
    "sessions",
    metadata,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("ends_at", BigInteger, nullable=False, index=True),
)
