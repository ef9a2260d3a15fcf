"""What the rules of the lowering share: what a name stands for, where one stands, what was used.

A variable is *symbolic* while it stands for an affine form of the iterators: it takes no memory,
every use becomes the form. What cannot be followed so becomes data. Which variables are data is
found by trying: a rule that cannot go on raises ``RestartError`` with one decision more, and the
region is lowered again from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    AssignE,
    CallE,
    CFunction,
    CStatement,
    CType,
    Expression,
    Place,
    ScalarType,
    Tree,
    UnaryE,
    Unit,
    Variable,
)
from agent.loopnest.program import (
    FUNCTIONS,
    Access,
    Affine,
    Array,
    Derived,
    DType,
    Expr,
    Loop,
    Node,
    Scalar,
    Temporary,
)

MAX_LOOPS = 8
MAX_BOUNDS = 8  # above, of one loop
MAX_STATEMENTS = 128
MAX_ARRAYS = 32
MAX_NODES = 2_000  # operators and operands of one expression
MAX_DEEP = 100  # operators within operators
MAX_INLINED = 8  # calls within calls
MAX_RESTARTS = 64
MAX_SIZE = 1 << 24
MAX_TABLE = 4_096  # elements of a constant table
MAX_ELEMENTS = 1 << 31  # of an array

STEPS = ("++", "--", "p++", "p--")

Range = tuple[int, int]


def refusal(place: Place, message: str, hint: str) -> SourceError:
    """A SourceError at ``place``; ``hint``: the smallest change that helps, or that none does."""
    return SourceError(f"{place}: {message}", hint=hint)


class NotAffineError(SourceError):
    """An expression is no affine form of the iterators; as data it may do."""


class RestartError(Exception):
    """The region has to be lowered again, with one decision more."""

    def __init__(self, **more: Hashable) -> None:
        super().__init__(more)
        self.more = more


@dataclass(frozen=True)
class Decisions:
    """What trying found out, by ``ident``.

    Attributes:
        data: integer variables that are not symbolic.
        entering: variables whose value from before the region is read in it.
        flat: arrays whose rows are not kept apart: one subscript for all.
        counting: variables whose range is to be told by what the region adds to them.
        counted: those ranges, once it is known: ident, least and greatest value.
    """

    data: frozenset[int] = frozenset()
    entering: frozenset[int] = frozenset()
    flat: frozenset[int] = frozenset()
    counting: frozenset[int] = frozenset()
    counted: frozenset[tuple[int, int, int]] = frozenset()

    def and_(self, more: Mapping[str, Hashable]) -> Decisions:
        """These and one more."""
        return replace(self, **{name: getattr(self, name) | {i} for name, i in more.items()})


@dataclass(frozen=True)
class Known:
    """An integer variable whose value is an affine form of the iterators."""

    form: Affine
    dtype: DType


@dataclass(frozen=True)
class Data:
    """A scalar in memory: a temporary, an argument, or an array of one element."""

    access: Access
    dtype: DType
    const: bool = False


@dataclass(frozen=True)
class Argument:
    """A scalar that enters the region with a value, which is not known; nothing assigns it."""

    name: str
    type: ScalarType


@dataclass(frozen=True)
class Object:
    """An array as C has it; ``shape`` begins with None where only accesses tell the extent.

    ``rows``: the declared extents but the first; ``shape`` has fewer where rows are not kept apart.
    ``text``: C of a pointer to its first element, where that is not its name.
    """

    ident: int
    name: str
    element: CType
    shape: tuple[int | None, ...]
    const: bool
    rows: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Pointer:
    """An element of an array; arithmetic moves the last subscript. ``type``: of the element."""

    object: Object
    subscripts: tuple[Affine, ...]
    type: CType


@dataclass(frozen=True)
class InPlace:
    """A name that stands for a value, which nothing changes.

    It is a parameter of a function that is read in place, or follows from iterators alone.
    """

    value: Expr


@dataclass(frozen=True)
class Unknown:
    """A name that cannot be used, why, and what would help.

    ``symbolic``: it could be data instead.
    """

    why: str
    symbolic: bool = False
    hint: str = "Pass what it leads to as a parameter of its own that nothing assigns."


Entity = Known | Data | Argument | InPlace | Object | Pointer | Unknown
Scope = dict[int, Entity]


@dataclass
class FreshNames:
    """Names of the Program being built; every one is given once."""

    taken: set[str] = field(default_factory=lambda: set(FUNCTIONS))

    def fresh(self, name: str) -> str:
        """``name`` itself the first time, then ``name2``, ``name3``..."""
        found, number = name, 2
        while found in self.taken:
            found, number = f"{name}{number}", number + 1
        self.taken.add(found)
        return found


@dataclass
class ArrayUse:
    """An array of the Program: an object's elements, or one type of its fields.

    ``low`` and ``high`` are what the first subscript was seen to run over, ``least`` the least that
    it is, ``unsure`` whether some access may not happen; ``inner`` the extent that the fields of a
    structure add.
    """

    name: str
    object: Object
    dtype: DType
    inner: tuple[int, ...]
    low: int = 0
    high: int = -1
    least: int | None = None
    unsure: bool = False
    written: bool = False

    def saw(self, low: int, high: int, *, surely: bool) -> None:
        """Note what a first subscript runs over."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low <= high:
            self.least = low if self.least is None else min(self.least, low)
            self.unsure = self.unsure or not surely

    def array(self) -> Array:
        """As the Program has it; where accesses tell the extent, its first element is ``low``."""
        first, *rest = self.object.shape
        extent = self.high + 1 - min(self.low, 0) if first is None else first
        shape = (max(extent, 1), *(n for n in rest if n is not None), *self.inner)
        sure = first is not None or not (self.unsure or (self.least or 0) > 0)
        return Array(self.name, self.dtype, shape, self.object.values, sure)

    @property
    def shift(self) -> int:
        """What is added to the first subscript so that it begins at 0."""
        return -min(self.low, 0) if self.object.shape[0] is None else 0


@dataclass(frozen=True)
class LoweringRules:
    """Rules that others come back to: C's grammar goes round in circles, imports do not."""

    value: Callable[[Environment, Expression], Expr]
    assign: Callable[[Environment, AssignE | UnaryE], Expr]
    effect: Callable[[Environment, Expression], None]
    inline: Callable[[Environment, CallE, CFunction], Expr]
    items: Callable[[Environment, Sequence[CStatement]], None]
    declare: Callable[[Environment, Variable], None]
    call_form: Callable[[Environment, CallE], Affine]


@dataclass
class Region:
    """The Program being built: what its statements have used so far."""

    unit: Unit
    decisions: Decisions
    rules: LoweringRules
    sizes: tuple[str, ...] = ()  # integer arguments without a value
    parameters: frozenset[str] = frozenset()  # names of arguments
    names: FreshNames = field(default_factory=FreshNames)
    arrays: dict[tuple[int, DType, int], ArrayUse] = field(default_factory=dict)
    scalars: dict[str, Scalar] = field(default_factory=dict)
    temporaries: list[Temporary] = field(default_factory=list)
    live: dict[int, tuple[Access, Access]] = field(default_factory=dict)  # local, where it is kept
    outer: frozenset[int] = frozenset()  # scalars from before the region, by ident
    counted: dict[str, Range] = field(default_factory=dict)  # of temporaries that only count
    holds: dict[str, int] = field(default_factory=dict)  # temporary -> ident of its variable
    touched: set[int] = field(default_factory=set)  # variables that something has assigned so far
    moving: frozenset[int] = frozenset()  # variables that something assigns, by ident
    members: Mapping[str, int] = field(default_factory=dict)  # sizes that structures hold
    changed_members: frozenset[str] = frozenset()  # names of members that something changes
    statements: int = 0
    numbers: int = 0  # derived ones
    derived: set[str] = field(default_factory=set)  # those that statements have
    assumed: dict[str, None] = field(default_factory=dict)
    ranges: dict[object, Range] = field(default_factory=dict)  # that isl has told
    moved: dict[int, tuple[Tree, tuple[int, ...]]] = field(default_factory=dict)  # by id of a node
    apart: dict[object, bool] = field(default_factory=dict)  # likewise

    def keep(self, name: str, ident: int) -> None:
        """Notes that the temporary ``name`` holds the variable ``ident``."""
        self.holds[name] = ident
        if ident in self.decisions.counting:
            told = {i: (low, high) for i, low, high in self.decisions.counted}
            self.counted[name] = told.get(ident, (0, 0))  # anything, until all is counted

    def dtype_of(self, name: str) -> DType:
        """Element type of an array, scalar or temporary used so far."""
        for use in self.arrays.values():
            if use.name == name:
                return use.dtype
        if name in self.scalars:
            return self.scalars[name].dtype
        return next(t.dtype for t in self.temporaries if t.name == name)


@dataclass(frozen=True)
class Environment:
    """Where one stands.

    Attributes:
        region: what was used so far.
        scope: what each variable stands for here; a block changes its own copy.
        around: the loops around, outermost first.
        conditions: those under which this is run, outermost first.
        facts: what else is known to hold here, of data as it is now.
        given: variables declared outside of the region that surely have a value of the region.
        derived: the numbers that the statement being read derives.
        kept: those of them that every statement here begins with: a call's arguments use them.
        out: the nodes of the block being read; a rule appends.
        inlined: the functions that this is the body of.
        sure: whether the expression being read is surely evaluated.
        unchecked: whether forms are taken as numbers: that types hold them is shown later.
    """

    region: Region
    scope: Scope
    around: tuple[Loop, ...] = ()
    conditions: tuple[Expr, ...] = ()
    facts: list[Expr] = field(default_factory=list)
    given: set[int] = field(default_factory=set)
    derived: list[Derived] = field(default_factory=list)
    kept: tuple[Derived, ...] = ()
    out: list[Node] = field(default_factory=list)
    inlined: tuple[str, ...] = ()
    sure: bool = True
    unchecked: bool = False

    def ranges(self) -> dict[str, Range] | None:
        """Intervals that hold every iterator and derived number; None: nothing ever runs."""
        found = box(self.around)
        if found is not None:
            found |= {d.name: (d.low, d.high) for d in self.derived}
        return found


def box(around: Sequence[Loop]) -> dict[str, Range] | None:
    """Intervals that hold the iterators of nested loops; None where no instance exists."""
    found: dict[str, Range] = {}
    for loop in around:
        low = max(-(-b.expr.interval(found)[0] // b.divisor) for b in loop.lower)
        high = min(b.expr.interval(found)[1] // b.divisor for b in loop.upper)
        if low > high:
            return None
        found[loop.iterator] = (low, high)
    return found
