"""Side effects that C puts into no order: ``out[k++] = x[i] + k`` (C11 6.5, paragraph 2).

Where one part of an expression changes what another part uses, and nothing says which comes first,
the C is undefined, and compilers differ. Calls are not undefined there, but their order is left
open too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from agent.loopnest.frontend.ctree import (
    ArrayType,
    AssignE,
    BinaryE,
    CallE,
    CastE,
    CFunction,
    ConditionalE,
    CStatement,
    DeclareS,
    Expression,
    IndexE,
    MemberE,
    Name,
    PointerType,
    RecordType,
    Tree,
    UnaryE,
    Unit,
    Variable,
    parts,
    walk,
)
from agent.loopnest.lowering.printing import c_text, full_text
from agent.loopnest.lowering.state import STEPS, refusal
from agent.loopnest.lowering.uses import called, callee, used

_ANY = "*"  # of what a variable leads to
_Object = tuple[int, str]  # a variable by ident: itself (""), or what it leads to or holds, as C
_Objects = dict[_Object, Expression]  # and where it is used or changed


@dataclass(frozen=True)
class _Effects:
    """What evaluating an expression does.

    Attributes:
        uses: what is read.
        changes: what is changed.
        open: those of the changes that nothing puts before the expression's value.
    """

    uses: _Objects = field(default_factory=dict)
    changes: _Objects = field(default_factory=dict)
    open: _Objects = field(default_factory=dict)

    def then(self, *later: _Effects) -> _Effects:
        """This, and behind it one of ``later`` or all of them, whose values count."""
        return _Effects(
            _joined(self.uses, *(x.uses for x in later)),
            _joined(self.changes, *(x.changes for x in later)),
            _joined(*(x.open for x in later)),
        )


def check_sequence(unit: Unit, items: Sequence[CStatement]) -> None:
    """Refuses expressions in ``items``, and in what they call, whose effects have no order.

    Raises:
        SourceError: with the place of the effect.
    """
    for item in (*items, *called(unit, items)):
        for expression in _full_expressions(item):
            if _has_effects(unit, expression):
                _done(unit, expression)


def _full_expressions(item: Tree) -> Iterator[Expression]:
    """The expressions in a statement that are part of no other."""
    for node in walk(item):
        if isinstance(node, CStatement | Variable) and not isinstance(node, DeclareS):
            yield from (x for x in parts(node) if isinstance(x, Expression))


def _has_effects(unit: Unit, node: Expression) -> bool:
    """Whether more is changed than by the assignment, step or call that ``node`` is itself."""
    for x in itertools.islice(walk(node), 1, None):
        if _stored(x) is not None:
            return True
        own = callee(unit, x)
        if own is not None and _targets(unit, own):
            return True
    return False


def _stored(node: Tree) -> Expression | None:
    """What an assignment or step changes; None: the node is neither."""
    if isinstance(node, AssignE):
        return node.target
    return node.operand if isinstance(node, UnaryE) and node.op in STEPS else None


def _done(unit: Unit, node: Expression) -> _Effects:
    done = partial(_done, unit)
    match node:
        case AssignE() | UnaryE(op="++" | "--" | "p++" | "p--"):
            return _assigned(unit, node)
        case BinaryE(op="," | "&&" | "||", left=left, right=right):
            return done(left).then(done(right))
        case ConditionalE(condition=condition, yes=yes, no=no):
            return done(condition).then(done(yes), done(no))
        case UnaryE(op="&", operand=operand):
            return _place(unit, operand)
        case CallE():
            return _called(unit, node)
        case Name() | IndexE() | MemberE() | UnaryE(op="*"):
            found = _place(unit, node)
            read = {} if isinstance(node.type, ArrayType) else _object(node)
            return _Effects(_joined(found.uses, read), found.changes, found.open)
        case _:
            return _together([done(x) for x in parts(node) if isinstance(x, Expression)])


def _place(unit: Unit, node: Expression) -> _Effects:
    """What it takes to find the object that an expression names."""
    if isinstance(node, Name):
        return _Effects()
    if isinstance(node, MemberE) and not node.arrow:
        return _place(unit, node.base)
    return _together([_done(unit, x) for x in parts(node) if isinstance(x, Expression)])


def _assigned(unit: Unit, node: AssignE | UnaryE) -> _Effects:
    """An assignment or step: the store comes after both values, not after their effects."""
    target = node.target if isinstance(node, AssignE) else node.operand
    stored: _Objects = dict.fromkeys(_object(target), node)
    updates = isinstance(node, UnaryE) or node.op
    place = _place(unit, target)
    if updates:
        place = _Effects(_joined(place.uses, _object(target)), place.changes, place.open)
    both = _together([place, _done(unit, node.value)]) if isinstance(node, AssignE) else place
    _refuse_clash(both.open, stored)
    changes = _joined(both.changes, stored)
    return _Effects(both.uses, changes, _joined(both.open, stored))


def _called(unit: Unit, node: CallE) -> _Effects:
    """A call: its arguments in any order, and then what the function does."""
    arguments = _together([_done(unit, x) for x in node.arguments])
    own = callee(unit, node)
    if own is None:
        return arguments.then()
    targets = _targets(unit, own)
    pointers = {p.ident for p in own.parameters} | set(unit.variables)
    everything = bool(targets - pointers)  # pointers that are passed on, or moved about
    uses: _Objects = {}
    changes: _Objects = {}
    for parameter, argument in zip(own.parameters, node.arguments, strict=False):
        if isinstance(parameter.type, PointerType | ArrayType):
            reached = dict.fromkeys(_reached(argument), node)
            uses |= reached
            changes |= reached if everything or parameter.ident in targets else {}
    for ident in used(_bodies(unit, own)).keys() & unit.variables.keys():
        whole: _Objects = {(ident, ""): node, (ident, _ANY): node}
        uses |= whole
        changes |= whole if everything or ident in targets else {}
    return arguments.then(_Effects(uses, changes))


def _bodies(unit: Unit, own: CFunction) -> list[CStatement]:
    """Of a function and of those that it calls."""
    return [own.body, *called(unit, [own.body])]


def _targets(unit: Unit, own: CFunction) -> set[int]:
    """The variables, other than its own, that a function changes or changes something through."""
    found = set[int]()
    for body in _bodies(unit, own):
        kinds = ArrayType | RecordType
        declared = (x for x in walk(body) if isinstance(x, DeclareS))
        held = {v.ident for x in declared for v in x.variables if isinstance(v.type, kinds)}
        stores = (stored for x in walk(body) if (stored := _stored(x)) is not None)
        objects = (key for stored in stores for key in _object(stored))
        found |= {ident for ident, part in objects if part or ident in unit.variables} - held
    return found


def _reached(argument: Expression) -> _Objects:
    """What a function may use of a pointer that it gets."""
    inner = argument
    while isinstance(inner, CastE):
        inner = inner.operand
    if isinstance(inner, UnaryE) and inner.op == "&" and isinstance(inner.operand, Name):
        return {(inner.operand.ident, ""): argument, (inner.operand.ident, _ANY): argument}
    root = _root(argument)
    return {} if root is None else {(root.ident, _ANY): argument}


def _object(node: Expression) -> _Objects:
    """The object that an expression names; none where no variable leads to it."""
    if isinstance(node, Name):
        return {(node.ident, ""): node}
    root = _root(node)
    return {} if root is None else {(root.ident, full_text(node)): node}


def _root(node: Expression) -> Name | None:
    """The variable that an object is part of, or that leads to it."""
    kinds = PointerType | ArrayType | RecordType
    found = (x for x in walk(node) if isinstance(x, Name) and isinstance(x.type, kinds))
    return next(found, None)


def _together(several: Sequence[_Effects]) -> _Effects:
    """What parts do that no rule puts into an order.

    Raises:
        SourceError: one changes what another uses or changes.
    """
    for one, two in itertools.permutations(several, 2):
        if one.changes:
            _refuse_clash(one.changes, {**two.uses, **two.changes})
    return _Effects(
        _joined(*(x.uses for x in several)),
        _joined(*(x.changes for x in several)),
        _joined(*(x.open for x in several)),
    )


def _refuse_clash(changes: _Objects, others: _Objects) -> None:
    for changed, effect in changes.items():
        for other, use in others.items():
            if _same(changed, other):
                raise refusal(
                    effect.place,
                    f"`{c_text(effect)}` changes what `{c_text(use)}` uses, and C leaves open "
                    "which comes first",
                    "Write them as statements of their own, in the order that is meant.",
                )


def _same(one: _Object, two: _Object) -> bool:
    """Whether two objects may be the same."""
    if one[0] != two[0]:
        return False
    return one[1] == two[1] or (_ANY in (one[1], two[1]) and bool(one[1] and two[1]))


def _joined(*several: Mapping[_Object, Expression]) -> _Objects:
    return {key: node for one in several for key, node in one.items()}
