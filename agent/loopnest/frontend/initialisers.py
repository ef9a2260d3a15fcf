"""Lists of an initialiser in order: designators and left-out braces resolved (C11 6.7.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from agent.loopnest.frontend.ctree import (
    ArrayType,
    CType,
    Expression,
    ListE,
    Number,
    Place,
    RecordType,
)

MAX_HOLES = 4096  # elements left out before one that is given


@dataclass(frozen=True, slots=True)
class Item:
    """What stands between two commas of a list.

    Attributes:
        at: the index or field that a designator names; None: the next one.
        items: of a list in braces; None: it is no list.
        value: the expression as a value of a type; None: it cannot be one.
        whole: whether the expression is a whole structure or string, not the first part of one.
    """

    at: int | str | None
    items: tuple[Item, ...] | None
    value: Callable[[CType], Expression | None]
    whole: bool


@dataclass
class _Rest:
    """Items that are still to be used, and what the parts so far were given, by position."""

    items: tuple[Item, ...]
    used: int = 0
    values: dict[int, Expression] = field(default_factory=dict)

    @property
    def next(self) -> Item | None:
        return self.items[self.used] if self.used < len(self.items) else None


def in_order(items: tuple[Item, ...], type_: CType, place: Place) -> Expression | None:
    """The list of all values up to the last given; None where it is not read."""
    if not isinstance(type_, ArrayType | RecordType):
        single = items[0] if len(items) == 1 else None
        return _value(single, type_, place) if single and single.at is None else None
    rest = _Rest(items)
    at = 0
    while item := rest.next:
        if item.at is not None:
            named = _position(item.at, type_)
            if named is None:
                return None
            at = named
        if not _fill(rest, type_, at, place):
            return None
        at += 1
    return _listed(rest.values, type_, place)


def _fill(rest: _Rest, type_: ArrayType | RecordType, at: int, place: Place) -> bool:
    """Give the part ``at`` of an object the next item, or the next items; whether it can be."""
    part, item = _part(type_, at), rest.next
    if part is None or item is None:
        return False
    if isinstance(part, ArrayType | RecordType) and item.items is None and not item.whole:
        value = _without_braces(rest, part, place)
    else:
        value = _value(item, part, place)
        rest.used += 1
    if value is None:
        return False
    rest.values[at] = value
    return True


def _without_braces(rest: _Rest, type_: ArrayType | RecordType, place: Place) -> Expression | None:
    """A part whose items stand in the list of what it is part of; the first may be designated."""
    inner = _Rest(rest.items, rest.used)
    at = 0
    while (item := inner.next) and _part(type_, at) is not None:
        if item.at is not None and inner.used > rest.used:
            break
        if not _fill(inner, type_, at, place):
            return None
        at += 1
    rest.used = inner.used
    return _listed(inner.values, type_, place)


def _value(item: Item, type_: CType, place: Place) -> Expression | None:
    return item.value(type_) if item.items is None else in_order(item.items, type_, place)


def _listed(
    values: dict[int, Expression], type_: ArrayType | RecordType, place: Place
) -> Expression | None:
    last = max(values, default=-1)
    if last + 1 - len(values) > MAX_HOLES:
        return None
    parts = []
    for at in range(last + 1):
        part = _part(type_, at)
        if part is None:
            return None
        parts.append(values[at] if at in values else _zero(part, place))
    return ListE(place, type_, tuple(parts))


def _part(type_: ArrayType | RecordType, at: int) -> CType | None:
    """The type of the element or field ``at``; None: there is none."""
    if isinstance(type_, RecordType):
        return type_.fields[at].type if at < len(type_.fields) else None
    inside = isinstance(type_.length, int) and 0 <= at < type_.length
    return type_.element if inside else None


def _position(at: int | str, type_: ArrayType | RecordType) -> int | None:
    if isinstance(type_, RecordType):
        names = [f.name for f in type_.fields]
        return names.index(at) if isinstance(at, str) and at in names else None
    return at if isinstance(at, int) and at >= 0 else None


def _zero(type_: CType, place: Place) -> Expression:
    if isinstance(type_, ArrayType | RecordType):
        return ListE(place, type_, ())
    return Number(place, type_, "0")
