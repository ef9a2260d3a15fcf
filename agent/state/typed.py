"""Records of the state as typed values and back: frozen dataclasses, read without trust.

A record may be of an older agent, and lack what newer ones say; a disk or a person may have
damaged it. A field that is missing or of another type has its default; a record that lacks a field
without one is ``MalformedError``, and is left out where it stands in a list.

Fields are written in the order of the class. One that a later agent added is ``Later[X] = None``:
None is not written, so that what was read is written again as it was.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache, partial
from typing import (
    Annotated,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from agent.json_values import LATER, MalformedError, is_number

MOST = 1e300  # no number that was ever written comes near it; sums of two are still finite
WIDEST = 1 << 63  # of whole numbers
Read = Callable[[object], object]
T = TypeVar("T")


class DataclassInstance(Protocol):
    """Any dataclass, as ``dataclasses.fields`` takes it."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


R = TypeVar("R", bound=DataclassInstance)


def from_json(kind: type[R], data: object) -> R:
    """A dataclass from plain data; MalformedError where a field without a default is not there."""
    if not isinstance(data, Mapping):
        raise MalformedError(f"{kind.__name__} is not an object")
    found = {}
    for part in _parts(kind):
        try:
            found[part.name] = part.read(data[part.name])
        except (KeyError, MalformedError) as error:
            if part.required:
                raise MalformedError(f"{kind.__name__} lacks {part.name}") from error
    return kind(**found)


def to_json(record: DataclassInstance) -> dict[str, object]:
    """Plain data: dataclasses become objects, tuples lists."""
    pairs = ((part, getattr(record, part.name)) for part in _parts(type(record)))
    return {part.name: _plain(x) for part, x in pairs if not (x is None and part.later)}


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True, slots=True)
class _Part:
    """How one field of a dataclass is read."""

    name: str
    read: Read
    required: bool
    later: bool


@cache
def _parts(kind: type[DataclassInstance]) -> tuple[_Part, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        _Part(f.name, _reader(hints[f.name]), _required(f), LATER in get_args(hints[f.name]))
        for f in fields(kind)
    )


def _required(part: Field[object]) -> bool:
    return part.default is MISSING and part.default_factory is MISSING


@cache
def _reader(kind: object) -> Read:
    """What reads a value of a type: the few that records are made of."""
    origin, inside = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return partial(from_json, kind)
    if origin is Annotated:
        return _reader(inside[0])
    if origin in (Union, types.UnionType):
        (known,) = (k for k in inside if k is not types.NoneType)
        return partial(_optional, _reader(known))
    if origin is tuple:
        return partial(_sequence, _reader(inside[0]))
    if origin is Mapping:
        return partial(_mapping, _reader(inside[0]), _reader(inside[1]))
    return partial(_one_of, inside) if origin is Literal else _PLAIN[kind]


def _one_of(names: tuple[str, ...], value: object) -> object:
    if value not in names:
        raise MalformedError(f"none of {', '.join(names)}")
    return value


def _any(value: object) -> object:
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError("not a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise MalformedError("not true or false")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= WIDEST:
        raise MalformedError("not a whole number")
    return value


def _number(value: object) -> float:
    """As it is: whole numbers stay whole, to be written again as they were."""
    if not is_number(value) or not abs(value) < MOST:  # NaN compares false
        raise MalformedError("not a number")
    return value


_PLAIN: dict[object, Read] = {
    object: _any, str: _text, bool: _flag, int: _whole, float: _number,
}  # fmt: skip


def _optional(read: Read, value: object) -> object:
    return None if value is None else read(value)


def _sequence(read: Read, value: object) -> tuple[object, ...]:
    """Those items that can be read."""
    if not isinstance(value, list | tuple):
        raise MalformedError("not a list")
    return tuple(_readable(read, value))


def _mapping(name: Read, read: Read, value: object) -> dict[object, object]:
    """Those items that can be read."""
    if not isinstance(value, Mapping):
        raise MalformedError("not an object")
    pairs = ((name(key), x) for key, item in value.items() for x in _readable(read, (item,)))
    return dict(pairs)


def _readable(read: Read, items: Iterable[object]) -> Iterator[object]:
    for item in items:
        with contextlib.suppress(MalformedError):
            yield read(item)
