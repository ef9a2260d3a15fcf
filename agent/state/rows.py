"""Rows of the state's tables: each carries a checksum of what it holds, compared when it is read.

SQLite finds damage to its own structures only: where a bit of a text or a number has flipped, it
still is a text or a number.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence

from agent.errors import DamagedError

CHECKSUM = "checksum"  # the last column, of what stands before it
AFRESH = "Run `agent calibrate`: it keeps the damaged file aside and starts afresh."
_KINDS = {"INTEGER": int, "REAL": float, "TEXT": str, "BLOB": bytes}


def insert(db: sqlite3.Connection, table: str, **values: object) -> int:
    """Add a row to a table of ours; its number."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    given = tuple(values.values())
    added = db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", given)  # noqa: S608
    number = added.lastrowid or 0
    seal(db, table, number)
    return number


def seal(db: sqlite3.Connection, table: str, number: int) -> None:
    """Note the checksum of a row that was added or changed."""
    row = db.execute(f"SELECT * FROM {table} WHERE rowid = ?", (number,)).fetchone()  # noqa: S608
    noted = (_checksum(row), number)
    db.execute(f"UPDATE {table} SET {CHECKSUM} = ? WHERE rowid = ?", noted)  # noqa: S608


def seal_all(db: sqlite3.Connection, table: str) -> None:
    """Note the checksums of all rows of a table that had none."""
    for (number,) in db.execute(f"SELECT rowid FROM {table}").fetchall():  # noqa: S608
        seal(db, table, number)


def select(
    db: sqlite3.Connection, table: str, rest: str = "", given: Sequence[object] = ()
) -> Iterator[sqlite3.Row]:
    """Whole rows of a table of ours, by name of column.

    Args:
        db: open, prepared by ``read_any_text``.
        table: its name.
        rest: what follows the table's name in the query.
        given: values for the question marks in it.

    Raises:
        DamagedError: a value is not of its column's kind, or the checksum is another. Tables of
            agents that knew no checksums have none to compare.
    """
    kinds = _kinds(db, table)
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    for row in cursor.execute(f"SELECT * FROM {table} {rest}", tuple(given)):  # noqa: S608
        if not all(map(isinstance, row, kinds)) or (
            row.keys()[-1] == CHECKSUM and row[CHECKSUM] != _checksum(tuple(row))
        ):
            raise DamagedError("the state database holds a record that cannot be read", AFRESH)
        yield row


def read_any_text(db: sqlite3.Connection) -> None:
    """Let damaged text be read, so that it is found to be damaged."""
    db.text_factory = _text


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _checksum(row: Sequence[object]) -> int:
    """Of all values but the last, as Python writes them in ASCII: the same on every machine."""
    return zlib.crc32(ascii(row[:-1]).encode())


def _kinds(db: sqlite3.Connection, table: str) -> list[type | tuple[type, ...]]:
    """What each column may hold."""
    columns = db.execute(f"PRAGMA table_info({table})").fetchall()
    return [
        _KINDS[kind] if required or key else (_KINDS[kind], type(None))
        for _, _, kind, required, _, key in columns
    ]
