"""States of older and newer agents, as those agents left them (tests/golden/state-N.sql)."""

import contextlib
import sqlite3
from pathlib import Path

from agent.state.file import FILE, SCHEMA, TABLES
from agent.state.rows import seal_all

GOLDEN = Path(__file__).parents[2] / "golden"
OLDER = tuple(range(1, SCHEMA))


def left_by_schema(number: int, directory: Path) -> Path:
    """The state directory of an agent of that schema: a real calibration, an unfinished run."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(directory / FILE)) as db:
        db.executescript((GOLDEN / f"state-{number}.sql").read_text())
    return directory


def made_newer(directory: Path) -> Path:
    """The same state as an agent of the next schema would leave it."""
    with contextlib.closing(sqlite3.connect(directory / FILE)) as db:
        db.execute("CREATE TABLE of_tomorrow (id INTEGER PRIMARY KEY)")
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
        db.commit()
    return directory


def changed(directory: Path, statement: str, *given: object) -> None:
    """Another content, as an agent itself would have written it."""
    with contextlib.closing(sqlite3.connect(directory / FILE)) as db:
        db.execute(statement, given)
        for table in TABLES:
            seal_all(db, table)
        db.commit()


def rows(directory: Path) -> dict[str, list[tuple]]:
    """Every row of every table."""
    with contextlib.closing(sqlite3.connect(directory / FILE)) as db:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        return {
            name: db.execute(f"SELECT * FROM {name}").fetchall()
            for (name,) in names.fetchall()
            if not name.startswith("sqlite_")
        }


def schema_of(directory: Path) -> int:
    with contextlib.closing(sqlite3.connect(directory / FILE)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]
