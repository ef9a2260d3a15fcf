"""A unit's tree as JSON: how a child hands it to its parent.

A node is ``[number of its class, its fields ...]``, a tuple ``[-1, ...]``; types, which many nodes
share, and names of files stand once, in tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from agent.loopnest.frontend import ctree
from agent.loopnest.frontend.ctree import CFunction, Place, ScalarType, Unit, Variable
from agent.loopnest.program import DType

_TUPLE, _TYPE = -1, -2
_CLASSES: list[Callable[..., Any]] = [
    c for _, c in sorted(vars(ctree).items()) if isinstance(c, type) and is_dataclass(c)
]
_NUMBERS = {c: number for number, c in enumerate(_CLASSES)}
_NAMES = {c: tuple(f.name for f in fields(c)) for c in _CLASSES}  # type: ignore[arg-type]
_PLACE, _SCALAR = _NUMBERS[Place], _NUMBERS[ScalarType]
_TYPES = (ctree.PointerType, ctree.ArrayType, ctree.RecordType, ctree.OtherType, ScalarType)


def encode(unit: Unit) -> bytes:
    """The unit as JSON."""
    writer = _Writer()
    declared = [[writer.write(x) for x in m.values()] for m in (unit.functions, unit.variables)]
    text = unit.text.decode("latin-1")  # a character a byte
    rest = [unit.file, sorted(unit.changed), unit.marks, unit.errors, text]
    return json.dumps([list(writer.files), writer.types, *declared, *rest]).encode()


def decode(data: bytes) -> Unit:
    """What ``encode`` wrote.

    Raises:
        ValueError: it is not a unit.
    """
    try:
        files, types, functions, variables, file, changed, marks, errors, text = json.loads(data)
        reader = _Reader(files, types)
        made: list[CFunction] = [reader.read(x) for x in functions]
        known: list[Variable] = [reader.read(x) for x in variables]
        return Unit(
            file,
            {f.ident: f for f in made},
            {v.ident: v for v in known},
            frozenset(changed),
            tuple((line, begin) for line, begin in marks),
            tuple(errors),
            text.encode("latin-1"),
        )
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"no tree: {error}") from error


class _Writer:
    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.types: list[Any] = []
        self._known: dict[int, int] = {}  # by identity: types are shared, and live as long as this

    def write(self, value: Any) -> Any:
        """A value of the tree as JSON has it."""
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, tuple):
            return [_TUPLE, *map(self.write, value)]
        if isinstance(value, Place):
            file = self.files.setdefault(value.file, len(self.files))
            numbers = value.line, value.column, value.start, value.end, value.last_line
            return [_PLACE, file, *numbers]
        if isinstance(value, _TYPES):
            return [_TYPE, self._type(value)]
        return self._fields(value)

    def _fields(self, value: Any) -> list[Any]:
        kind = type(value)
        return [_NUMBERS[kind], *map(self.write, [getattr(value, n) for n in _NAMES[kind]])]

    def _type(self, value: Any) -> int:
        known = self._known.get(id(value))
        if known is None:
            if isinstance(value, ScalarType):
                dtype = value.dtype and value.dtype.name
                made = [_SCALAR, dtype, value.text, value.const, value.volatile]
            else:
                made = self._fields(value)  # those that it is made of come before it
            known = self._known[id(value)] = len(self.types)
            self.types.append(made)
        return known


class _Reader:
    def __init__(self, files: list[str], types: list[Any]) -> None:
        self._files = files
        self._types: list[Any] = []
        for made in types:
            self._types.append(self.read(made))

    def read(self, value: Any) -> Any:
        """What ``_Writer.write`` made JSON of."""
        if not isinstance(value, list):
            return value
        kind, *given = value
        if kind == _TUPLE:
            return tuple(map(self.read, given))
        if kind == _TYPE:
            return self._types[given[0]]
        if kind == _PLACE:
            return Place(self._files[given[0]], *given[1:])
        if kind == _SCALAR:
            return ScalarType(given[0] and DType[given[0]], *given[1:])
        return _CLASSES[kind](*map(self.read, given))
