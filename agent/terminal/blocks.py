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


Block = str | Table  # a paragraph, or a table
Answer = Mapping[str, Any]  # what ``--json`` prints, by keys of docs/reference/schemas
