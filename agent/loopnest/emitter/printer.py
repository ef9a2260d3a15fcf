"""Expressions of the IR as C text, with the parentheses that C's precedence asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.loopnest.arithmetic import promoted, type_of
from agent.loopnest.program import (
    Access,
    Affine,
    AffineValue,
    Binary,
    Call,
    Cast,
    DType,
    Expr,
    Literal,
    Read,
    Select,
    Unary,
)

_LEVELS = ("||", "&&", "|", "^", "&", "== !=", "< <= > >=", "<< >>", "+ -", "* / %")
PRECEDENCE = {op: level for level, ops in enumerate(_LEVELS, 1) for op in ops.split()}
SELECT, UNARY, PRIMARY = 0, 11, 12
_COMPARE = frozenset("< <= > >= == !=".split())
_ASK_PARENTHESES = frozenset("<< >> & | ^".split())  # whose precedence readers do not know


def c_sum(value: Affine, name: Callable[[str], str]) -> str:
    """``value`` as a C sum; positive parts first so that it seldom starts with a minus."""
    const = value.const
    out = str(const) if const > 0 and all(factor < 0 for _, factor in value.terms) else ""
    const = 0 if out else const
    for iterator, factor in sorted(value.terms, key=lambda t: t[1] < 0):
        term = name(iterator) if abs(factor) == 1 else f"{abs(factor)} * {name(iterator)}"
        if out:
            out += f" {'-' if factor < 0 else '+'} {term}"
        else:
            out = f"-{term}" if factor < 0 else term
    if const:
        out += f" {'-' if const < 0 else '+'} {abs(const)}" if out else str(const)
    return out or "0"


def _affine_level(value: Affine) -> int:
    if len(value.terms) + bool(value.const) > 1:
        return PRECEDENCE["+"]
    if not value.terms:
        return UNARY if value.const < 0 else PRIMARY
    factor = value.terms[0][1]
    return PRIMARY if factor == 1 else UNARY if factor == -1 else PRECEDENCE["*"]


@dataclass(frozen=True)
class Printer:
    """Prints expressions where names are known.

    Attributes:
        names: identifier of each array, scalar, temporary and iterator.
        locals: accesses that a local variable stands for.
        dtype_of: the type of what is read.
        numbers: what the derived numbers in subscripts are.
        wide: iterators are int64_t, so that an affine value is cast to the ``int`` it is.
    """

    names: Callable[[str], str]
    locals: Mapping[Access, str]
    dtype_of: Callable[[str], DType]
    numbers: Mapping[str, Expr] = field(default_factory=dict)
    wide: bool = False

    def affine(self, value: Affine) -> str:
        """An affine form of the iterators and of derived numbers."""
        alone = self.numbers.get(str(value))
        return self.text(alone) if alone is not None else c_sum(value, self._term)

    def _term(self, name: str) -> str:
        """An iterator, or a derived number in the type of iterators (in which it surely fits)."""
        value = self.numbers.get(name)
        if value is None:
            return self.names(name)
        if self.wide or promoted(type_of(value, self.dtype_of)) is not DType.I32:
            value = Cast(DType.I64 if self.wide else DType.I32, value)
        return self.text(value, PRIMARY)

    def access(self, access: Access) -> str:
        """An element, scalar or temporary, or the local that stands for it."""
        if access in self.locals:
            return self.locals[access]
        subscripts = "".join(f"[{self.affine(s)}]" for s in access.subscripts)
        return self.names(access.array) + subscripts

    def text(self, expr: Expr, above: int = SELECT) -> str:
        """``expr`` as an operand of an operator of level ``above``."""
        text, level = self._print(expr)
        return f"({text})" if level < above else text

    def _print(self, expr: Expr) -> tuple[str, int]:
        match expr:
            case Literal(text):
                return text, UNARY if text.startswith("-") else PRIMARY
            case AffineValue(value):
                if self.wide:
                    return f"(int)({self.affine(value)})", UNARY
                return self.affine(value), _affine_level(value)
            case Read(access):
                return self.access(access), PRIMARY
            case Unary(op, operand):
                inner = self.text(operand, UNARY)
                return (f"{op}({inner})" if inner.startswith(op) else op + inner), UNARY
            case Cast(DType.I64 | DType.U64 | DType.U32 as dtype, AffineValue(value)):
                text = self.affine(value)
                bare = _affine_level(value) >= UNARY
                return f"({dtype.value}){text if bare else f'({text})'}", UNARY
            case Cast(dtype, operand):
                return f"({dtype.value}){self.text(operand, UNARY)}", UNARY
            case Call(function, arguments):
                return f"{function}({', '.join(map(self.text, arguments))})", PRIMARY
            case Select(condition, yes, no):
                arms = f"{self.text(yes, SELECT + 1)} : {self.text(no)}"
                return f"{self.text(condition, SELECT + 1)} ? {arms}", SELECT
            case Binary(op, left, right):
                return self._binary(op, left, right)

    def _binary(self, op: str, left: Expr, right: Expr) -> tuple[str, int]:
        level = PRECEDENCE[op]
        first, second = (
            self.text(side, PRIMARY if _unclear(op, side) else least)
            for side, least in ((left, level), (right, level + 1))
        )
        return f"{first} {op} {second}", level


def _unclear(op: str, side: Expr) -> bool:
    """Whether parentheses help the reader (and quiet -Wparentheses) without being needed."""
    if isinstance(side, AffineValue) and op in _ASK_PARENTHESES:
        return len(side.value.terms) + bool(side.value.const) > 1
    if not isinstance(side, Binary):
        return False
    return (
        (op in _ASK_PARENTHESES and side.op != op)
        or (op in _COMPARE and side.op in _COMPARE)
        or (op == "||" and side.op == "&&")
    )
