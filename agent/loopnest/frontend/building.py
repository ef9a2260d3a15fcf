"""From clang's cursors to the tree: names, places, expressions, statements."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    CallE,
    CastE,
    ConditionalE,
    CType,
    Expression,
    IndexE,
    MemberE,
    Name,
    Number,
    OtherE,
    OtherType,
    Place,
    PointerType,
    RecordType,
    ScalarType,
    UnaryE,
    Variable,
)
from agent.loopnest.frontend.initialisers import Item, in_order
from agent.loopnest.frontend.libclang import Cursor, Library, Type
from agent.loopnest.frontend.types import (
    CONSTANT_ARRAY,
    ELABORATED,
    INCOMPLETE_ARRAY,
    POINTER,
    RECORD,
    VARIABLE_ARRAY,
    Types,
    common,
    promoted,
)

MAX_DEEP = 200  # expressions and statements within each other
MAX_LISTS = 20  # lists within lists of an initialiser
MAX_NODES = 2_000_000
TOO_DEEP = f"what is nested more than {MAX_DEEP} levels deep"

_BINARY = ". .* ->* * / % + - << >> <=> < > <= >= == != & ^ | && ||".split()
_COMMA, _ASSIGN = 33, 22
_COMPOUND = "* / % + - << >> & ^ |".split()
_UNARY = ". p++ p-- ++ -- & * + - ~ !".split()
_EXTENSION = 13
_HIDDEN, _NAME, _STRING, _LIST, _MEMBER = 100, 101, 109, 119, 47
_STORAGE = {2: "extern", 3: "static", 6: "auto", 7: "register"}
_SUFFIX = {
    "unsigned int": "u",
    "long": "l",
    "unsigned long": "ul",
    "long long": "ll",
    "unsigned long long": "ull",
    "float": "f",
}
_NUMBER = re.compile(rb"(?:\.?[0-9])(?:[eEpP][+-]|[.\w])*")
_IDENTIFIER = re.compile(rb"[A-Za-z_]\w*")
_SKIPPED = re.compile(
    rb'"(?:\\.|[^"\\\n])*"|' + rb"'(?:\\.|[^'\\\n])*'" + rb"|//[^\n]*|/\*.*?\*/", re.DOTALL
)
_WHAT = {
    108: "an imaginary number",
    109: "a string",
    118: "a compound literal",
    120: "the address of a label",
    121: "a statement in an expression",
    122: "_Generic",
    136: "sizeof",
}


def is_expression(cursor: Cursor) -> bool:
    """Whether a node is an expression."""
    return 100 <= cursor.kind < 200


class Builder:
    """What all parts of a unit's tree share: texts, names, types of what is declared."""

    def __init__(self, library: Library, unit: int, filename: str) -> None:
        self.library = library
        self.unit = unit
        self.filename = filename
        self.types = Types(library)
        self.declared: dict[int, CType] = {}  # by ident
        self.unread: set[int] = (
            set()
        )  # what is named where the tree has no more than OtherE, OtherS
        self._idents: dict[int | None, int] = {}
        self._files: dict[int | None, tuple[str, bytes]] = {}
        self._nodes = 0
        self.deep = 0

    # -- names and places

    def ident(self, cursor: Cursor) -> int:
        """A number for what a cursor declares, the same for all declarations of it."""
        key = cursor.data[0]
        if key not in self._idents:
            first = self.library.getCanonicalCursor(cursor).data[0]
            self._idents[key] = self._idents.setdefault(first, len(self._idents))
        return self._idents[key]

    def file(self, file: int | None) -> tuple[str, bytes]:
        """Name and text of a file of the unit."""
        if file not in self._files:
            name = self.library.text(self.library.getFileName(file)) if file else self.filename
            self._files[file] = name, self.library.contents(self.unit, file)
        return self._files[file]

    def place(self, cursor: Cursor) -> Place:
        """Where a node stands."""
        lib = self.library
        extent = lib.getCursorExtent(cursor)
        file, line, column, start = lib.spot(lib.getRangeStart(extent))
        last = lib.getRangeEnd(extent)
        _, last_line, _, end = lib.spot(last)
        name, text = self.file(file)
        if _IDENTIFIER.match(text, end) and (end <= start or lib.file_offset(last) != end):
            stop = _end_of_call(text, end)
            last_line, end = last_line + text.count(b"\n", end, stop), stop
        return Place(name, line, column, start, end, last_line)

    def spelling(self, cursor: Cursor) -> str:
        """The name of what a node declares or names."""
        return self.library.text(self.library.getCursorSpelling(cursor))

    def type(self, cursor: Cursor) -> CType:
        """The type of an expression."""
        return self.types.read(self.library.getCursorType(cursor))

    def enter(self) -> bool:
        """Go one level deeper; False: that is too deep. The caller leaves the level again."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise SourceError(
                f"{self.filename}: it holds more than {MAX_NODES:,} expressions and statements",
                hint="Put the function and what it needs into a file of its own.",
            )
        self.deep += 1
        return self.deep <= MAX_DEEP

    # -- declarations

    def variable(self, cursor: Cursor) -> Variable:
        """A variable or parameter."""
        lib = self.library
        children = [c for c in lib.children(cursor) if is_expression(c)]
        init = lib.Cursor_getVarDeclInitializer(cursor) if cursor.kind == 9 else None
        first: Expression | None = None
        if init is not None and is_expression(init) and children:
            children.pop()
        else:
            init = None
        type_ = self.written_type(lib.getCursorType(cursor), children)
        ident = self.ident(cursor)
        self.declared[ident] = type_
        if init is not None:
            first = self.initial(init, type_)
        storage = _STORAGE.get(lib.Cursor_getStorageClass(cursor), "")
        return Variable(self.place(cursor), type_, self.spelling(cursor), ident, first, storage)

    def written_type(self, type_: Type, sizes: list[Cursor]) -> CType:
        """A type with the expressions of its variable lengths, the innermost first in ``sizes``."""
        plain = self.types.read(type_)
        if type_.data[0] not in self.types.variable:
            return plain
        left = iter(sizes)
        try:
            written = self._written(type_, left)
            if next(left, None) is None:
                return written
        except StopIteration:  # behind the name of a type
            pass
        return OtherType("an array of a length that stands elsewhere")  # or typeof is in between

    def _written(self, type_: Type, sizes: Iterator[Cursor]) -> CType:
        lib = self.library
        if type_.kind == POINTER:
            plain = self.types.read(type_)
            to = self._written(lib.getPointeeType(type_), sizes)
            return replace(plain, to=to) if isinstance(plain, PointerType) else plain
        if type_.kind in (CONSTANT_ARRAY, INCOMPLETE_ARRAY, VARIABLE_ARRAY):
            element = self._written(lib.getArrayElementType(type_), sizes)
            if type_.kind == INCOMPLETE_ARRAY:
                return ArrayType(element, None)
            size = next(sizes)
            if type_.kind == CONSTANT_ARRAY:
                return ArrayType(element, int(lib.getArraySize(type_)))
            return ArrayType(element, self.expression(size))
        if type_.data[0] in self.types.variable:
            raise StopIteration
        return self.types.read(type_)

    # -- expressions

    def expression(self, cursor: Cursor) -> Expression:
        """An expression, with the conversions that C makes."""
        try:
            if not self.enter():
                return self.other(cursor, TOO_DEEP)
            rule = _RULES.get(cursor.kind)
            read = rule(self, cursor) if rule else None
            return read or self.other(cursor, _WHAT.get(cursor.kind, "an expression of its own"))
        finally:
            self.deep -= 1

    def leave(self, cursor: Cursor) -> None:
        """Note the names in what is not read: anything may be done with them there."""
        left = [cursor]
        while left:
            for below in self.library.children(left.pop()):
                if below.kind == _NAME:
                    self.unread.add(self.ident(self.library.getCursorReferenced(below)))
                left.append(below)

    def other(self, cursor: Cursor, what: str) -> Expression:
        """An expression that is not read."""
        self.leave(cursor)
        return OtherE(self.place(cursor), self.type(cursor), what)

    def operands(self, cursor: Cursor, count: int) -> list[Expression] | None:
        """The expressions below a node; None where there are not ``count``."""
        below = [c for c in self.library.children(cursor) if is_expression(c)]
        return list(map(self.expression, below)) if len(below) == count else None

    def _hidden(self, cursor: Cursor) -> Expression | None:
        """A node that libclang has no name for: a conversion of C's, offsetof, ..."""
        below = [c for c in self.library.children(cursor) if c.kind != 43]  # a type's name
        if len(below) != 1 or not is_expression(below[0]):
            return None if any(map(is_expression, below)) else self._constant(cursor)
        return self.converted(self.expression(below[0]), self.type(cursor))

    def converted(self, inner: Expression, to: CType) -> Expression | None:
        """``inner`` as C converts it by itself; None where it does not."""
        if not isinstance(to, ScalarType):
            return inner
        if isinstance(inner.type, ScalarType):
            same = inner.type.text == to.text
        elif to.text == "_Bool" and isinstance(inner.type, PointerType | ArrayType):
            same = False
        else:
            return None
        plain = ScalarType(to.dtype, to.text)
        return inner if same else CastE(inner.place, plain, inner, True)

    def _parenthesis(self, cursor: Cursor) -> Expression | None:
        inner = self.operands(cursor, 1)
        return inner[0] if inner else None

    def _constant(self, cursor: Cursor) -> Expression | None:
        """The value of a constant, spelled in decimal."""
        type_ = self.type(cursor)
        value = self.library.evaluate(cursor)
        if value is None or not isinstance(type_, ScalarType):
            return None
        text = repr(value) + _SUFFIX.get(type_.text, "")
        return Number(self.place(cursor), type_, text)

    def _literal(self, cursor: Cursor) -> Expression | None:
        place = self.place(cursor)
        text = self._text(cursor, place)
        if _NUMBER.fullmatch(text):
            return Number(place, self.type(cursor), text.decode())
        return self._constant(cursor)

    def _text(self, cursor: Cursor, place: Place) -> bytes:
        file = self.library.spot(self.library.getRangeStart(self.library.getCursorExtent(cursor)))[
            0
        ]
        return self.file(file)[1][place.start : place.end]

    def _name(self, cursor: Cursor) -> Expression | None:
        lib = self.library
        named = lib.getCursorReferenced(cursor)
        if named.kind == 7:
            value = lib.getEnumConstantDeclValue(named)
            return Number(self.place(cursor), self.type(cursor), str(value))
        if named.kind not in (8, 9, 10):
            return None
        ident = self.ident(named)
        type_ = self.declared.get(ident) or self.type(cursor)
        return Name(self.place(cursor), type_, self.spelling(cursor), ident)

    def _member(self, cursor: Cursor) -> Expression | None:
        base = self.operands(cursor, 1)
        field = self.spelling(cursor)
        if not base or not field:
            return None
        arrow = not isinstance(base[0].type, RecordType | OtherType)
        return MemberE(self.place(cursor), self.type(cursor), base[0], field, arrow)

    def _call(self, cursor: Cursor) -> Expression | None:
        callee, *arguments = map(self.expression, self.library.children(cursor))
        return CallE(self.place(cursor), self.type(cursor), callee, tuple(arguments))

    def _unary(self, cursor: Cursor) -> Expression | None:
        kind = self.library.getCursorUnaryOperatorKind(cursor)
        operands = self.operands(cursor, 1)
        if not operands or kind == _EXTENSION:
            return operands[0] if operands else None
        if not 0 < kind < len(_UNARY):
            return None
        (operand,), op, type_ = operands, _UNARY[kind], self.type(cursor)
        if op == "*":
            type_ = element_of(operand.type) or type_
        elif op == "&":
            type_ = PointerType(operand.type)
        return UnaryE(self.place(cursor), type_, op, operand)

    def _index(self, cursor: Cursor) -> Expression | None:
        operands = self.operands(cursor, 2)
        if not operands:
            return None
        base, index = operands if element_of(operands[0].type) else reversed(operands)
        type_ = element_of(base.type) or self.type(cursor)
        return IndexE(self.place(cursor), type_, base, index)

    def _binary(self, cursor: Cursor) -> Expression | None:
        kind = self.library.getCursorBinaryOperatorKind(cursor)
        operands = self.operands(cursor, 2)
        if not operands:
            return None
        left, right = operands
        place, type_ = self.place(cursor), self.type(cursor)
        if kind == _ASSIGN:
            return AssignE(place, type_, "", left, right, left.type)
        op = "," if kind == _COMMA else _BINARY[kind] if 2 < kind < len(_BINARY) else None
        return BinaryE(place, type_, op, left, right) if op else None

    def _compound(self, cursor: Cursor) -> Expression | None:
        kind = self.library.getCursorBinaryOperatorKind(cursor) - _ASSIGN - 1
        operands = self.operands(cursor, 2)
        if not operands or not 0 <= kind < len(_COMPOUND):
            return None
        (left, right), op = operands, _COMPOUND[kind]
        if op in ("<<", ">>") and isinstance(left.type, ScalarType):
            computed: CType = promoted(left.type)
        else:
            computed = common(left.type, right.type)
        return AssignE(self.place(cursor), self.type(cursor), op, left, right, computed)

    def _conditional(self, cursor: Cursor) -> Expression | None:
        operands = self.operands(cursor, 3)
        return ConditionalE(self.place(cursor), self.type(cursor), *operands) if operands else None

    def _cast(self, cursor: Cursor) -> Expression | None:
        below = [c for c in self.library.children(cursor) if is_expression(c)]
        if not below:
            return None
        operand = self.expression(below.pop())
        type_ = self.written_type(self.library.getCursorType(cursor), below)
        return CastE(self.place(cursor), type_, operand, False)

    def initial(self, cursor: Cursor, type_: CType) -> Expression:
        """What a variable of a type starts with."""
        if cursor.kind != _LIST:
            value = self.expression(cursor)
            return self.converted(value, type_) or value
        below = self.library.children(cursor)
        return in_order(tuple(map(self._item, below)), type_, self.place(cursor)) or self.other(
            cursor, "an initialiser of another kind"
        )

    def _item(self, cursor: Cursor, deep: int = 0) -> Item:
        """An item of an initialiser's list."""
        lib = self.library
        below = lib.children(cursor) if cursor.kind == _HIDDEN else []
        at: int | str | None = None
        if len(below) == 2:  # a designator and its value
            first, cursor = below
            found = self.spelling(first) if first.kind == _MEMBER else lib.evaluate(first)
            at = found if isinstance(found, int | str) else -1
        elif len(below) > 2:
            at = -1  # several designators, or a range: not read
        items = None
        if cursor.kind == _LIST:
            inner = lib.children(cursor) if deep < MAX_LISTS else ()
            items = tuple(self._item(c, deep + 1) for c in inner)
        whole = cursor.kind == _STRING or lib.getCursorType(cursor).kind in (RECORD, ELABORATED)
        return Item(at, items, partial(self._valued, cursor), whole)

    def _valued(self, cursor: Cursor, type_: CType) -> Expression | None:
        return self.converted(self.expression(cursor), type_)


def element_of(type_: CType) -> CType | None:
    """What a pointer points to, or an array is made of."""
    if isinstance(type_, PointerType):
        return type_.to
    return type_.element if isinstance(type_, ArrayType) else None


def _end_of_call(text: bytes, start: int) -> int:
    """Where the use of a macro at ``start`` ends, its arguments included."""
    name = _IDENTIFIER.match(text, start)
    end = at = name.end() if name else start
    depth = 0
    while at < len(text):
        skipped = _SKIPPED.match(text, at)
        if skipped:
            at = skipped.end()
            continue
        char = text[at : at + 1]
        depth += (char == b"(") - (char == b")")
        at += 1
        if depth == 0:
            if char == b")":
                return at
            if not char.isspace():
                return end
    return end


_RULES: Mapping[int, Callable[[Builder, Cursor], Expression | None]] = {
    100: Builder._hidden,
    101: Builder._name,
    102: Builder._member,
    103: Builder._call,
    106: Builder._literal,
    107: Builder._literal,
    110: Builder._constant,
    111: Builder._parenthesis,
    112: Builder._unary,
    113: Builder._index,
    114: Builder._binary,
    115: Builder._compound,
    116: Builder._conditional,
    117: Builder._cast,
    136: Builder._constant,
}
