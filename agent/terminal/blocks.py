"""What answers to people are made of; ``console`` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Interval:
    """A number above 0 with the ends of its 80 % interval, to be drawn."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Table:
    """Rows of text under headers.

    ``intervals``: one a row (None: none is known), drawn before the last column where a terminal
    has room for them; empty: nothing is to be drawn.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    intervals: tuple[Interval | None, ...] = ()


@dataclass(frozen=True)
class Verbatim:
    """Text that is shown as it is, to the byte: a file's."""

    text: str


Block = str | Table | Verbatim  # a paragraph, a table, or a file's text
Answer = Mapping[str, Any]  # what ``--json`` prints, by keys of docs/reference/schemas
ExportFormat = Literal["csv", "md"]  # of a table for a file
