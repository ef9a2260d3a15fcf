"""Values of JSON: their types, and the checks of numbers that come from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias, TypeGuard, TypeVar

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | JsonObject | None"
JsonObject: TypeAlias = "Mapping[str, JsonValue]"

T = TypeVar("T")
LATER = "not written where it is not known"
Later: TypeAlias = Annotated[T | None, LATER]  # a field that a later agent added: ``= None``

LARGEST = 1e9  # no weight, scale or threshold of a sound model comes near it


class MalformedError(ValueError):
    """A stored record is not what its schema says; callers turn it into their AgentError."""


def as_object(value: object, name: str) -> JsonObject:
    """Return ``value`` if it is a JSON object; else MalformedError."""
    if not isinstance(value, Mapping):
        raise MalformedError(f"{name} is not an object")
    return value


def member(data: JsonObject, key: str) -> JsonValue:
    """Return ``data[key]``; MalformedError if it is missing."""
    if key not in data:
        raise MalformedError(f"{key} is missing")
    return data[key]


def number_within(value: object, name: str, low: float = -LARGEST, high: float = LARGEST) -> float:
    """Return a finite number in [low, high]; MalformedError else (booleans are no numbers)."""
    if not is_number(value):
        raise MalformedError(f"{name} is not a number")
    if not (low <= value <= high):  # false for NaN, and exact for whole numbers of any length
        raise MalformedError(f"{name} is outside {low:g} to {high:g}")
    return float(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number, finite or not; booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite_object(value: Mapping[str, object]) -> dict[str, object]:
    """An object as JSON can say it: numbers that are not finite become None, at any depth.

    Tuples become lists, and keys text; what else JSON does not know stays as it is.
    """
    return {str(key): _finite(item) for key, item in value.items()}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return finite_object(value)
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
