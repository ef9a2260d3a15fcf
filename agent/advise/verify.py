"""The person's function as written against the one written for it: both run on the same inputs.

Each file becomes a program of its own (a driver includes it), compiled with the sanitizers for
addresses and undefined behaviour where there are any. An input is what the function is given: its
sizes (those that were tuned, then others: 1, and odd ones), numbers, and memory as large as its
loops use; all memory and the result are compared afterwards.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.advise.splice import Source
from agent.arrays import Array
from agent.errors import CompilerError, SourceError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    CType,
    OtherType,
    PointerType,
    RecordType,
    ScalarType,
    Variable,
)
from agent.loopnest.lowering.lower import Reading
from agent.loopnest.lowering.reader import read_region, regions_of
from agent.loopnest.program import DType
from agent.measure.compiler import COMPILE_LIMITS, Compiler
from agent.system.child import ChildLimits, ChildRun, other_owner, run_child

SEEDS = 2
RUN_S = 20.0
MOST_BYTES = 256 << 20
UNKNOWN_BYTES = 4096  # of what a pointer leads to that no loop uses
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
PLAIN = ("-O1",)
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "3"}
NUMBERS = {
    DType.F32: "f4", DType.F64: "f8", DType.I8: "i1", DType.U8: "u1", DType.I16: "i2",
    DType.U16: "u2", DType.I32: "i4", DType.U32: "u4", DType.I64: "i8", DType.U64: "u8",
}  # fmt: skip
TOLERANCE = {DType.F32: 1e-3, DType.F64: 1e-9}  # sums may be in another order
DRIVER = """#define main agent_main_of_the_file
#include "{file}"
#undef main
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *agent_memory(FILE *from, size_t bytes)
{{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory || fread(memory, 1, bytes, from) != bytes)
        exit(99);
    return memory;
}}

int main(int count, char **words)
{{
    FILE *in = count > 2 ? fopen(words[1], "rb") : NULL, *out = fdopen(dup(1), "wb");
    if (!in || !out || !freopen("/dev/null", "w", stdout))
        return 99;
    switch (atoi(words[2])) {{
{cases}
    }}
    return fflush(out) || fclose(out);
}}
"""


@dataclass(frozen=True)
class Checked:
    """What was compared, and what was not.

    Attributes:
        runs: sizes that both were run with, and whether their results agree.
        sanitized: whether the sanitizers watched.
        unchecked: what was not compared, in words.
    """

    runs: tuple[tuple[Mapping[str, int], bool], ...] = ()
    sanitized: bool = False
    unchecked: tuple[str, ...] = ()

    @property
    def wrong(self) -> list[Mapping[str, int]]:
        """The sizes with which the results differ."""
        return [sizes for sizes, same in self.runs if not same]


@dataclass(frozen=True)
class Memory:
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


class UncheckedError(Exception):
    """Why a function cannot be called with inputs that are made up."""


def verify(
    source: Source, path: Path, new: bytes, compiler: Compiler, cflags: Sequence[str]
) -> Checked:
    """Run the function of ``path`` and the one in ``new``, and compare what they do.

    Raises:
        CompilerError: the compiler refuses ``new`` although it takes the file as it is.
    """
    try:
        plan = _plan(source)
    except UncheckedError as why:
        plan = None
        reason = str(why)
    with tempfile.TemporaryDirectory(prefix="agent-emit-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "new.c").write_bytes(new)
        user = other_owner(path)  # who wrote what is compiled and run; for root only
        if user is not None:
            os.chown(folder, user, -1)
        trial = _Trial(folder, path, compiler, tuple(cflags), user)
        if plan is None:
            trial.compiled(folder / "new.c")
            return Checked(unchecked=(reason,))
        return trial.checked(plan)


# --- what a function is called with ---------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call: the sizes, what is passed, and C that does it."""

    sizes: Mapping[str, int]
    seed: int
    text: str


@dataclass(frozen=True)
class Plan:
    """The calls of a check, and the memory of each."""

    memory: tuple[Memory, ...]
    calls: tuple[Call, ...]
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


def _plan(source: Source) -> Plan:
    function = source.function
    memory = tuple(_memory(source))
    if sum(m.size for m in memory) > MOST_BYTES:
        raise UncheckedError(f"its arrays are larger than {MOST_BYTES >> 20} MiB")
    result = function.result if isinstance(function.result, ScalarType) else None
    if result is None and not _is_void(function.result):
        raise UncheckedError("it returns something else than a number")
    calls = []
    for sizes in _sizes(source):
        for seed in range(SEEDS):
            text = _call_text(source, memory, sizes, seed, result is not None)
            calls.append(Call(sizes, seed, text))
    return Plan(memory, tuple(calls), result)


def _is_void(kind: CType) -> bool:
    return isinstance(kind, OtherType) and kind.text == "void"


def _sizes(source: Source) -> list[Mapping[str, int]]:
    """The sizes that were tuned; odd ones below; 1."""
    given = source.sizes
    odd = {name: max(1, value - 2 if value % 2 else value - 1) for name, value in given.items()}
    ones = dict.fromkeys(given, 1)
    return [s for n, s in enumerate((given, odd, ones)) if s not in (given, odd, ones)[:n]]


def _memory(source: Source) -> Iterator[Memory]:
    needed = _needed(source)
    own = {p.name: p for p in source.function.parameters}
    for parameter in own.values():
        if isinstance(parameter.type, PointerType | ArrayType):
            yield _of_variable(parameter, *needed.get(parameter.name, (0, UNKNOWN_BYTES)), "passed")
    for variable in source.unit.variables.values():
        if variable.name in needed and variable.name not in own:
            role = "pointer" if isinstance(variable.type, PointerType) else "array"
            yield _of_variable(variable, *needed[variable.name], role)


def _needed(source: Source) -> dict[str, tuple[int, int]]:
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


def _readings(source: Source) -> Iterator[Reading]:
    yield source.reading
    for number in range(1, 1 + len(regions_of(source.unit, source.function))):
        try:
            yield read_region(source.unit, source.reading.function, source.sizes, number)
        except SourceError:
            continue  # what it uses is not known


def _of_variable(variable: Variable, before: int, after: int, role: str) -> Memory:
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
    return Memory(
        variable.name, front * stride, front + max(1, -(-after // stride)), fields, stride, role
    )


def _call_text(
    source: Source, memory: Sequence[Memory], sizes: Mapping[str, int], seed: int, result: bool
) -> str:
    """The C statements of one call."""
    own = {p.name for p in source.function.parameters}
    places = {m.name: f"agent_{n}" for n, m in enumerate(memory)}
    setup = [f"char *{places[m.name]} = agent_memory(in, {m.size});" for m in memory]
    setup += [f"{name} = {value};" for name, value in sizes.items() if name not in own]
    for m in memory:
        at = f"{places[m.name]} + {m.before}"
        if m.role == "pointer":
            setup.append(f"{m.name} = (void *)({at});")
        elif m.role == "array":
            setup.append(f"memcpy(&{m.name}, {at}, {m.size});")
    rng = np.random.default_rng(1000 + seed)
    passed = [_value(p, sizes, memory, places, rng) for p in source.function.parameters]
    call = f"{source.reading.function}({', '.join(passed)});"
    after = [f"memcpy({places[m.name]}, &{m.name}, {m.size});" for m in memory if m.role == "array"]
    after += [f"fwrite({places[m.name]}, 1, {m.size}, out);" for m in memory]
    if result:
        call = f"__typeof__({call[:-1]}) agent_result = {call}"
        after.append("fwrite(&agent_result, 1, sizeof agent_result, out);")
    return "\n        ".join([*setup, call, *after])


def _value(
    parameter: Variable,
    sizes: Mapping[str, int],
    memory: Sequence[Memory],
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
    return (
        str(rng.integers(1, 10))
        if kind.dtype and not kind.dtype.is_float
        else f"{rng.uniform(0.5, 1.5):.6f}"
    )


# --- running --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    folder: Path
    path: Path
    compiler: Compiler
    cflags: tuple[str, ...]
    user: int | None

    def checked(self, plan: Plan) -> Checked:
        """Both functions through every call of ``plan``."""
        flags, before = self._built(plan, "old", self.path)
        if before is None:
            self.compiled(self.folder / "new.c")
            return Checked(unchecked=("the file does not link by itself",))
        after = self._program(plan, "new", self.folder / "new.c", flags)
        if isinstance(after, str):
            raise CompilerError(after, "This is a fault of the agent's: please report it.")
        runs, unchecked = list[tuple[Mapping[str, int], bool]](), list[str]()
        for number, call in enumerate(plan.calls):
            (self.folder / "input").write_bytes(plan.inputs(call.seed))
            old = self._run(before, number, plan)
            if old.status != 0:
                unchecked.append(_failed(call, old))
                continue
            new = self._run(after, number, plan)
            runs.append((call.sizes, new.status == 0 and plan.same(old.output, new.output)))
        return Checked(tuple(runs), flags is SANITIZED, tuple(dict.fromkeys(unchecked)))

    def compiled(self, file: Path) -> None:
        """Raises CompilerError where the file is not C."""
        object_file = self.folder / "object.o"
        words = self._compile([*PLAIN, "-c", str(file), "-o", str(object_file)])
        if words:
            raise CompilerError(words, "This is a fault of the agent's: please report it.")

    def _built(self, plan: Plan, name: str, file: Path) -> tuple[tuple[str, ...], Path | None]:
        for flags in (SANITIZED, PLAIN):
            made = self._program(plan, name, file, flags)
            if isinstance(made, Path):
                return flags, made
        return PLAIN, None

    def _program(self, plan: Plan, name: str, file: Path, flags: Sequence[str]) -> Path | str:
        """The driver around a file; the compiler's words where it refuses."""
        cases = "\n".join(
            f"    case {n}: {{\n        {call.text}\n        break;\n    }}"
            for n, call in enumerate(plan.calls)
        )
        written = str(file.absolute()).replace("\\", "\\\\").replace('"', '\\"')
        driver, program = self.folder / f"{name}_driver.c", self.folder / name
        driver.write_text(DRIVER.format(file=written, cases=cases), "utf-8", "surrogateescape")
        words = self._compile([*flags, str(driver), "-lm", "-o", str(program)])
        return words or program

    def _compile(self, more: Sequence[str]) -> str:
        """Why the compiler refused; empty: it did not."""
        beside = str(self.path.absolute().parent)
        command = [*self.compiler.words, *self.compiler.flags, "-w", *self.cflags]
        run = run_child([*command, "-iquote", beside, *more], COMPILE_LIMITS, user=self.user)
        return "" if run.status == 0 else run.words or "the compiler did not end"

    def _run(self, program: Path, number: int, plan: Plan) -> ChildRun:
        output = sum(m.size for m in plan.memory) + 64
        limits = ChildLimits(seconds=RUN_S, memory=1 << 60, file=1 << 20, output=output)
        command = [str(program), str(self.folder / "input"), str(number)]
        environment = {**os.environ, **ENVIRONMENT}
        return run_child(command, limits, environment=environment, user=self.user)


def _failed(call: Call, run: ChildRun) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in call.sizes.items())
    why = "takes longer than 20 s" if run.status is None else "fails"
    return f"sizes {sizes}: the function as written {why} with inputs that are made up"
