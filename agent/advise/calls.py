"""What a function of a person's is called with: sizes, numbers, and memory as large as it uses."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.advise.call_memory import NUMBERS, CallMemory, UncheckedError, memory_of, same
from agent.advise.splice import SourceRegion
from agent.errors import SourceError
from agent.loopnest.arithmetic import coarsest_float
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
from agent.loopnest.lowering.members import is_member, member_type
from agent.loopnest.lowering.reader import read_region, regions_of
from agent.loopnest.program import DType

SEEDS = 2
MOST_BYTES = 256 << 20
UNKNOWN_BYTES = 4096  # of what a pointer leads to that no loop uses

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
    """The calls of a check, and the memory of each.

    ``coarsest``: the shortest floats that the function's loops compute with.
    """

    memory: tuple[CallMemory, ...]
    calls: tuple[FunctionCall, ...]
    result: ScalarType | None
    coarsest: DType | None = None

    def inputs(self, seed: int) -> bytes:
        """The bytes of all memory before a call."""
        rng = np.random.default_rng(seed)
        return b"".join(m.filled(rng).tobytes() for m in self.memory)

    def same(self, one: bytes, two: bytes) -> bool:
        """Whether two calls left the same memory and gave the same result."""
        at = 0
        for memory in self.memory:
            end = at + memory.size
            if not memory.same(one[at:end], two[at:end], self.coarsest):
                return False
            at = end
        kind = self.result.dtype if self.result else None
        if kind is None or len(one) != len(two):
            return len(one) == len(two)
        a, b = (np.frombuffer(x[at:], NUMBERS[kind]) for x in (one, two))
        return same(a, b, kind, self.coarsest)


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
    coarsest = coarsest_float(*(reading.program for reading in _readings(source)))
    return CallPlan(memory, tuple(calls), result, coarsest)


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
    """Memory for every parameter and global that leads to some, then for what members lead to."""
    needed = _needed(source)
    own = {p.name: p for p in source.function.parameters}
    for name, variable in own.items():
        if isinstance(variable.type, PointerType | ArrayType | RecordType):
            role = "value" if isinstance(variable.type, RecordType) else "passed"
            yield memory_of(name, variable.type, *needed.get(name, (0, UNKNOWN_BYTES)), role)
    for variable in source.unit.variables.values():
        if variable.name in needed and variable.name not in own:
            role = "pointer" if isinstance(variable.type, PointerType) else "array"
            yield memory_of(variable.name, variable.type, *needed[variable.name], role)
    variables = [*own.values(), *source.unit.variables.values()]
    for name in filter(is_member, needed):
        if isinstance(kind := member_type(variables, name), PointerType):
            yield memory_of(name, kind, *needed[name], "member")


def _needed(source: SourceRegion) -> dict[str, tuple[int, int]]:
    """Bytes before and after where a variable or member leads, for all loops of the function.

    What holds a pointer or a size comes before what that leads to.
    """
    found: dict[str, tuple[int, int]] = {}
    for name in (held for size in source.sizes for held in _holders(size)):
        found.setdefault(name, (0, 0))
    for reading in _readings(source):
        for binding in (b for b in reading.bindings if not b.is_local):
            array = reading.program.array(binding.array)
            row = math.prod(array.shape[1:]) * array.dtype.size
            low = -min(0, binding.low) * row
            for name in (*_holders(binding.variable), binding.variable):
                before, after = found.get(name, (0, 0))
                whole = name == binding.variable
                found[name] = (max(before, low * whole), max(after, (array.bytes - low) * whole))
    return found


def _holders(name: str) -> list[str]:
    """The pointers that lead to a member, outermost first."""
    return [name[: found.start()] for found in re.finditer("->", name)]


def _readings(source: SourceRegion) -> Iterator[Reading]:
    yield source.reading
    for number in range(1, 1 + len(regions_of(source.unit, source.function))):
        try:
            yield read_region(source.unit, source.reading.function, source.sizes, number)
        except SourceError:
            continue  # what it uses is not known


def _call(
    source: SourceRegion, memory: Sequence[CallMemory], sizes: Mapping[str, int], seed: int
) -> FunctionCall:
    own = {p.name for p in source.function.parameters}
    places = {m.name: f"agent_{n}" for n, m in enumerate(memory)}
    declared = [f"char *{places[m.name]} = agent_memory(agent_in, {m.size});" for m in memory]
    plain = {name: value for name, value in sizes.items() if not is_member(name)}
    put = [f"{name} = {value};" for name, value in plain.items() if name not in own]
    for m in memory:
        at = f"{places[m.name]} + {m.before}"
        if m.role == "pointer":
            put.append(f"{m.name} = (void *)({at});")
        elif m.role == "array":
            put.append(f"memcpy(&{m.name}, {at}, {m.size});")
    put += _members(source, memory, sizes)
    rng = np.random.default_rng(1000 + seed)
    passed = [_value(p, sizes, memory, places, rng) for p in source.function.parameters]
    call = f"agent_function({', '.join(passed)})"
    taken = (f"memcpy({places[m.name]}, &{m.name}, {m.size});" for m in memory if m.role == "array")
    return FunctionCall(sizes, seed, tuple(declared), tuple(put), call, tuple(taken))


def _members(
    source: SourceRegion, memory: Sequence[CallMemory], sizes: Mapping[str, int]
) -> Iterator[str]:
    """Statements that put into structures the pointers and sizes they hold."""
    held = {m.name: f"(void *)(agent_{n} + {m.before})" for n, m in enumerate(memory)}
    values = {m.name: held[m.name] for m in memory if m.role == "member"}
    values |= {name: str(value) for name, value in sizes.items() if is_member(name)}
    roots = {re.match(r"\w+", name)[0] for name in values}  # type: ignore[index]  # they are names
    lines = []
    for parameter in (p for p in source.function.parameters if p.name in roots):
        kind = parameter.type.to if isinstance(parameter.type, PointerType) else parameter.type
        if isinstance(kind, RecordType):
            lines.append(f"{kind.name} *{parameter.name} = {held[parameter.name]};")
    by_value = {m.name for m in memory if m.role == "value"}
    for name, value in values.items():
        root, dot, rest = name.partition(".")
        lines.append(f"{f'(*{root}).{rest}' if dot and root in by_value else name} = {value};")
    if lines:
        yield "{ " + " ".join(lines) + " }"  # of parameters' names nothing else here is


def _value(
    parameter: Variable,
    sizes: Mapping[str, int],
    memory: Sequence[CallMemory],
    places: Mapping[str, str],
    rng: np.random.Generator,
) -> str:
    kind = parameter.type
    if parameter.name in places:
        found = next(m for m in memory if m.name == parameter.name)
        if isinstance(kind, RecordType):
            return f"*({kind.name} *){places[parameter.name]}"
        return f"(void *)({places[parameter.name]} + {found.before})"
    if not isinstance(kind, ScalarType):
        raise UncheckedError(f"it has the parameter {parameter.name!r}, which is no number")
    if parameter.name in sizes:
        return str(sizes[parameter.name])
    whole = kind.dtype is not None and not kind.dtype.is_float
    return str(rng.integers(1, 10)) if whole else f"{rng.uniform(0.5, 1.5):.6f}"
