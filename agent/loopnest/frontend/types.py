"""From clang's types to those of the tree, and C's usual arithmetic conversions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.loopnest.frontend.ctree import (
    ArrayType,
    CType,
    Field,
    OtherType,
    PointerType,
    RecordType,
    ScalarType,
)
from agent.loopnest.frontend.libclang import Library, Type
from agent.loopnest.program import DType

MAX_DEEP = 50  # types of types
POINTER, RECORD, ENUM, TYPEDEF, ELABORATED = 101, 105, 106, 107, 119
CONSTANT_ARRAY, INCOMPLETE_ARRAY, VARIABLE_ARRAY = 112, 114, 115
STRUCT, FIELD = 2, 6  # kinds of cursors

_SCALARS: Mapping[int, tuple[str, DType | None]] = {  # by kind of type
    3: ("_Bool", DType.U8),
    4: ("char", DType.U8),
    5: ("unsigned char", DType.U8),
    8: ("unsigned short", DType.U16),
    9: ("unsigned int", DType.U32),
    10: ("unsigned long", DType.U64),
    11: ("unsigned long long", DType.U64),
    12: ("unsigned __int128", None),
    13: ("char", DType.I8),
    14: ("signed char", DType.I8),
    16: ("short", DType.I16),
    17: ("int", DType.I32),
    18: ("long", DType.I64),
    19: ("long long", DType.I64),
    20: ("__int128", None),
    21: ("float", DType.F32),
    22: ("double", DType.F64),
    23: ("long double", None),
    30: ("__float128", None),
    32: ("_Float16", None),
}
_RANKS = "int,unsigned int,long,unsigned long,long long,unsigned long long,__int128"
_RANKS += ",unsigned __int128,_Float16,float,double,long double,__float128"
_ORDER = {text: rank for rank, text in enumerate(_RANKS.split(","))}


def promoted(type_: ScalarType) -> ScalarType:
    """The type after C's integer promotions (C11 6.3.1.1)."""
    return type_ if type_.text in _ORDER else ScalarType(DType.I32, "int")


def common(left: CType, right: CType) -> CType:
    """The type in which C computes with two numbers (C11 6.3.1.8); ``left`` for pointers."""
    if not (isinstance(left, ScalarType) and isinstance(right, ScalarType)):
        return left
    both = sorted((promoted(left), promoted(right)), key=lambda t: _ORDER[t.text])
    if (both[0].text, both[1].text) == ("unsigned long", "long long"):  # as wide: it holds not all
        return ScalarType(DType.U64, "unsigned long long")
    return ScalarType(both[1].dtype, both[1].text)


def _constant(type_: CType) -> CType:
    """The type of constant elements of a type."""
    if isinstance(type_, ArrayType):
        return replace(type_, element=_constant(type_.element))
    return type_ if isinstance(type_, OtherType) else replace(type_, const=True)


class Types:
    """The types of a translation unit, each read once."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.variable: set[int | None] = set()  # those with a length that is no constant
        self._known: dict[int | None, CType] = {}
        self._deep = 0
        self._open: set[int | None] = set()  # records that are being read

    def read(self, type_: Type) -> CType:
        """The type; a variable length is None, see ``variable``."""
        key = type_.data[0]
        known = self._known.get(key)
        if known is None:
            self._deep += 1
            known = self._read(type_) if self._deep <= MAX_DEEP else OtherType("nested too deep")
            self._deep -= 1
            if not self._open:  # within a structure that refers to itself: not the whole of it
                self._known[key] = known
        return known

    def _read(self, type_: Type) -> CType:
        lib = self.library
        real = lib.getCanonicalType(type_)
        const, volatile = bool(lib.isConstQualifiedType(real)), lib.isVolatileQualifiedType(real)
        scalar = _SCALARS.get(self._arithmetic(real))
        if scalar:
            text, dtype = scalar
            return ScalarType(dtype, text, const, bool(volatile))
        if real.kind in (CONSTANT_ARRAY, INCOMPLETE_ARRAY, VARIABLE_ARRAY):
            return self._array(type_, real)
        if real.kind == POINTER and not volatile:
            pointee = lib.getPointeeType(real)
            to = self.read(pointee)
            if pointee.data[0] in self.variable:
                self.variable.add(type_.data[0])
            return PointerType(to, const, bool(lib.isRestrictQualifiedType(real)))
        if real.kind == RECORD and not volatile:
            return self._record(real, const)
        return OtherType(lib.text(lib.getTypeSpelling(type_)))

    def _arithmetic(self, real: Type) -> int:
        if real.kind != ENUM:
            return real.kind
        lib = self.library
        whole = lib.getEnumDeclIntegerType(lib.getTypeDeclaration(real))
        return int(lib.getCanonicalType(whole).kind)

    def _array(self, type_: Type, real: Type) -> CType:
        inner = self.library.getArrayElementType(real)
        element = self.read(inner)
        if real.kind == VARIABLE_ARRAY or inner.data[0] in self.variable:
            self.variable.add(type_.data[0])
        if self.library.isConstQualifiedType(real):  # the canonical type has it outside
            element = _constant(element)
        constant = real.kind == CONSTANT_ARRAY
        return ArrayType(element, int(self.library.getArraySize(real)) if constant else None)

    def _record(self, real: Type, const: bool) -> CType:
        lib = self.library
        declaration = lib.getTypeDeclaration(real)
        key, name = declaration.data[0], lib.text(lib.getTypeSpelling(real))
        size = lib.Type_getSizeOf(real)
        if declaration.kind != STRUCT or size < 0 or key in self._open:
            return OtherType(name)
        self._open.add(key)
        fields = []
        for cursor in lib.children(declaration):
            if cursor.kind == FIELD:
                bits = (
                    None if lib.Cursor_isBitField(cursor) else lib.Cursor_getOffsetOfField(cursor)
                )
                inner = self.read(lib.getCursorType(cursor))
                field = lib.text(lib.getCursorSpelling(cursor))
                fields.append(Field(field, inner, None if bits is None else bits // 8))
        self._open.discard(key)
        return RecordType(name.removeprefix("const "), size, tuple(fields), const)
