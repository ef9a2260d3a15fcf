"""In which week a report last came with a token, so that a plant that went silent is noticed.

A token is a plant's, so no machine is told by it; and no moment is kept, only a week.
"""

from __future__ import annotations

from sqlalchemy import or_, update

from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import tokens


class Heard:
    """Tokens and weeks; what is new is written now and then, at most once a token and week."""

    def __init__(self) -> None:
        self._weeks: dict[str, int] = {}
        self._new: dict[str, int] = {}

    def note(self, name: str, week: int) -> None:
        """A report was counted that came with this token."""
        if week > self._weeks.get(name, 0):
            self._weeks[name] = self._new[name] = week

    def write(self, database: Database) -> None:
        """Keep what is new; a week that was is never taken back."""
        if not self._new:
            return
        new, self._new = self._new, {}
        try:
            with database.writing() as connection:
                for name, week in sorted(new.items()):
                    older = or_(tokens.c.heard_week.is_(None), tokens.c.heard_week < week)
                    which = update(tokens).where(tokens.c.name == name, older)
                    connection.execute(which.values(heard_week=week))
        except BaseException:
            self._new = new | self._new
            raise
