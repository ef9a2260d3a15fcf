"""Arrays that came from a file: checked for type, shape, size and range before they are used."""

import numpy as np

from agent.arrays import Doubles, Ints
from agent.json_values import LARGEST, JsonValue, MalformedError, number_within

SMALLEST_SCALE = 1e-6


def float_vector(value: JsonValue, name: str, length: int | None, most: int) -> Doubles:
    """Return a list of finite numbers as an array [length]; MalformedError else.

    Args:
        value: a list of numbers.
        name: what it is called in the message.
        length: expected length; None: any up to ``most``.
        most: the largest length accepted.
    """
    rows = _list(value, name, length, most)
    return np.array([number_within(x, name) for x in rows], dtype=np.float64)


def float_matrix(
    value: JsonValue, name: str, shape: tuple[int | None, int | None], most: int
) -> Doubles:
    """Return a list of lists of finite numbers as an array of ``shape`` (None: any length)."""
    height, width = shape
    rows = _list(value, name, height, most)
    if width is None and rows:
        width = len(_list(rows[0], name, None, most))
    table = [[number_within(x, name) for x in _list(row, name, width, most)] for row in rows]
    return np.array(table, dtype=np.float64).reshape(len(rows), width or 0)


def int_vector(value: JsonValue, name: str, length: int | None, most: int) -> Ints:
    """Return a list of whole numbers as an array; MalformedError else."""
    array = float_vector(value, name, length, most)
    if not np.array_equal(array, np.floor(array)):
        raise MalformedError(f"{name} holds a number that is not whole")
    return array.astype(np.int64)


def check_finite(array: Doubles, name: str) -> None:
    """Raise MalformedError unless every entry is finite and bounded."""
    if array.size and not bool(np.all(np.abs(array) <= LARGEST)):
        raise MalformedError(f"{name} holds a number that is not finite or absurdly large")


def check_scale(value: float, name: str) -> None:
    """Raise MalformedError unless a standard deviation or the like is positive and bounded."""
    if not SMALLEST_SCALE <= value <= LARGEST:  # false for NaN
        raise MalformedError(f"{name} is not a positive finite number")


def _list(value: JsonValue, name: str, length: int | None, most: int) -> list[JsonValue]:
    if not isinstance(value, list):
        raise MalformedError(f"{name} is not a list")
    if len(value) > most or (length is not None and len(value) != length):
        expected = f"{length}" if length is not None else f"at most {most}"
        raise MalformedError(f"{name} has {len(value)} entries, expected {expected}")
    return value
