"""The few functions of libclang that the reader calls, by ctypes and with types.

The wheel's own bindings do not name the kinds of operators of its library, and make several
objects for each cursor. A cursor or type is valid as long as its translation unit.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_double,
    c_int,
    c_longlong,
    c_size_t,
    c_uint,
    c_ulong,
    c_ulonglong,
    c_void_p,
)
from importlib.util import find_spec
from pathlib import Path
from typing import Any

KEEP_GOING = 0x200  # after an include that is missing
CONTINUE = 1
_DONT_NEED = 4  # MADV_DONTNEED
INT, FLOAT = 1, 2  # kinds of results of evaluation


class Cursor(Structure):
    """A node of clang's tree; ``data[0]`` is the declaration, for a declaration."""

    _fields_ = [("kind", c_int), ("xdata", c_int), ("data", c_void_p * 3)]
    kind: int
    data: Sequence[int | None]


class Type(Structure):
    """A type; ``data[0]`` tells apart types that differ as written."""

    _fields_ = [("kind", c_int), ("data", c_void_p * 2)]
    kind: int
    data: Sequence[int | None]


class Location(Structure):
    """A place in the text, or in what a macro made."""

    _fields_ = [("pointers", c_void_p * 2), ("number", c_uint)]


class Range(Structure):
    """From a place to another."""

    _fields_ = [("pointers", c_void_p * 2), ("begin", c_uint), ("end", c_uint)]


class String(Structure):
    """Characters that clang owns."""

    _fields_ = [("data", c_void_p), ("flags", c_uint)]


class Unsaved(Structure):
    """A file's text that is not on disk."""

    _fields_ = [("name", c_char_p), ("contents", c_char_p), ("length", c_ulong)]
    name: bytes


Spot = tuple[int | None, int, int, int]  # file, line, column, offset in bytes

_VISITOR = ctypes.CFUNCTYPE(c_int, Cursor, Cursor, c_void_p)
_MADE = POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "createIndex": (c_void_p, [c_int, c_int]),
    "disposeIndex": (None, [c_void_p]),
    "parseTranslationUnit2": (
        c_int,
        [c_void_p, c_char_p, POINTER(c_char_p), c_int, POINTER(Unsaved), c_uint, c_uint, _MADE],
    ),
    "disposeTranslationUnit": (None, [c_void_p]),
    "getTranslationUnitCursor": (Cursor, [c_void_p]),
    "visitChildren": (c_uint, [Cursor, _VISITOR, c_void_p]),
    "getCString": (c_char_p, [String]),
    "disposeString": (None, [String]),
    "getCursorSpelling": (String, [Cursor]),
    "getTypeSpelling": (String, [Type]),
    "getFileName": (String, [c_void_p]),
    "getDiagnosticSpelling": (String, [c_void_p]),
    "getDiagnosticOption": (String, [c_void_p, c_void_p]),
    "getCursorType": (Type, [Cursor]),
    "getCanonicalType": (Type, [Type]),
    "getPointeeType": (Type, [Type]),
    "getArrayElementType": (Type, [Type]),
    "getArraySize": (c_longlong, [Type]),
    "getResultType": (Type, [Type]),
    "getEnumDeclIntegerType": (Type, [Cursor]),
    "getTypeDeclaration": (Cursor, [Type]),
    "isConstQualifiedType": (c_uint, [Type]),
    "isVolatileQualifiedType": (c_uint, [Type]),
    "isRestrictQualifiedType": (c_uint, [Type]),
    "Type_getSizeOf": (c_longlong, [Type]),
    "Cursor_getOffsetOfField": (c_longlong, [Cursor]),
    "Cursor_isBitField": (c_uint, [Cursor]),
    "Cursor_isFunctionInlined": (c_uint, [Cursor]),
    "Cursor_isAnonymous": (c_uint, [Cursor]),
    "Cursor_getStorageClass": (c_int, [Cursor]),
    "Cursor_getVarDeclInitializer": (Cursor, [Cursor]),
    "getEnumConstantDeclValue": (c_longlong, [Cursor]),
    "getCursorReferenced": (Cursor, [Cursor]),
    "isCursorDefinition": (c_uint, [Cursor]),
    "getCanonicalCursor": (Cursor, [Cursor]),
    "getCursorBinaryOperatorKind": (c_int, [Cursor]),
    "getCursorUnaryOperatorKind": (c_int, [Cursor]),
    "getCursorExtent": (Range, [Cursor]),
    "getRangeStart": (Location, [Range]),
    "getRangeEnd": (Location, [Range]),
    "getExpansionLocation": (None, [Location, *[c_void_p] * 4]),
    "getFileLocation": (None, [Location, *[c_void_p] * 4]),
    "getFileContents": (c_void_p, [c_void_p, c_void_p, POINTER(c_size_t)]),
    "Location_isInSystemHeader": (c_int, [Location]),
    "getNumDiagnostics": (c_uint, [c_void_p]),
    "getDiagnostic": (c_void_p, [c_void_p, c_uint]),
    "disposeDiagnostic": (None, [c_void_p]),
    "getDiagnosticSeverity": (c_int, [c_void_p]),
    "getDiagnosticLocation": (Location, [c_void_p]),
    "Cursor_Evaluate": (c_void_p, [Cursor]),
    "EvalResult_getKind": (c_int, [c_void_p]),
    "EvalResult_getAsLongLong": (c_longlong, [c_void_p]),
    "EvalResult_getAsUnsigned": (c_ulonglong, [c_void_p]),
    "EvalResult_isUnsignedInt": (c_uint, [c_void_p]),
    "EvalResult_getAsDouble": (c_double, [c_void_p]),
    "EvalResult_dispose": (None, [c_void_p]),
}


class Library:
    """libclang; each function without ``clang_`` in front. One thread at a time."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, f"clang_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._found: list[Cursor] = []
        self._visitor = _VISITOR(self._visit)
        self._file = c_void_p()
        self._numbers = (c_uint(), c_uint(), c_uint())
        self._out = (byref(self._file), *(byref(n) for n in self._numbers))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)

    def _visit(self, cursor: Cursor, _parent: Cursor, _data: object) -> int:
        self._found.append(cursor)
        return CONTINUE

    def children(self, cursor: Cursor) -> list[Cursor]:
        """The nodes directly below, in order."""
        found = self._found = []
        self.visitChildren(cursor, self._visitor, None)
        return found

    def text(self, string: String) -> str:
        """The characters of a string that a function returned."""
        data = self.getCString(string) or b""
        self.disposeString(string)
        return os.fsdecode(data)

    def spot(self, location: Location) -> Spot:
        """Where something stands; what a macro made stands where the macro is used."""
        self.getExpansionLocation(location, *self._out)
        line, column, offset = self._numbers
        return self._file.value, line.value, column.value, offset.value

    def file_offset(self, location: Location) -> int:
        """The offset in its file; what a macro was given stands where it is written."""
        self.getFileLocation(location, *self._out)
        return self._numbers[2].value

    def contents(self, unit: int, file: int | None) -> bytes:
        """The bytes of a file of the unit."""
        size = c_size_t()
        data = self.getFileContents(unit, file, byref(size)) if file else None
        return ctypes.string_at(data, size.value) if data else b""

    def evaluate(self, cursor: Cursor) -> int | float | None:
        """The value of a constant expression; None: it is none."""
        result = self.Cursor_Evaluate(cursor)
        if not result:
            return None
        try:
            kind = self.EvalResult_getKind(result)
            if kind == FLOAT:
                return float(self.EvalResult_getAsDouble(result))
            if kind != INT:
                return None
            if self.EvalResult_isUnsignedInt(result):
                return int(self.EvalResult_getAsUnsigned(result))
            return int(self.EvalResult_getAsLongLong(result))
        finally:
            self.EvalResult_dispose(result)

    @contextmanager
    def unit(
        self, files: Sequence[tuple[str, bytes]], arguments: Sequence[str]
    ) -> Iterator[int | None]:
        """The translation unit of the first file; None: clang could make nothing of it.

        Args:
            files: names and texts; those among them that are included are not read from disk.
            arguments: flags.
        """
        words = [os.fsencode(w) for w in arguments]
        texts = [Unsaved(os.fsencode(name), text, len(text)) for name, text in files]
        made = c_void_p()
        index = self.createIndex(0, 0)
        try:
            self.parseTranslationUnit2(
                index, texts[0].name, (c_char_p * len(words))(*words), len(words),
                (Unsaved * len(texts))(*texts), len(texts), KEEP_GOING, byref(made),
            )  # fmt: skip
            yield made.value
        finally:
            if made.value:
                self.disposeTranslationUnit(made)
            self.disposeIndex(index)


def release() -> None:
    """Give back the memory of the library's code, which its file holds: what runs next needs it.

    It is read again where it is called again, which takes some milliseconds.
    """
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.endswith("libclang.so") and " r-xp " in line:  # nothing is written there
            first, last = (int(end, 16) for end in line.split()[0].split("-"))
            ctypes.CDLL(None).madvise(c_void_p(first), c_size_t(last - first), _DONT_NEED)


@functools.cache
def library() -> Library:
    """The library that the wheel ``libclang`` carries."""
    spec = find_spec("clang")
    places = spec.submodule_search_locations if spec else None
    path = Path(next(iter(places or ["clang"]))) / "native" / "libclang.so"
    os.environ.setdefault("LIBCLANG_NOTHREADS", "1")  # it aborts where no thread may be started
    return Library(path)
