"""Numbers that came from a file: checked for type, shape, size and range before they are used."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.arrays import Doubles, Ints

LARGEST = 1e9  # no weight, scale or threshold of a sound model comes near it
SMALLEST_SCALE = 1e-6


class MalformedError(ValueError):
    """A stored record is not what its schema says; callers turn it into their AgentError."""


def record(value: object, name: str) -> Mapping[str, Any]:
    """Return ``value`` if it is a JSON object; else MalformedError."""
    if not isinstance(value, Mapping):
        raise MalformedError(f"{name} is not an object")
    return value


def field(data: Mapping[str, Any], key: str) -> Any:
    """Return ``data[key]``; MalformedError if it is missing."""
    if key not in data:
        raise MalformedError(f"{key} is missing")
    return data[key]


def number(value: object, name: str, low: float = -LARGEST, high: float = LARGEST) -> float:
    """Return a finite number in [low, high]; MalformedError else (booleans are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"{name} is not a number")
    if not (low <= value <= high):
        raise MalformedError(f"{name} is outside {low:g} to {high:g}")
    return float(value)


def floats(value: object, name: str, shape: tuple[int | None, ...], most: int) -> Doubles:
    """Return nested lists of finite numbers as an array of ``shape`` (None: any length).

    Args:
        value: a list (one dimension) or a list of lists (two dimensions).
        name: what it is called in the message.
        shape: expected length of each dimension, one or two of them.
        most: the largest length accepted where the shape says None.
    """
    rows = _list(value, name, shape[0], most)
    if len(shape) == 1:
        return np.array([number(x, name) for x in rows], dtype=np.float64)
    width = shape[1]
    if width is None and rows:
        width = len(_list(rows[0], name, None, most))
    table = [[number(x, name) for x in _list(row, name, width, most)] for row in rows]
    return np.array(table, dtype=np.float64).reshape(len(rows), width or 0)


def integers(value: object, name: str, length: int | None, most: int) -> Ints:
    """Return a list of whole numbers as an array; MalformedError else."""
    array = floats(value, name, (length,), most)
    if not np.array_equal(array, np.floor(array)):
        raise MalformedError(f"{name} holds a number that is not whole")
    return array.astype(np.int64)


def finite(array: Doubles, name: str) -> Doubles:
    """Return ``array`` if every entry is finite and bounded; else MalformedError."""
    if array.size and not bool(np.all(np.abs(array) <= LARGEST)):
        raise MalformedError(f"{name} holds a number that is not finite or absurdly large")
    return array


def scale(value: float, name: str) -> float:
    """Return a standard deviation or the like, if it is positive, finite and bounded."""
    if not math.isfinite(value) or not SMALLEST_SCALE <= value <= LARGEST:
        raise MalformedError(f"{name} is not a positive finite number")
    return float(value)


def _list(value: object, name: str, length: int | None, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError(f"{name} is not a list")
    if len(value) > most or (length is not None and len(value) != length):
        expected = f"{length}" if length is not None else f"at most {most}"
        raise MalformedError(f"{name} has {len(value)} entries, expected {expected}")
    return value
