"""Programs of the public Tiramisu timings (LOOPerSet) as programs of this project.

A program there is a table of iterators (bounds, parent, children) and one of computations (loops
around it, access matrices, an expression tree without its constants). Upper bounds are exclusive;
a column of an access matrix is an iterator, the last one the constant; the accesses of a
computation are the ``access`` leaves of its expression, left to right.

Everything is checked: what contradicts itself is an ``AgentError``, what is well formed but has no
counterpart in ``agent.loopnest.program`` an ``InexpressibleError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

from agent.errors import AgentError
from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Binary,
    Bound,
    Call,
    DType,
    Expr,
    Literal,
    Loop,
    Node,
    Program,
    Read,
    Select,
    Statement,
    Unary,
    map_reads,
    reads,
    statements,
)

MOST_COMPUTATIONS, MOST_ITERATORS, DEEPEST, MOST_LEAVES = 64, 256, 10, 128
LARGEST = 2**24  # of a number in a bound or an access matrix
MOST_BYTES = 2**40
LONGEST_TEXT = 400
DTYPES = {"float64": DType.F64, "float32": DType.F32, "int32": DType.I32}
_LITERALS = {DType.F64: "1.5", DType.F32: "1.5f", DType.I32: "3", DType.U8: "3"}
_BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]{0,40}")
_TOKEN = re.compile(r"\s*(\d+|[A-Za-z_]\w*|[-+*(),])")
_WRITE = re.compile(r"\s*\{\s*\w+\s*\[([^\]]*)\]\s*->\s*\w+\s*\[([^\]]*)\]\s*\}\s*")
_T = TypeVar("_T")


class InexpressibleError(Exception):
    """Something of the file that this project's programs or schedules have no way to say."""


def malformed(what: str) -> NoReturn:
    """Refuse a part of the file that is not as its format says."""
    raise AgentError(
        what, "The format is described in docs/reference/labels.md; fetch the file again."
    )


def field(data: object, key: str, kind: type[_T]) -> _T:
    """``data[key]``, of the type ``kind``; AgentError where it is not."""
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        malformed(f"field {key} is missing or not of the type {kind.__name__}")
    return value


def name_of(value: object) -> str:
    """An iterator's or a computation's name; AgentError where it is no identifier."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        malformed(f"{str(value)[:40]!r} is not a name")
    return value


def number_of(value: object, most: int = LARGEST) -> int:
    """A whole number (``3.0`` counts); AgentError where it is not, or too large."""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most
    if not whole or value != int(value):  # type: ignore[call-overload]
        malformed(f"{str(value)[:40]!r} is not a usable whole number")
    return int(value)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class Source:
    """A program of the file.

    Attributes:
        program: it, its statements called like the computations.
        iterators: of each computation, outermost first, as the file calls them.
    """

    program: Program
    iterators: Mapping[str, tuple[str, ...]]


def read_program(data: object) -> Source:
    """The program of one line of the file.

    Raises:
        AgentError: it is malformed.
        InexpressibleError: it is not, but there is no such program here.
    """
    loops = field(data, "iterators", dict)
    computations = field(data, "computations", dict)
    if not 0 < len(computations) <= MOST_COMPUTATIONS or not 0 < len(loops) <= MOST_ITERATORS:
        malformed(f"{len(computations)} computations in {len(loops)} loops are not usable")
    for name in (*loops, *computations):
        name_of(name)
    order = {name: number_of(field(c, "absolute_order", int)) for name, c in computations.items()}
    read = {name: _computation(name, c) for name, c in computations.items()}
    builder = _Tree(loops, {name: c.statement for name, c in read.items()}, order)
    body = builder.roots()
    for around, statement in statements(body):
        if tuple(x.iterator for x in around) != read[statement.name].iterators:
            malformed(f"the loops around {statement.name} are not those it names")
    if len(list(statements(body))) != len(computations):
        malformed("a computation stands in no loop, or in several")
    arrays, body = _arrays(body, {name: c.dtype for name, c in read.items()})
    program = Program("tiramisu", arrays, (), (), body)
    return Source(program, {name: c.iterators for name, c in read.items()})


@dataclass(frozen=True)
class _Computation:
    iterators: tuple[str, ...]
    dtype: DType
    statement: Statement


def _computation(name: str, data: object) -> _Computation:
    iterators = tuple(name_of(x) for x in field(data, "iterators", list))
    if not 0 < len(iterators) <= DEEPEST or len(set(iterators)) != len(iterators):
        malformed(f"{name} has {len(iterators)} iterators, or one of them twice")
    kind = field(data, "data_type", str)
    if kind not in DTYPES:
        raise InexpressibleError(f"data type {kind[:20]}")
    dtype = DTYPES[kind]
    target = _target(name, data, iterators)
    found = iter([_access(a, iterators) for a in field(data, "accesses", list)[:MOST_LEAVES]])
    value = _expression(field(data, "expression_representation", dict), found, dtype, [MOST_LEAVES])
    if next(found, None) is not None:
        malformed(f"{name} has accesses that its expression does not use")
    op, value = _reduction(target, value)
    instance = tuple(map(Affine.var, iterators))
    return _Computation(iterators, dtype, Statement(name, target, op, value, instance))


def _target(name: str, data: object, iterators: tuple[str, ...]) -> Access:
    relation = field(data, "write_access_relation", str)
    match = _WRITE.fullmatch(relation[:LONGEST_TEXT])
    if match is None:
        malformed(f"the write access of {name} cannot be read")
    dims = [name_of(x.strip()) for x in match[1].split(",")]
    if len(dims) != len(iterators):
        malformed(f"the write access of {name} has another number of iterators")
    values = {old: Affine.var(new) for old, new in zip(dims, iterators, strict=True)}
    subscripts = []
    for text in match[2].split(",") if match[2].strip() else ():
        part = text.partition("=")[2] or text  # isl writes i0' = i0 where names clash
        (form,) = affine_forms(part) if part.strip() else (Affine.constant(0),)
        if form.names - set(dims):
            malformed(f"the write access of {name} uses a name it does not bind")
        subscripts.append(form.substitute(values))
    buffer = number_of(field(data, "write_buffer_id", int))
    return Access(_buffer(buffer), tuple(subscripts) or (Affine.constant(0),))


def _buffer(number: int) -> str:
    if number < 0:
        raise InexpressibleError("an access to no buffer")
    return f"b{number}"


def _access(data: object, iterators: tuple[str, ...]) -> Access:
    rows = field(data, "access_matrix", list)
    if len(rows) > DEEPEST or any(
        not isinstance(r, list) or len(r) != len(iterators) + 1 for r in rows
    ):
        malformed("an access matrix does not have a column an iterator and one for the constant")
    subscripts = []
    for row in rows:
        *factors, const = (number_of(x) for x in row)
        subscripts.append(Affine.of(dict(zip(iterators, factors, strict=True)), const))
    buffer = number_of(field(data, "buffer_id", int))
    return Access(_buffer(buffer), tuple(subscripts) or (Affine.constant(0),))


def _expression(data: object, found: Iterator[Access], dtype: DType, left: list[int]) -> Expr:
    """The expression of a tree of the file; ``left``: how many nodes it may still have."""
    kind = field(data, "expr_type", str)
    children = field(data, "children", list)
    left[0] -= 1
    if left[0] < 0:
        malformed(f"an expression has more than {MOST_LEAVES} nodes")
    parts = [_expression(child, found, dtype, left) for child in children]
    match kind, parts:
        case "access", []:
            access = next(found, None)
            if access is None:
                malformed("an expression reads more than there are accesses")
            return Read(access)
        case "value", []:
            return Literal(_LITERALS[dtype])
        case (("add" | "sub" | "mul" | "div"), [one, two]):
            return Binary(_BINARY[kind], one, two)
        case (("min" | "max"), [one, two]) if dtype.is_float:
            return Call(f"f{kind}" + "f" * (dtype == DType.F32), (one, two))
        case (("min" | "max"), [one, two]):
            return Select(Binary("<" if kind == "min" else ">", one, two), one, two)
        case "minus", [one]:
            return Unary("-", one)
        case "sqrt", [one]:
            return Call("sqrtf" if dtype == DType.F32 else "sqrt", (one,))
    raise InexpressibleError(f"operation {kind[:20]} of {len(parts)} operands")


def _reduction(target: Access, value: Expr) -> tuple[str, Expr]:
    """``x = x + e`` as an update by ``e``: along ``+`` and the left of ``-``, or one ``* min max``.

    Halide lets LLVM re-associate, so where in a sum the old value stands does not matter.
    """
    if sum(access.array == target.array for access in reads(value)) != 1:
        return "", value
    match value:
        case Binary("+" | "*" as op, one, two) if Read(target) in (one, two):
            return op, two if one == Read(target) else one
        case Binary("-", one, two) if one == Read(target):
            return "-", two
        case Call("fmin" | "fminf" | "fmax" | "fmaxf" as name, (one, two)) if Read(target) in (
            one,
            two,
        ):
            return name[1:4], two if one == Read(target) else one
        case Binary("+" | "-" as op, one, two):
            inner, rest = _reduction(target, one)
            if inner == "+":
                return "+", Binary(op, rest, two)
            inner, rest = _reduction(target, two) if op == "+" else ("", two)
            if inner == "+":
                return "+", Binary("+", one, rest)
    return "", value


# Loops


class _Tree:
    """Builds the loops from the table of iterators; every iterator once."""

    def __init__(
        self, loops: Mapping[str, Any], found: Mapping[str, Statement], order: Mapping[str, int]
    ) -> None:
        self.loops, self.found, self.order = loops, found, order
        self.left = set(loops)

    def roots(self) -> tuple[Node, ...]:
        """The whole body, in the order of the computations."""
        tops = [name for name, x in self.loops.items() if _parent(x) is None]
        body = self._in_order([self._loop(name, None, 1) for name in tops])
        if self.left:
            malformed(f"iterator {min(self.left)} is inside no other")
        return body

    def _loop(self, name: str, parent: str | None, depth: int) -> Node | None:
        if name not in self.left or depth > DEEPEST or _parent(self.loops[name]) != parent:
            malformed(f"iterator {str(name)[:40]} is nested wrongly")
        self.left.discard(name)
        data = self.loops[name]
        inner = [
            self._loop(name_of(x), name, depth + 1) for x in field(data, "child_iterators", list)
        ]
        for key in field(data, "computations_list", list):
            if not isinstance(key, str) or key not in self.found:
                malformed(f"iterator {name} holds a computation that is not described")
            inner.append(self.found[key])
        body = self._in_order(inner)
        if not body:
            return None
        lower, upper = (_bounds(data, side) for side in ("lower_bound", "upper_bound"))
        return Loop(name, lower, upper, 1, body)

    def _in_order(self, nodes: Sequence[Node | None]) -> tuple[Node, ...]:
        spans = [(self._span(node), node) for node in nodes if node is not None]
        spans.sort(key=lambda item: item[0])
        for (one, _), (two, _) in pairwise(spans):
            if one[1] >= two[0]:
                malformed("the order of the computations contradicts the loops")
        return tuple(node for _, node in spans)

    def _span(self, node: Node) -> tuple[int, int]:
        numbers = [self.order[s.name] for _, s in statements((node,))]
        return min(numbers), max(numbers)


def _parent(data: object) -> str | None:
    value = data.get("parent_iterator") if isinstance(data, dict) else None
    return None if value is None else name_of(value)


def _bounds(data: object, side: str) -> tuple[Bound, ...]:
    value = data.get(side) if isinstance(data, dict) else None
    upper = side == "upper_bound"
    if not isinstance(value, str):
        return (Bound(Affine.constant(number_of(value) - upper)),)
    forms = affine_forms(value, "min" if upper else "max")
    return tuple(Bound(form - upper) for form in forms)


def affine_forms(text: str, choice: str = "") -> tuple[Affine, ...]:
    """The affine form written in ``text``, or the several in ``max(..., ...)``.

    ``choice`` is ``max`` or ``min`` where one of these may surround it.
    """
    tokens, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(text) > LONGEST_TEXT:
            malformed(f"{text[:40]!r} is not an affine form")
        tokens.append(match[1])
        at = match.end()
    parser = _Forms(tokens)
    forms = parser.choice(choice)
    if parser.tokens:
        raise InexpressibleError(f"a bound or subscript such as {text[:40]}")
    return forms


class _Forms:
    """Recursive descent over sums, differences and parentheses."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def choice(self, word: str) -> tuple[Affine, ...]:
        if not word or self.tokens[:2] != [word, "("]:
            return (self.sum(),)
        del self.tokens[:2]
        forms = [*self.choice(word)]
        while self._take(","):
            forms += self.choice(word)
        if not self._take(")"):
            malformed(f"{word}( is not closed")
        return tuple(forms)

    def sum(self) -> Affine:
        total = -self._term() if self._take("-") else self._term()
        while self.tokens and self.tokens[0] in "+-":
            plus = self.tokens.pop(0) == "+"
            total = total + self._term() if plus else total - self._term()
        return total

    def _term(self) -> Affine:
        word = self.tokens.pop(0) if self.tokens else malformed("an affine form ends early")
        if word == "(":
            inner = self.sum()
            if not self._take(")"):
                malformed("a parenthesis of an affine form is not closed")
            return inner
        if word.isdigit():
            factor = number_of(int(word))
            return self._term() * factor if self._take("*") else Affine.constant(factor)
        return Affine.var(name_of(word))

    def _take(self, word: str) -> bool:
        here = self.tokens[:1] == [word]
        del self.tokens[: int(here)]
        return here


# Arrays


def _arrays(
    body: tuple[Node, ...], dtypes: Mapping[str, DType]
) -> tuple[tuple[Array, ...], tuple[Node, ...]]:
    """Arrays just large enough for their accesses, which start at 0 in every dimension then."""
    spans: dict[str, list[tuple[int, int]]] = {}
    types: dict[str, DType] = {}
    for around, statement in statements(body):
        ranges = _ranges(around)
        types[statement.target.array] = dtypes[statement.name]
        for access in (statement.target, *reads(statement.value)):
            types.setdefault(access.array, dtypes[statement.name])
            here = [form.interval(ranges) for form in access.subscripts]
            known = spans.setdefault(access.array, here)
            if len(known) != len(here):
                raise InexpressibleError("a buffer used with several numbers of dimensions")
            spans[access.array] = [
                (min(a, c), max(b, d)) for (a, b), (c, d) in zip(known, here, strict=True)
            ]
    arrays = tuple(
        Array(name, types[name], tuple(high - low + 1 for low, high in span))
        for name, span in sorted(spans.items())
    )
    if sum(a.bytes for a in arrays) > MOST_BYTES:
        malformed("the arrays are too large")
    lowest = {name: tuple(low for low, _ in span) for name, span in spans.items()}
    return arrays, tuple(_moved(node, lowest) for node in body)


def _ranges(around: tuple[Loop, ...]) -> dict[str, tuple[int, int]]:
    """Iterator -> the smallest and largest value it can have."""
    ranges: dict[str, tuple[int, int]] = {}
    for loop in around:
        forms = (*loop.lower, *loop.upper)
        if any(b.expr.names - set(ranges) for b in forms):
            malformed(f"a bound of {loop.iterator} names no outer iterator")
        low = max(b.expr.interval(ranges)[0] for b in loop.lower)
        high = min(b.expr.interval(ranges)[1] for b in loop.upper)
        if low > high:
            raise InexpressibleError("a loop that never runs")
        ranges[loop.iterator] = low, high
    return ranges


def _moved(node: Node, lowest: Mapping[str, tuple[int, ...]]) -> Node:
    """``node`` with every access moved so that the lowest subscripts are 0."""
    if isinstance(node, Loop):
        body = tuple(_moved(n, lowest) for n in node.body)
        return Loop(node.iterator, node.lower, node.upper, node.step, body)

    def moved(access: Access) -> Access:
        pairs = zip(access.subscripts, lowest[access.array], strict=True)
        return Access(access.array, tuple(s + (-low) for s, low in pairs))

    value = map_reads(node.value, moved)
    return Statement(node.name, moved(node.target), node.op, value, node.instance)
