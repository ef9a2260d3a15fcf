"""The suites' kernels, compiled as they are, against what is read of them: the same numbers.

Each region gets memory of its own values before it and is looked at behind it: both the function
as written and its versions copy what the harness filled into the arrays of the region, and copy it
out again, so that local arrays count as well.
"""

from __future__ import annotations

import math
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from agent.errors import AgentError
from agent.loopnest.frontend.ctree import (
    ArrayType,
    DeclareS,
    PointerType,
    RecordType,
    ScalarType,
    Unit,
    Variable,
)
from agent.loopnest.lowering.lower import Binding, Reading
from agent.loopnest.program import Array
from tests.differential.case import Argument, Case, Field, Region, renamed
from tests.differential.compare import KINDS, Difference, Prepared, Version, differences, versions

SCHEDULES = 5
LIMIT_S = 60
SPARE = 1 << 16  # bytes of what a pointer leads to that no region uses
FLAGS = ("-O1",)
_UNDEFINED = re.compile(r"undefined reference to `(\w+)'")
MAIN = "main"


@dataclass(frozen=True)
class Comparison:
    """What came of one function.

    Attributes:
        name: of the kernel.
        exact, near: versions that add in the same order, and in another.
        different: what differs where the order is the same, in words.
        far: what differs by more than rounding usually does, where it is another.
        skipped: why it was not compared.
    """

    name: str
    exact: int = 0
    near: int = 0
    different: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    skipped: str = ""


@dataclass
class _Text:
    """A file's text into which something is put; places are those of the file as it was."""

    text: str
    added: list[tuple[int, str]] = field(default_factory=list)

    def put(self, at: int, more: str) -> None:
        self.added.append((at, more))

    def moved(self, at: int) -> int:
        """Where the character that stood at ``at`` stands now."""
        return at + sum(len(more) for place, more in self.added if place <= at)

    def whole(self) -> str:
        text = self.text
        for at, more in sorted(self.added, key=lambda x: -x[0]):
            text = text[:at] + more + text[at:]
        return text


def compared(
    name: str, path: Path, unit: Unit, readings: Sequence[Reading], cflags: Sequence[str],
    sizes: Mapping[str, int], folder: Path,
) -> Comparison:  # fmt: skip
    """Runs a function as written, as emitted, and under ``SCHEDULES`` schedules."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LIMIT_S)
    try:
        case, regions = case_of(path, unit, readings, sizes)
        made = tuple(versions(case, regions, SCHEDULES, 1))
        flags = (*FLAGS, *cflags, "-I", str(path.parent))
        found = _run([Prepared(case, made)], folder, flags)
    except TimeoutError:
        return Comparison(name, skipped=f"it takes longer than {LIMIT_S} s")
    except AgentError as error:
        return Comparison(name, skipped=str(error))
    except subprocess.CalledProcessError as error:
        return Comparison(name, skipped=_first_error(error.stderr))
    finally:
        signal.alarm(0)
    return _counted(name, made, found)


def _run(batch: Sequence[Prepared], folder: Path, flags: Sequence[str]) -> list[Difference]:
    """What differs; functions that nothing defines end the program."""
    try:
        return differences(batch, folder, flags, seeds=1, timeout=LIMIT_S / 2)
    except subprocess.CalledProcessError as error:
        names = dict.fromkeys(_UNDEFINED.findall(error.stderr))
        if not names:
            raise
        stubs = folder / "undefined.c"
        stubs.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in names))
        return differences(batch, folder, (*flags, str(stubs)), seeds=1, timeout=LIMIT_S / 2)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


def _first_error(words: str) -> str:
    errors = [line for line in words.splitlines() if "error" in line or "undefined" in line]
    return (errors or [words[:200]])[0].strip()


def _counted(name: str, made: Sequence[Version], found: Sequence[Difference]) -> Comparison:
    exact = {v.what for v in made if v.exact}
    if any(d.version == "as written" for d in found):
        return Comparison(name, skipped=f"as written: {found[0].what}")
    told = [(d.version in exact, f"{d.version}: {d.what}") for d in found]
    different = tuple(text for same, text in told if same)
    far = tuple(text for same, text in told if not same)
    return Comparison(name, len(exact), len(made) - len(exact), different, far)


def case_of(
    path: Path, unit: Unit, readings: Sequence[Reading], sizes: Mapping[str, int]
) -> tuple[Case, list[Region]]:
    """The function of the readings as a case: its text looks at what each region leaves."""
    function = next(f for f in unit.functions.values() if f.name == readings[0].function)
    text = _Text(path.read_bytes().decode("latin-1"))
    pointers = [p.name for p in function.parameters if _leads(p)]
    first = "".join(f" __typeof__({p}) {p}_first = {p};" for p in pointers)
    text.put(function.body.place.start + 1, first)
    seen: list[Argument] = []
    for number, reading in enumerate(readings):
        seen += _look(text, number, reading, pointers)
    before = "".join(f"static {a.type} {a.name}[{a.elements}]; " for a in seen)
    rooms, arguments = _arguments(function.parameters, readings, sizes)
    regions = [_region(text, reading, pointers) for reading in readings]
    head = before + rooms + "\n"
    regions = [_shifted(r, len(head)) for r in regions]
    result = function.result.text if isinstance(function.result, ScalarType) else ""
    case = Case(
        head + text.whole(), function.name, sizes, (*arguments, *seen),
        result if result in KINDS else "", (MAIN, *(a.name for a in seen)),
    )  # fmt: skip
    return case, regions


def _leads(parameter: Variable) -> bool:
    return isinstance(parameter.type, PointerType | ArrayType)


def _look(text: _Text, number: int, reading: Reading, pointers: Sequence[str]) -> list[Argument]:
    """Puts copies around a region: what the harness filled in, what the region left out."""
    items = reading.part.items
    seen, enter, leave = [], "", ""
    for place, binding in enumerate(reading.bindings):
        if binding.is_local:
            continue
        array = reading.program.array(binding.array)
        name = f"seen_{number}_{place}"
        at = f"(void *)({_address(binding, array, pointers)})"
        enter += f" memcpy({at}, {name}, sizeof {name});"
        leave += f" memcpy({name}, {at}, sizeof {name});"
        seen.append(_filled(name, array))
    braces = not any(isinstance(item, DeclareS) for item in items)
    text.put(items[0].place.start, "{" * braces + enter + " ")
    text.put(_end(text.text, items[-1].place.end), leave + "}" * braces)
    return seen


def _end(text: str, at: int) -> int:
    """Behind the semicolon of the statement that ends at ``at``."""
    rest = text[at:]
    return at + len(rest) - len(rest.lstrip()) + 1 if rest.lstrip()[:1] == ";" else at


def _address(binding: Binding, array: Array, pointers: Sequence[str]) -> str:
    if binding.is_local:
        return f"({array.dtype.value}[{array.elements}]){{0}}"
    row = math.prod(array.shape[1:])
    return f"{renamed(binding.expression, pointers, '_first')} + {binding.low * row}"


def _filled(name: str, array: Array) -> Argument:
    kind = array.dtype.value
    low, high = (0.5, 1.5) if array.dtype.is_float else (0, 3)
    return Argument(
        name, kind, math.prod(array.shape), fields=(Field(kind, low, high),), is_global=True
    )


def _arguments(
    parameters: Sequence[Variable], readings: Sequence[Reading], sizes: Mapping[str, int]
) -> tuple[str, list[Argument]]:
    """Memory for what is pointed to, as declarations, and what is passed."""
    rooms, passed = "", []
    for parameter in parameters:
        kind, name = parameter.type, parameter.name
        if _leads(parameter):
            before, after = _needed(name, readings)
            rooms += f"static _Alignas(64) char room_{name}[{before + after}]; "
            value = f"(void *)(room_{name} + {before})"
        elif isinstance(kind, ScalarType):
            whole = kind.dtype is not None and not kind.dtype.is_float
            value = str(sizes.get(name, 1)) if whole else "1.5"
        elif isinstance(kind, RecordType):
            value = f"({kind.name}){{0}}"
        else:
            value = "0"
        passed.append(Argument(name, getattr(kind, "text", "void *"), value=value))
    return rooms, passed


def _needed(name: str, readings: Sequence[Reading]) -> tuple[int, int]:
    """Bytes before and behind where a parameter leads that the regions use."""
    before, after = 64, SPARE
    for reading in readings:
        for binding in (b for b in reading.bindings if b.variable == name):
            array = reading.program.array(binding.array)
            low = -min(0, binding.low) * math.prod(array.shape[1:]) * array.dtype.size
            before, after = max(before, low + 64), max(after, array.bytes - low + SPARE)
    return before // 64 * 64 + 64, after


def _region(text: _Text, reading: Reading, pointers: Sequence[str]) -> Region:
    items = reading.part.items
    arrays = {
        b.array: _address(b, reading.program.array(b.array), pointers) for b in reading.bindings
    }
    return Region(
        reading.program, text.moved(items[0].place.start), text.moved(items[-1].place.end - 1) + 1,
        arrays, {s.name: s.name for s in reading.program.scalars},
        tuple((name, str(value)) for name, value in reading.leaving),
    )  # fmt: skip


def _shifted(region: Region, by: int) -> Region:
    return replace(region, start=region.start + by, end=region.end + by)


def table(found: dict[str, list[Comparison]]) -> str:
    """Per suite: kernels compared, versions bit for bit and near, what differs, what was left."""
    lines = [
        "| suite | functions | versions in order | differ | re-associated | far | not compared |",
        "|---|---|---|---|---|---|---|",
    ]
    for suite, items in found.items():
        ran = [c for c in items if not c.skipped]
        kinds = (sum(c.exact for c in ran), sum(len(c.different) for c in ran))
        kinds += (sum(c.near for c in ran), sum(len(c.far) for c in ran))
        told = " | ".join(map(str, (len(ran), *kinds, len(items) - len(ran))))
        lines.append(f"| {suite} | {told} |")
    lines.append("")
    for suite, items in found.items():
        lines += [f"- {suite}, {c.name}: {c.skipped}" for c in items if c.skipped]
        lines += [f"- {suite}, {c.name}, differs: {d}" for c in items for d in c.different]
        lines += [f"- {suite}, {c.name}, far: {d}" for c in items for d in c.far]
    return "\n".join(lines) + "\n"
