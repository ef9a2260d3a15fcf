"""What answers to people are made of; ``console`` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows of text under headers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Verbatim:
    """Text that is shown as it is, to the byte: a file's."""

    text: str


Block = str | Table | Verbatim  # a paragraph, a table, or a file's text
Answer = Mapping[str, Any]  # what ``--json`` prints, by keys of docs/reference/schemas
