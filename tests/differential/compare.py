"""Functions as people wrote them against what is emitted for them: run, and all memory compared.

Many functions go into one C file and one process: names of a file's own get a number. What crashes
or hangs is told apart by the last line the process printed; it goes on with the next version.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.advise.call_memory import TOLERANCE
from agent.errors import ScheduleError
from agent.loopnest.arithmetic import coarsest_float
from agent.loopnest.emitter.emit import ENTRY, emit
from agent.loopnest.program import DType, Program, statements
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.legality import Dependences, check_legal
from agent.loopnest.schedules.schedule import Schedule
from tests.differential.case import (
    Argument,
    Case,
    Field,
    Region,
    defined,
    renamed,
    spliced,
)

Reader = Callable[[Case], Sequence[Region]]

# Without builtins: the compiler rounds functions of numbers otherwise than the library does.
FLAGS = ("-std=gnu11", "-w", "-fopenmp", "-ffp-contract=off", "-fno-builtin")
PLAIN = ("-O0",)
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
HEADERS = "math stdbool stddef stdint stdio stdlib string".split()
DRIVER = Path(__file__).with_name("driver.c")
TYPES = (
    "enum { F32, F64, I8, U8, I16, U16, I32, U32, I64, U64 };",
    "struct memory_field { int kind; size_t offset; double low, high; };",
    "struct memory_array { size_t elements, stride; int fields;"
    " const struct memory_field *field; };",
    "struct function_version { int test, number, exact, coarsest; void (*call)(void **); };",
    f"static const double near_of[] = {{{TOLERANCE[DType.F32]}, {TOLERANCE[DType.F64]}}};",
)
KINDS = {
    "float": "F32", "double": "F64", "bool": "U8", "_Bool": "U8",
    "int8_t": "I8", "signed char": "I8", "char": "I8", "uint8_t": "U8", "unsigned char": "U8",
    "int16_t": "I16", "short": "I16", "uint16_t": "U16", "unsigned short": "U16",
    "int32_t": "I32", "int": "I32", "uint32_t": "U32", "unsigned": "U32", "unsigned int": "U32",
    "int64_t": "I64", "long": "I64", "ptrdiff_t": "I64", "long long": "I64",
    "uint64_t": "U64", "unsigned long": "U64", "size_t": "U64", "unsigned long long": "U64",
}  # fmt: skip
_HELD = re.compile(r"@(\w+)")


@dataclass(frozen=True)
class Version:
    """A function with kernels in place of its regions.

    Attributes:
        what: the schedules of the regions, for people; "" for the base.
        function: the C text of everything that the version adds to the file.
        call: the function's name in it.
        exact: whether it computes the same sums in the same order.
        coarsest: the shortest floats that it computes with.
    """

    what: str
    function: str
    call: str
    exact: bool
    coarsest: DType = DType.F64


@dataclass(frozen=True)
class Difference:
    """A version that does something else than the function as written, and what."""

    case: Case
    version: str
    what: str


# --- versions -------------------------------------------------------------------------------------


def keeps_order(version: Program, dependences: Dependences) -> bool:
    """Whether even updates of reductions run in the order as written."""
    items = tuple(replace(item, reduction=False) for item in dependences.items)
    try:
        check_legal(version, replace(dependences, items=items))
    except ScheduleError:
        return False
    return "reduction(" not in emit(version)  # OpenMP starts from 0, then adds what there was


def _only_integers(program: Program) -> bool:
    """Whether sums are the same in every order."""
    targets = (s.target.array for _, s in statements(program.body) if s.op)
    return not any(program.dtype_of(t).is_float for t in targets)


def _scheduled(program: Program, count: int, seed: int) -> list[tuple[Schedule, str, bool]]:
    """The program as written, then legal schedules of it: each with its C, whether it is exact."""
    if not count:
        return [(Schedule(), emit(program), True)]
    dependences = Dependences.of(program)
    found = candidate_schedules(program, 4 * count, seed, dependences)
    chosen = [found[0], *found[1 :: max(1, (len(found) - 1) // count)][:count]]
    whole = _only_integers(program)
    return [(s, emit(p), whole or keeps_order(p, dependences)) for s, p in chosen]


def versions(case: Case, regions: Sequence[Region], count: int, seed: int) -> list[Version]:
    """The function with its regions as emitted, then with ``count`` schedules of them."""
    drafts = [_scheduled(region.program, count, seed) for region in regions]
    out = []
    for number in range(max((len(d) for d in drafts), default=0)):
        picked = [draft[min(number, len(draft) - 1)] for draft in drafts]
        what = " | ".join(str(schedule) for schedule, _, _ in picked) if number else "base"
        exact = all(exact for _, _, exact in picked)
        if exact or not case.discrete:
            out.append(_version(case, regions, [c for _, c, _ in picked], (what, exact, number)))
    return out


def _version(
    case: Case, regions: Sequence[Region], emitted: Sequence[str], told: tuple[str, bool, int]
) -> Version:
    what, exact, number = told
    kernels = [
        renamed(text, defined(text), f"_v{number}_r{region}") for region, text in enumerate(emitted)
    ]
    entries = [f"{ENTRY}_v{number}_r{region}" for region in range(len(regions))]
    start, end = function_span(case.text, case.function)
    inside = [replace(r, start=r.start - start, end=r.end - start) for r in regions]
    body = spliced(case.text[start:end], inside, entries)
    entry = "".join(f" __typeof__({p}) {p}_entry = {p};" for p in case.pointers)
    body = body.replace("{", "{" + entry, 1)
    name = f"{case.function}_v{number}"
    function = renamed(body, [case.function], f"_v{number}")
    coarsest = coarsest_float(*(region.program for region in regions)) or DType.F64
    return Version(what, "\n".join([*kernels, function]), name, exact, coarsest)


def function_span(text: str, name: str) -> tuple[int, int]:
    """Where the definition of function ``name`` begins and ends; its line begins it."""
    found = re.search(rf"^[^\n#{{}};]*\b{name}\s*\([^{{;]*\{{", text, re.MULTILINE)
    assert found, f"no function {name}"
    depth, at = 1, found.end()
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return found.start(), at


# --- one C file for many functions ----------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A case with its versions, ready to be compiled."""

    case: Case
    versions: tuple[Version, ...] = ()

    @property
    def memory(self) -> list[Argument]:
        """What is compared: arrays, then the result."""
        result = Argument("result", self.case.result, 1, fields=(Field(self.case.result, 0, 0),))
        return [a for a in self.case.arguments if a.elements] + [result] * bool(self.case.result)


def source(batch: Sequence[Prepared], seeds: int) -> str:
    """A C program that runs every version of every case; ``driver.c`` says what it prints."""
    numbers = range(len(batch))
    table = [
        f"{{{n}, {v}, {exact:d}, {coarsest.name}, call_{n}_{v}}}"
        for n, item in enumerate(batch)
        for v, (exact, coarsest) in enumerate(
            [(True, DType.F64), *((x.exact, x.coarsest) for x in item.versions)]
        )
    ]
    lines = [
        *(f"#include <{header}.h>" for header in HEADERS),
        *TYPES,
        *(_case_text(n, item) for n, item in enumerate(batch)),
        f"enum {{ SEEDS = {seeds}, VERSIONS = {len(table)} }};",
        f"static const struct function_version versions[] = {{{', '.join(table)}}};",
        _table("const struct memory_array *const arrays_of", [f"layout_{n}" for n in numbers]),
        _table("const int count_of", [str(len(item.memory)) for item in batch]),
        DRIVER.read_text(),
    ]
    return "\n".join(lines)


def _table(declared: str, items: Sequence[str]) -> str:
    return f"static {declared}[] = {{{', '.join(items)}}};"


def _case_text(number: int, item: Prepared) -> str:
    """The file, the versions of its function, how to call them, and what is in memory."""
    case = item.case
    added = [case.function, *(x.call for x in item.versions)]
    added += [name for x in item.versions for name in defined(x.function)]
    text = "\n".join([case.text, *(x.function for x in item.versions)])
    text += "\n" + "\n".join(
        _call(item, f"call_{number}_{v}", name)
        for v, name in enumerate([case.function, *(x.call for x in item.versions)])
    )
    text += "\n" + _layout(item)
    layout = ["layout", *(f"fields_of_{n}" for n in range(len(item.memory)))]
    return renamed(text, [*case.names, *added, *layout], f"_{number}")


def _call(item: Prepared, name: str, function: str) -> str:
    places = {a.name: f"p[{n}]" for n, a in enumerate(item.memory)}
    inside = [a.name for a in item.case.arguments if a.is_global]
    passed = [a.value or places[a.name] for a in item.case.arguments if a.is_passed]
    passed = [_HELD.sub(lambda m: places[m[1]], text) for text in passed]
    result = f"*({item.case.result} *){places['result']} = " if item.case.result else ""
    copies = [f"memcpy({g}, {places[g]}, sizeof {g});" for g in inside]
    back = [f"memcpy({places[g]}, {g}, sizeof {g});" for g in inside]
    call = f"{result}{function}({', '.join(passed)});"
    return f"static void {name}(void **p) {{ {' '.join([*copies, call, *back])} }}"


def _layout(item: Prepared) -> str:
    lines, arrays = [], []
    for n, a in enumerate(item.memory):
        fields = [
            f"{{{KINDS[f.type]}, {f'offsetof({a.type}, {f.member})' if f.member else '0'}, "
            f"{f.low}, {f.high}}}"
            for f in a.fields
        ]
        lines.append(_table(f"const struct memory_field fields_of_{n}", fields))
        arrays.append(f"{{{a.elements}, sizeof({a.type}), {len(fields)}, fields_of_{n}}}")
    lines.append(_table("const struct memory_array layout", arrays or ["{0, 0, 0, 0}"]))
    return "\n".join(lines)


# --- running --------------------------------------------------------------------------------------


def differences(
    batch: Sequence[Prepared],
    folder: Path,
    flags: Sequence[str] = PLAIN,
    *,
    seeds: int = 2,
    timeout: float = 300,
) -> list[Difference]:
    """What versions do that their functions do not; a function that crashes itself is one too.

    Raises:
        CalledProcessError: the compiler refuses the file; ``stderr`` says why.
    """
    program = _built(batch, folder, flags, seeds)
    first = _first_versions(batch)
    found: dict[tuple[int, int], str] = {}
    start, skipped = 0, list[int]()
    while True:
        lines, ended = _run(program, [start, *skipped], timeout)
        for line in lines:
            if line.startswith("differs"):
                _, test, version, *rest = line.split(" ", 3)
                found.setdefault((int(test), int(version)), rest[0])
        if not ended:
            break
        _, test, version = next(x for x in reversed(lines) if x.startswith("run")).split()
        found[int(test), int(version)] = ended
        start = first[int(test) + (version == "0")]
        skipped = [x for x in (*skipped, first[int(test)] + int(version)) if x >= start]
    return [_told(batch[test], version, what) for (test, version), what in sorted(found.items())]


def _told(item: Prepared, version: int, what: str) -> Difference:
    name = item.versions[version - 1].what if version else "as written"
    words = what.split()
    if words[0] == "array":
        what = f"{item.memory[int(words[1])].name}, byte {words[3]}"
    return Difference(item.case, name, what)


def _first_versions(batch: Sequence[Prepared]) -> list[int]:
    """The number of each case's function as written in the table of versions, and its length."""
    return list(itertools.accumulate((1 + len(item.versions) for item in batch), initial=0))


def _built(batch: Sequence[Prepared], folder: Path, flags: Sequence[str], seeds: int) -> Path:
    file, program = folder / "batch.c", folder / "batch"
    file.write_text(source(batch, seeds))
    command = ["gcc", *FLAGS, *flags, str(file), "-lm", "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=1200)
    return program


def _run(program: Path, numbers: Sequence[int], timeout: float) -> tuple[list[str], str]:
    """The lines it printed, and how it ended if not well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "passive"}
    command = [str(program), *map(str, numbers)]
    with (program.parent / "lines").open("w+") as out:
        try:
            done = subprocess.run(
                command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True,
                timeout=timeout,
            )  # fmt: skip
            ended = f"exit {done.returncode} {done.stderr[:2000]}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            ended = "does not end"
        out.seek(0)
        return out.read().splitlines(), ended
