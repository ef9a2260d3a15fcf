"""What a function of a person's is called with: sizes, numbers, and memory as large as it uses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.advise.splice import SourceRegion
from agent.arrays import Array
from agent.errors import SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    CallE,
    CType,
    Name,
    OtherType,
    PointerType,
    RecordType,
    ScalarType,
    Variable,
    walk,
)
from agent.loopnest.lowering.lower import Reading
from agent.loopnest.lowering.reader import read_region, regions_of
from agent.loopnest.program import DType

SEEDS = 2
MOST_BYTES = 256 << 20
UNKNOWN_BYTES = 4096  # of what a pointer leads to that no loop uses
NUMBERS = {
    DType.F32: "f4", DType.F64: "f8", DType.I8: "i1", DType.U8: "u1", DType.I16: "i2",
    DType.U16: "u2", DType.I32: "i4", DType.U32: "u4", DType.I64: "i8", DType.U64: "u8",
}  # fmt: skip
TOLERANCE = {DType.F32: 1e-3, DType.F64: 1e-9}  # sums may be in another order


@dataclass(frozen=True)
class CallMemory:
    """Memory that a run is given and gives back.

    Attributes:
        name: of the parameter or global variable.
        before: bytes before the address that is passed.
        count: elements.
        fields: offset and type of each number in an element.
        stride: bytes of an element.
        role: how the function gets it: ``passed``, or as a global ``pointer`` or ``array``.
    """

    name: str
    before: int
    count: int
    fields: tuple[tuple[int, DType], ...]
    stride: int
    role: str = "passed"

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return self.count * self.stride

    def dtype(self) -> np.dtype[Any]:
        """An element, as numpy has it; bytes that no field covers are left out."""
        return np.dtype(
            {
                "names": [f"f{at}" for at, _ in self.fields],
                "formats": [NUMBERS[kind] for _, kind in self.fields],
                "offsets": [at for at, _ in self.fields],
                "itemsize": self.stride,
            }
        )

    def filled(self, rng: np.random.Generator) -> Array:
        """Floats from 0.5 to 2.5 and whole numbers from 1 to 100."""
        out = np.zeros(self.count, self.dtype())
        for at, kind in self.fields:
            drawn = rng.uniform(0.5, 2.5, self.count)
            whole = rng.integers(1, 101, self.count)
            out[f"f{at}"] = drawn if kind.is_float else whole
        return out

    def same(self, one: bytes, two: bytes) -> bool:
        """Whether two runs left the same numbers in it."""
        a, b = (np.frombuffer(x, self.dtype(), self.count) for x in (one, two))
        return all(_same(a[f"f{at}"], b[f"f{at}"], kind) for at, kind in self.fields)


def _same(one: Array, two: Array, kind: DType) -> bool:
    if not kind.is_float:
        return bool((one == two).all())
    with np.errstate(invalid="ignore", over="ignore"):
        scale = np.maximum(1, np.maximum(np.abs(one), np.abs(two)))
        near = np.abs(one - two) <= TOLERANCE[kind] * scale
    return bool((near | (one == two) | (np.isnan(one) & np.isnan(two))).all())


# Of the C library: what reaches beyond the process. Calls with inputs that are made up must not.
ACTING = frozenset(
    """
    open openat creat fopen fopen64 freopen open64 remove unlink unlinkat rename renameat rmdir
    mkdir mkdirat mkfifo mknod link symlink truncate ftruncate chmod fchmod chown chdir system popen
    fork vfork execl execlp execle execv execvp execve execvpe posix_spawn posix_spawnp kill killpg
    socket connect bind send sendto sendmsg mount umount reboot syscall ioctl dlopen shm_open
    sem_open mq_open setuid setgid tmpfile mkstemp
    """.split()
)


class UncheckedError(Exception):
    """Why a function cannot be called with inputs that are made up."""


@dataclass(frozen=True)
class FunctionCall:
    """One call of ``agent_function``, as C.

    Attributes:
        sizes: those it is called with; ``seed``: of what is in memory.
        memory: declarations of its memory, ``agent_0`` and so on, read from ``in``.
        globals: statements that put into globals what they hold before the call.
        call: the expression.
        collect: statements that take out of globals what they hold after it.
    """

    sizes: Mapping[str, int]
    seed: int
    memory: tuple[str, ...]
    globals: tuple[str, ...]
    call: str
    collect: tuple[str, ...]


@dataclass(frozen=True)
class CallPlan:
    """The calls of a check, and the memory of each."""

    memory: tuple[CallMemory, ...]
    calls: tuple[FunctionCall, ...]
    result: ScalarType | None

    def inputs(self, seed: int) -> bytes:
        """The bytes of all memory before a call."""
        rng = np.random.default_rng(seed)
        return b"".join(m.filled(rng).tobytes() for m in self.memory)

    def same(self, one: bytes, two: bytes) -> bool:
        """Whether two calls left the same memory and gave the same result."""
        at = 0
        for memory in self.memory:
            end = at + memory.size
            if not memory.same(one[at:end], two[at:end]):
                return False
            at = end
        kind = self.result.dtype if self.result else None
        if kind is None or len(one) != len(two):
            return len(one) == len(two)
        a, b = (np.frombuffer(x[at:], NUMBERS[kind]) for x in (one, two))
        return _same(a, b, kind)


def plan_of(source: SourceRegion) -> CallPlan:
    """The calls of a check; raises UncheckedError where none can be made up."""
    function = source.function
    if acting := _acting(source):
        raise UncheckedError(f"it calls {acting!r}, which reaches beyond the function")
    memory = tuple(_memory(source))
    if sum(m.size for m in memory) > MOST_BYTES:
        raise UncheckedError(f"its arrays are larger than {MOST_BYTES >> 20} MiB")
    result = function.result if isinstance(function.result, ScalarType) else None
    if result is None and not _is_void(function.result):
        raise UncheckedError("it returns something else than a number")
    seeds = range(SEEDS)
    calls = (_call(source, memory, sizes, seed) for sizes in _sizes(source) for seed in seeds)
    return CallPlan(memory, tuple(calls), result)


def _acting(source: SourceRegion) -> str:
    """The name of what the function calls, or those of the file that it calls, of ``ACTING``."""
    left, seen = [source.function], {source.function.ident}
    while left:
        calls = (x.callee for x in walk(left.pop().body) if isinstance(x, CallE))
        for callee in (c for c in calls if isinstance(c, Name)):
            if callee.name in ACTING:
                return callee.name
            called = source.unit.functions.get(callee.ident)
            if called is not None and callee.ident not in seen:
                seen.add(callee.ident)
                left.append(called)
    return ""


def _is_void(kind: CType) -> bool:
    return isinstance(kind, OtherType) and kind.text == "void"


def _sizes(source: SourceRegion) -> list[Mapping[str, int]]:
    """The sizes that were tuned; odd ones below; 1; 0."""
    given = source.sizes
    odd = {name: max(1, value - 2 if value % 2 else value - 1) for name, value in given.items()}
    tried = (given, odd, dict.fromkeys(given, 1), dict.fromkeys(given, 0))
    return [s for n, s in enumerate(tried) if s not in tried[:n]]


def _memory(source: SourceRegion) -> Iterator[CallMemory]:
    needed = _needed(source)
    own = {p.name: p for p in source.function.parameters}
    for parameter in own.values():
        if isinstance(parameter.type, PointerType | ArrayType):
            yield _of_variable(parameter, *needed.get(parameter.name, (0, UNKNOWN_BYTES)), "passed")
    for variable in source.unit.variables.values():
        if variable.name in needed and variable.name not in own:
            role = "pointer" if isinstance(variable.type, PointerType) else "array"
            yield _of_variable(variable, *needed[variable.name], role)


def _needed(source: SourceRegion) -> dict[str, tuple[int, int]]:
    """Bytes before and after where a variable leads, for all loops of the function."""
    found: dict[str, tuple[int, int]] = {}
    for reading in _readings(source):
        for binding in reading.bindings:
            array = reading.program.array(binding.array)
            row = math.prod(array.shape[1:]) * array.dtype.size
            low = -min(0, binding.low) * row
            name = binding.variable
            before, after = found.get(name, (0, 0))
            found[name] = (max(before, low), max(after, array.bytes - low))
    return found


def _readings(source: SourceRegion) -> Iterator[Reading]:
    yield source.reading
    for number in range(1, 1 + len(regions_of(source.unit, source.function))):
        try:
            yield read_region(source.unit, source.reading.function, source.sizes, number)
        except SourceError:
            continue  # what it uses is not known


def _of_variable(variable: Variable, before: int, after: int, role: str) -> CallMemory:
    kind = variable.type
    kind = kind.to if isinstance(kind, PointerType) else kind
    while isinstance(kind, ArrayType):
        kind = kind.element
    fields: tuple[tuple[int, DType], ...] = ()
    if isinstance(kind, ScalarType) and kind.dtype is not None:
        fields, stride = ((0, kind.dtype),), kind.dtype.size
    elif isinstance(kind, RecordType):
        fields = tuple(
            (f.offset, f.type.dtype)
            for f in kind.fields
            if f.offset is not None and isinstance(f.type, ScalarType) and f.type.dtype
        )
        stride = kind.size
    if not fields:
        raise UncheckedError(f"{variable.name!r} leads to something else than numbers")
    front = -(-before // stride)
    return CallMemory(
        variable.name, front * stride, front + max(1, -(-after // stride)), fields, stride, role
    )


def _call(
    source: SourceRegion, memory: Sequence[CallMemory], sizes: Mapping[str, int], seed: int
) -> FunctionCall:
    own = {p.name for p in source.function.parameters}
    places = {m.name: f"agent_{n}" for n, m in enumerate(memory)}
    declared = [f"char *{places[m.name]} = agent_memory(in, {m.size});" for m in memory]
    put = [f"{name} = {value};" for name, value in sizes.items() if name not in own]
    for m in memory:
        at = f"{places[m.name]} + {m.before}"
        if m.role == "pointer":
            put.append(f"{m.name} = (void *)({at});")
        elif m.role == "array":
            put.append(f"memcpy(&{m.name}, {at}, {m.size});")
    rng = np.random.default_rng(1000 + seed)
    passed = [_value(p, sizes, memory, places, rng) for p in source.function.parameters]
    call = f"agent_function({', '.join(passed)})"
    taken = (f"memcpy({places[m.name]}, &{m.name}, {m.size});" for m in memory if m.role == "array")
    return FunctionCall(sizes, seed, tuple(declared), tuple(put), call, tuple(taken))


def _value(
    parameter: Variable,
    sizes: Mapping[str, int],
    memory: Sequence[CallMemory],
    places: Mapping[str, str],
    rng: np.random.Generator,
) -> str:
    kind = parameter.type
    if parameter.name in places:
        before = next(m.before for m in memory if m.name == parameter.name)
        return f"(void *)({places[parameter.name]} + {before})"
    if not isinstance(kind, ScalarType):
        raise UncheckedError(f"it has the parameter {parameter.name!r}, which is no number")
    if parameter.name in sizes:
        return str(sizes[parameter.name])
    whole = kind.dtype is not None and not kind.dtype.is_float
    return str(rng.integers(1, 10)) if whole else f"{rng.uniform(0.5, 1.5):.6f}"
