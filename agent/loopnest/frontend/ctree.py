"""C as a compiler understood it: the typed tree that the front end reads.

Names are resolved (``ident`` is the same for one declaration), macros expanded, enumeration
constants and ``sizeof`` numbers, and every conversion is there as a ``CastE``, also those that C
makes by itself (``implicit``): types need no second look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from agent.loopnest.program import DType


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; ``start`` and ``end`` are offsets in bytes in ``file``.

    What a macro made stands where the macro is used.
    """

    file: str
    line: int
    column: int
    start: int
    end: int
    last_line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class ScalarType:
    """An arithmetic type; ``dtype`` is None where the IR has none (``long double``)."""

    dtype: DType | None
    text: str
    const: bool = False
    volatile: bool = False

    @property
    def is_bool(self) -> bool:
        """Whether it holds truth values only."""
        return self.text == "_Bool"


@dataclass(frozen=True, slots=True)
class PointerType:
    """A pointer ``to`` something (an array parameter is one as well)."""

    to: CType
    const: bool = False
    restrict: bool = False


@dataclass(frozen=True, slots=True)
class ArrayType:
    """An array; ``length`` is a number, the expression of a variable length, or None (``[]``)."""

    element: CType
    length: int | Expression | None


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a structure; ``offset`` in bytes, None for a bit-field."""

    name: str
    type: CType
    offset: int | None


@dataclass(frozen=True, slots=True)
class RecordType:
    """A structure; a union is an ``OtherType``. ``size`` in bytes."""

    name: str
    size: int
    fields: tuple[Field, ...]
    const: bool = False


@dataclass(frozen=True, slots=True)
class OtherType:
    """What loop nests are not made of: void, functions, unions, complex numbers, vectors."""

    text: str


CType = ScalarType | PointerType | ArrayType | RecordType | OtherType


@dataclass(frozen=True, slots=True)
class Number:
    """A constant as spelled (``1.5f``, ``0x1Fu``), or the value of what is one (an enumerator)."""

    place: Place
    type: CType
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, parameter or function; ``ident`` tells apart those with one name."""

    place: Place
    type: CType
    name: str
    ident: int


@dataclass(frozen=True, slots=True)
class UnaryE:
    """``op operand``; op is one of ``+ - ! ~ * & ++ -- p++ p--`` (``p``: after the operand)."""

    place: Place
    type: CType
    op: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class BinaryE:
    """``left op right``, the comma among them; no assignment."""

    place: Place
    type: CType
    op: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class AssignE:
    """``target op= value``; op is empty for ``=``.

    ``computed``: the type in which ``target op value`` is computed before it is converted back.
    """

    place: Place
    type: CType
    op: str
    target: Expression
    value: Expression
    computed: CType


@dataclass(frozen=True, slots=True)
class ConditionalE:
    """``condition ? yes : no``."""

    place: Place
    type: CType
    condition: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True, slots=True)
class CallE:
    """A call; ``callee`` is a ``Name`` where it names a function."""

    place: Place
    type: CType
    callee: Expression
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class IndexE:
    """``base[index]``."""

    place: Place
    type: CType
    base: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class MemberE:
    """``base.field``, or ``base->field`` where ``arrow``."""

    place: Place
    type: CType
    base: Expression
    field: str
    arrow: bool


@dataclass(frozen=True, slots=True)
class CastE:
    """A conversion to ``type``; array to pointer and value of a variable are none."""

    place: Place
    type: CType
    operand: Expression
    implicit: bool


@dataclass(frozen=True, slots=True)
class ListE:
    """``{a, b, ...}`` of an initialiser, in order, without designators."""

    place: Place
    type: CType
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class OtherE:
    """An expression that loop nests are not made of; ``what`` in words ("a string")."""

    place: Place
    type: CType
    what: str


Expression = (
    Number
    | Name
    | UnaryE
    | BinaryE
    | AssignE
    | ConditionalE
    | CallE
    | IndexE
    | MemberE
    | CastE
    | ListE
    | OtherE
)


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable or parameter; ``storage`` is ``static``, ``extern``, ... or empty."""

    place: Place
    type: CType
    name: str
    ident: int
    init: Expression | None = None
    storage: str = ""


@dataclass(frozen=True, slots=True)
class DeclareS:
    """Variables declared in a block, in order; empty for a declaration of types only."""

    place: Place
    variables: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class ExpressionS:
    """An expression as a statement."""

    place: Place
    expression: Expression


@dataclass(frozen=True, slots=True)
class BlockS:
    """``{ ... }``."""

    place: Place
    items: tuple[CStatement, ...]


@dataclass(frozen=True, slots=True)
class IfS:
    """``if (condition) yes else no``."""

    place: Place
    condition: Expression
    yes: CStatement
    no: CStatement | None


@dataclass(frozen=True, slots=True)
class ForS:
    """``for (init; condition; step) body``; ``while (condition) body`` is one as well."""

    place: Place
    init: CStatement | None
    condition: Expression | None
    step: Expression | None
    body: CStatement


@dataclass(frozen=True, slots=True)
class DoS:
    """``do body while (condition)``."""

    place: Place
    body: CStatement
    condition: Expression


@dataclass(frozen=True, slots=True)
class ReturnS:
    """``return value``."""

    place: Place
    value: Expression | None


@dataclass(frozen=True, slots=True)
class LabelS:
    """``label: statement``; ``used`` where something jumps to it."""

    place: Place
    statement: CStatement
    used: bool


@dataclass(frozen=True, slots=True)
class EmptyS:
    """``;`` and foreign pragmas."""

    place: Place


@dataclass(frozen=True, slots=True)
class OtherS:
    """A statement that is not read; ``what`` names it (``goto``, ``switch``, ``break``, ...)."""

    place: Place
    what: str


CStatement = DeclareS | ExpressionS | BlockS | IfS | ForS | DoS | ReturnS | LabelS | EmptyS | OtherS


@dataclass(frozen=True, slots=True)
class CFunction:
    """A function that is defined in the unit."""

    place: Place
    name: str
    ident: int
    result: CType
    parameters: tuple[Variable, ...]
    body: BlockS
    static: bool


@dataclass(frozen=True, slots=True)
class Unit:
    """A file as it was read.

    Attributes:
        file: its name, for messages.
        functions: those defined in it or in its headers, by ``ident``, in order.
        variables: global variables, by ``ident``.
        changed: globals (by ``ident``) that something in the unit assigns or takes the address of.
        marks: lines of ``#pragma scop`` (True) and ``#pragma endscop`` (False) of the file itself.
        errors: what the compiler could not understand, ``file:line:column: words``.
        text: its bytes; a pipe gives them once, and the next moment a file may hold others.
    """

    file: str
    functions: Mapping[int, CFunction]
    variables: Mapping[int, Variable]
    changed: frozenset[int]
    marks: tuple[tuple[int, bool], ...]
    errors: tuple[str, ...]
    text: bytes


Tree = Expression | CStatement | Variable


_NODES = frozenset(get_args(Tree))
_LEAVES = frozenset(
    "place type op name ident text field arrow computed implicit what used storage".split()
)
_BELOW = {
    kind: tuple(name for name in kind.__slots__ if name not in _LEAVES) for kind in get_args(Tree)
}
_REVERSED = {kind: names[::-1] for kind, names in _BELOW.items()}


def parts(node: Tree) -> list[Tree]:
    """The nodes directly below ``node``, in order."""
    found: list[Tree] = []
    for name in _BELOW[type(node)]:
        value = getattr(node, name)
        if type(value) is tuple:
            found += value
        elif type(value) in _NODES:
            found.append(value)
    return found


def walk(node: Tree) -> Iterator[Tree]:
    """``node`` and everything below it, in order of the text."""
    left = [node]
    while left:
        node = left.pop()
        yield node
        for name in _REVERSED[type(node)]:
            value = getattr(node, name)
            if type(value) is tuple:
                left += value[::-1]
            elif type(value) in _NODES:
                left.append(value)


def rewritten(node: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """``node`` with every part for which ``change`` has another one replaced by it."""
    found = change(node)
    if found is not None:
        return found
    values = {}
    for name in node.__slots__:
        old = getattr(node, name)
        new = old
        if type(old) in _NODES:
            new = rewritten(old, change)
        elif type(old) is tuple:
            new = tuple(rewritten(x, change) if type(x) in _NODES else x for x in old)
        if new != old:
            values[name] = new
    return replace(node, **values) if values else node
