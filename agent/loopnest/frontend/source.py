"""What the parts of the C front end share: limits, errors with a position, types, names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pycparser import c_ast

from agent.errors import SourceError
from agent.loopnest.frontend.proof import Prover
from agent.loopnest.program import FUNCTIONS, Affine, Array, DType, Loop, Scalar, Temporary

MAX_FILE = 1 << 20  # bytes
MAX_NESTING = 64  # brackets within brackets, in the text
MAX_OPERATORS_DEEP = 100  # operators within operators, in one expression
MAX_NODES = 2_000  # operators and operands of one expression
MAX_LOOPS = 8
MAX_BOUNDS = 8  # above, of one loop
MAX_STATEMENTS = 32
MAX_ARRAYS = 16
MAX_SIZE = 1 << 24
MAX_INT = (1 << 31) - 1
SUBSET = "The subset is described in docs/reference/c-subset.md."

_DTYPES: Mapping[str, DType] = {
    "float": DType.F32,
    "double": DType.F64,
    "int32_t": DType.I32,
    "uint8_t": DType.U8,
    "int": DType.I32,
    "signed": DType.I32,
    "int signed": DType.I32,
    "char unsigned": DType.U8,
}
_INTEGER_WORDS = frozenset("int long short signed unsigned char".split())
_INTEGER_NAMES = frozenset(
    [f"{u}int{bits}_t" for u in ("", "u") for bits in (8, 16, 32, 64)] + ["size_t", "ptrdiff_t"]
)


@dataclass(frozen=True)
class CType:
    """A scalar C type: ``dtype`` where the IR has it; ``integer``: it can hold a size."""

    text: str
    dtype: DType | None
    integer: bool
    const: bool
    unsigned: bool

    @property
    def narrow(self) -> bool:
        """Whether it is shorter than an int."""
        return any(word in self.text for word in ("char", "short", "int8", "int16"))


@dataclass
class SourceFile:
    """The parsed file: its name for messages and its typedefs."""

    filename: str
    typedefs: Mapping[str, c_ast.Node] = field(default_factory=dict)

    def error(self, node: c_ast.Node | None, message: str, hint: str = "") -> SourceError:
        """A SourceError at ``node``."""
        return SourceError(f"{self.position(node)}: {message}", hint=hint or SUBSET)

    def position(self, node: c_ast.Node | None) -> str:
        """``file:line:column`` of ``node``."""
        coord = getattr(node, "coord", None)
        if coord is None:
            return f"{self.filename}:1:1"
        return f"{coord.file or self.filename}:{coord.line}:{coord.column or 1}"

    def scalar_type(self, node: c_ast.Node, quals: tuple[str, ...] = ()) -> CType | None:
        """The type a declarator or type name ends in; None where it is no scalar type."""
        for _ in range(MAX_NESTING):
            if isinstance(node, c_ast.Typename | c_ast.TypeDecl | c_ast.Typedef):
                quals += tuple(node.quals or ())
                node = node.type
            elif not isinstance(node, c_ast.IdentifierType):
                return None
            elif len(node.names) == 1 and node.names[0] in self.typedefs and not _known(node):
                node = self.typedefs[node.names[0]]
            else:
                return _scalar_type(tuple(node.names), "const" in quals)
        return None


def _known(node: c_ast.IdentifierType) -> bool:
    return node.names[0] in _DTYPES or node.names[0] in _INTEGER_NAMES


def _scalar_type(words: tuple[str, ...], const: bool) -> CType | None:
    key = " ".join(sorted(words))
    integer = key in _INTEGER_NAMES or all(w in _INTEGER_WORDS for w in words)
    dtype = _DTYPES.get(key)
    if dtype is None and not integer:
        return None
    unsigned = "unsigned" in words or key.startswith("uint") or key == "size_t"
    return CType(" ".join(words), dtype, integer, const, unsigned)


@dataclass(frozen=True)
class KnownSize:
    """An integer whose value is known."""

    value: int


@dataclass(frozen=True)
class Parameter:
    """A scalar parameter without a value: data, or a size that is missing."""

    name: str
    type: CType


@dataclass(frozen=True)
class ArrayParameter:
    """An array parameter; ``dims`` are evaluated when it is first used."""

    name: str
    type: CType
    dims: tuple[c_ast.Node | None, ...]
    node: c_ast.Node


@dataclass(frozen=True)
class Iterator:
    """A loop's iterator in C (or a ``const int`` made of some), in terms of the IR's iterators."""

    value: Affine
    type: CType


@dataclass(eq=False)
class Local:
    """A variable declared in the function: an iterator or a temporary, its first use decides."""

    name: str
    type: CType
    depth: int
    init: c_ast.Node | None
    temporary: str = ""  # its name in the IR once it holds data
    is_iterator: bool = False
    assigned: bool = False  # some statement so far gives it a value


@dataclass(frozen=True)
class Refused:
    """A name that is declared but cannot be used in the region, and why."""

    why: str


Entity = KnownSize | Parameter | ArrayParameter | Iterator | Local | Refused
Scope = dict[str, Entity]


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


@dataclass(frozen=True)
class ArrayUse:
    """An array parameter that the region uses."""

    array: Array
    const: bool


@dataclass
class Region:
    """The Program being built: what its expressions have used so far."""

    source: SourceFile
    names: FreshNames = field(default_factory=FreshNames)
    arrays: dict[str, ArrayUse] = field(default_factory=dict)
    scalars: dict[str, Scalar] = field(default_factory=dict)
    temporaries: list[Temporary] = field(default_factory=list)
    parameters: Scope = field(default_factory=dict)
    missing: tuple[str, ...] = ()  # parameters without a value that arrays' shapes use
    prover: Prover = field(default_factory=Prover)
    statements: int = 0
    nodes: int = 0  # of the expression being read

    def dtype_of(self, name: str) -> DType:
        """Element type of an array, scalar or temporary used so far."""
        if name in self.arrays:
            return self.arrays[name].array.dtype
        if name in self.scalars:
            return self.scalars[name].dtype
        return next(t.dtype for t in self.temporaries if t.name == name)


@dataclass(frozen=True)
class Environment:
    """Where an expression stands: the names in sight and the loops around it."""

    region: Region
    scope: Scope
    around: tuple[Loop, ...] = ()

    def error(self, node: c_ast.Node | None, message: str, hint: str = "") -> SourceError:
        """A SourceError at ``node``."""
        return self.region.source.error(node, message, hint)
