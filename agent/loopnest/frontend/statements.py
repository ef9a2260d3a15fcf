"""From clang's cursors to the tree: statements and functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from agent.loopnest.frontend.breaks import without_break
from agent.loopnest.frontend.building import TOO_DEEP, Builder, is_expression
from agent.loopnest.frontend.ctree import (
    BlockS,
    CFunction,
    CStatement,
    DeclareS,
    DoS,
    EmptyS,
    Expression,
    ExpressionS,
    ForS,
    IfS,
    LabelS,
    OtherS,
    Place,
    ReturnS,
)
from agent.loopnest.frontend.libclang import Cursor

FUNCTION, VARIABLE, PARAMETER, LABEL, COMPOUND = 8, 9, 10, 48, 202
STATIC = 3
_ADDRESS_OF_LABEL, _GOTO = 120, 210

_WHAT = {
    203: "case",
    204: "default",
    206: "switch",
    210: "goto",
    211: "goto",
    212: "continue",
    213: "break",
    215: "asm",
}
_HEADER = re.compile(  # of a loop: what may hide a semicolon or bracket, or is one
    rb'"(?:\\.|[^"\\\n])*"|' + rb"'(?:\\.|[^'\\\n])*'" + rb"|//[^\n]*|/\*.*?\*/|[();]", re.DOTALL
)


class StatementBuilder(Builder):
    """The tree of functions."""

    _function: Cursor | None = None
    _jumped: frozenset[str] | None = None

    def function(self, cursor: Cursor) -> CFunction | None:
        """A function that a cursor defines; None: it only declares one."""
        lib = self.library
        below = lib.children(cursor)
        if not below or below[-1].kind != COMPOUND:
            return None
        self._function, self._jumped = cursor, None
        parameters = tuple(self.variable(c) for c in below if c.kind == PARAMETER)
        body = self.statement(below[-1])
        if not isinstance(body, BlockS):
            return None
        result = self.types.read(lib.getResultType(lib.getCursorType(cursor)))
        static = lib.Cursor_getStorageClass(cursor) == STATIC
        name, ident = self.spelling(cursor), self.ident(cursor)
        return CFunction(self.place(cursor), name, ident, result, parameters, body, static)

    def statement(self, cursor: Cursor) -> CStatement:
        """A statement."""
        try:
            if not self.enter():
                return self._other(cursor, TOO_DEEP)
            if is_expression(cursor):
                return ExpressionS(self.place(cursor), self.expression(cursor))
            rule = _RULES.get(cursor.kind)
            read = rule(self, cursor) if rule else None
            return read or self._other(cursor, _WHAT.get(cursor.kind, "a statement of its own"))
        finally:
            self.deep -= 1

    def _other(self, cursor: Cursor, what: str) -> CStatement:
        self.leave(cursor)
        return OtherS(self.place(cursor), what)

    def _attributed(self, cursor: Cursor) -> CStatement | None:
        """A statement with attributes, or with a pragma that clang knows."""
        below = self.library.children(cursor)
        return self.statement(below[-1]) if below and below[-1].kind >= 200 else None

    def _block(self, cursor: Cursor) -> CStatement:
        items = tuple(map(self.statement, self.library.children(cursor)))
        return BlockS(self.place(cursor), items)

    def _declare(self, cursor: Cursor) -> CStatement:
        below = self.library.children(cursor)
        variables = tuple(self.variable(c) for c in below if c.kind == VARIABLE)
        return DeclareS(self.place(cursor), variables)

    def _if(self, cursor: Cursor) -> CStatement | None:
        below = self.library.children(cursor)
        if len(below) not in (2, 3):
            return None
        no = self.statement(below[2]) if len(below) == 3 else None
        condition = self.expression(below[0])
        return IfS(self.place(cursor), condition, self.statement(below[1]), no)

    def _for(self, cursor: Cursor) -> CStatement | None:
        below = self.library.children(cursor)
        place = self.place(cursor)
        header = self._header(cursor, below[:-1], place)
        if header is None or not below:
            return None
        init, condition, step = header
        return without_break(
            ForS(
                place,
                self.statement(init) if init else None,
                self.expression(condition) if condition else None,
                self.expression(step) if step else None,
                self.statement(below[-1]),
            )
        )

    def _header(
        self, cursor: Cursor, found: list[Cursor], place: Place
    ) -> tuple[Cursor | None, Cursor | None, Cursor | None] | None:
        """The three parts of a loop's header; those that are empty have no cursor."""
        if len(found) == 3:
            return found[0], found[1], found[2]
        lib = self.library
        text = self.file(lib.spot(lib.getRangeStart(lib.getCursorExtent(cursor)))[0])[1]
        ends = _semicolons(text, place.start)
        if len(ends) != 2 or len(found) > 3:
            return None
        parts: list[Cursor | None] = [None, None, None]
        for cursor_ in found:
            at = lib.spot(lib.getRangeStart(lib.getCursorExtent(cursor_)))[3]
            which = sum(at > end for end in ends)
            if parts[which] is not None:
                return None
            parts[which] = cursor_
        return parts[0], parts[1], parts[2]

    def _while(self, cursor: Cursor) -> CStatement | None:
        below = self.library.children(cursor)
        if len(below) != 2:
            return None
        condition, body = self.expression(below[0]), self.statement(below[1])
        return without_break(ForS(self.place(cursor), None, condition, None, body))

    def _do(self, cursor: Cursor) -> CStatement | None:
        below = self.library.children(cursor)
        if len(below) != 2:
            return None
        body, condition = self.statement(below[0]), self.expression(below[1])
        return DoS(self.place(cursor), body, condition)

    def _return(self, cursor: Cursor) -> CStatement:
        below = self.library.children(cursor)
        value: Expression | None = self.expression(below[0]) if below else None
        return ReturnS(self.place(cursor), value)

    def _label(self, cursor: Cursor) -> CStatement | None:
        below = self.library.children(cursor)
        if len(below) != 1:
            return None
        if self._jumped is None:
            self._jumped = self._labels_in_use()
        used = self.spelling(cursor) in self._jumped
        return LabelS(self.place(cursor), self.statement(below[0]), used)

    def _labels_in_use(self) -> frozenset[str]:
        """The labels of the function that something jumps to or takes the address of."""
        names, left = set(), [self._function] if self._function else []
        while left:
            for cursor in self.library.children(left.pop()):
                if cursor.kind == LABEL:
                    names.add(self.spelling(cursor))
                left.append(cursor)
        return frozenset(names)

    def _empty(self, cursor: Cursor) -> CStatement:
        return EmptyS(self.place(cursor))


def _semicolons(text: bytes, start: int) -> list[int]:
    """Where the semicolons of the header of a ``for`` at ``start`` are; [] where there is none."""
    if not re.compile(rb"for\b").match(text, start):
        return []
    depth, ends = 0, []
    for match in _HEADER.finditer(text, start):
        depth += (match[0] == b"(") - (match[0] == b")")
        if match[0] == b";" and depth == 1:
            ends.append(match.start())
        if depth == 0 and match[0] == b")":
            break
    return ends


_RULES: Mapping[int, Callable[[StatementBuilder, Cursor], CStatement | None]] = {
    200: StatementBuilder._attributed,
    201: StatementBuilder._label,
    202: StatementBuilder._block,
    205: StatementBuilder._if,
    207: StatementBuilder._while,
    208: StatementBuilder._do,
    209: StatementBuilder._for,
    214: StatementBuilder._return,
    230: StatementBuilder._empty,
    231: StatementBuilder._declare,
}
