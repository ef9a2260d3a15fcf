"""A tuned version of a region in the person's own file, so that the file can be used as it is.

    static void gemm_tuned_1(...) { ... }       /* before the function: what the emitter writes */

    if (ni == 512 && gemm_tuned_1_apart(...)) {  /* in place of the region */
        gemm_tuned_1((void *)C, ...);
    } else {
    ...                                          /* the region, byte for byte */
    }

The tuned version knows its sizes, that its arrays do not overlap, and what ``long``, ``char`` and
structures are where it was made; the condition says just that, so every other call runs the loops
as they were. Nothing else of the file changes.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from agent import __version__
from agent.errors import SourceError
from agent.loopnest.emitter.accumulate import written
from agent.loopnest.emitter.emit import KernelText, emit_kernel
from agent.loopnest.emitter.identifiers import KEYWORDS
from agent.loopnest.frontend.ctree import (
    ArrayType,
    CFunction,
    CStatement,
    DeclareS,
    Name,
    PointerType,
    RecordType,
    ScalarType,
    Unit,
    Variable,
    parts,
    walk,
)
from agent.loopnest.lowering.lower import Binding, Reading, used_after
from agent.loopnest.lowering.uses import assigned, called
from agent.loopnest.program import FUNCTIONS, Program

WIDTH = 100
_INDENT = "    "
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_NAMED = re.compile(r"(struct )?\w+")
_MACRO = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
_TYPE = re.compile(r"\bu?int\d+_t\b|\buintptr_t\b")
_PRAGMA = re.compile(rb"[ \t]*#[ \t]*pragma\b(?![ \t]*(?:end)?scop\b)")
_BEFORE_FUNCTION = re.compile(rb"[ \t]*(?://|#[ \t]*pragma[ \t]+omp\b)")
_QUIET = """#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#ifdef __clang__
#pragma clang diagnostic ignored "-Wsource-uses-openmp"
#pragma clang diagnostic ignored "-Wpass-failed"
#endif"""
_LOUD = "#pragma GCC diagnostic pop"
# Of a loop that a thread runs clang tells so without a place: then what holds at the end counts.
_QUIET_TO_THE_END = """
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"
#endif"""
_APART = """static inline int {name}(
    const void *a, uintptr_t a_bytes, const void *b, uintptr_t b_bytes)
{{
    return (uintptr_t)a + a_bytes <= (uintptr_t)b || (uintptr_t)b + b_bytes <= (uintptr_t)a;
}}"""


@dataclass(frozen=True)
class SourceRegion:
    """A file, the region of it that was read, and for which sizes.

    Attributes:
        text: the file's bytes, as ``unit`` was read from.
        unit: its tree.
        reading: the region.
        sizes: a value for each size that is known.
    """

    text: bytes
    unit: Unit
    reading: Reading
    sizes: Mapping[str, int]

    @cached_property
    def function(self) -> CFunction:
        """The function that the region is in."""
        mine = (f for f in self.unit.functions.values() if f.place.file == self.unit.file)
        return next(f for f in mine if f.name == self.reading.function)

    @cached_property
    def earlier(self) -> tuple[CStatement, ...]:
        """What may run in the function before the region begins."""
        return (*self.reading.part.before, *self.reading.part.around)


@dataclass(frozen=True)
class Origin:
    """What the comment says of a tuned version.

    Attributes:
        schedule: how it was made.
        date: when, as YYYY-MM-DD.
        facts: more sentences: compiler, machine, speed-up.
    """

    schedule: str
    date: str
    facts: tuple[str, ...] = ()


def spliced(source: SourceRegion, variant: Program, origin: Origin) -> bytes:
    """The file with ``variant`` in place of the region, for the sizes it was made for.

    Raises:
        SourceError: the region cannot be replaced where it stands.
        ScheduleError: as ``emit``.
    """
    _refuse(source)
    prefix = _free_prefix(source)
    start, end = _span(source)
    body = source.function.body.place.start + 1
    edits = [
        (_anchor(source), "".join(_definitions(source, variant, origin, prefix))),
        (body, _copies(source, prefix)),
        (start, _opening(source, prefix, start)),
        (end, _closing(source, start)),
    ]
    text, newline = source.text, b"\r\n" if b"\r\n" in source.text else b"\n"
    for at, added in reversed(edits):
        new = added.encode("utf-8", "surrogateescape").replace(b"\n", newline)
        text = text[:at] + new + text[at:]
    return text


def _refuse(source: SourceRegion) -> None:
    part = source.reading.part
    for item in part.items:
        if item.place.file != source.unit.file:
            raise SourceError(
                f"{item.place}: the loops stand in another file than the function's",
                "Give the file that holds them.",
            )
    after = used_after(source.function, part)
    lost: list[Name | Variable] = []
    for item in part.items:
        lost += item.variables if isinstance(item, DeclareS) else ()
        lost += [n for n in assigned(item) if isinstance(n.type, PointerType | ArrayType)]
    for found in lost:
        if found.ident in after:
            raise SourceError(
                f"{found.place}: {found.name!r} is used after the loops, and the version in "
                "their place cannot give it its value",
                "Declare and set it outside the loops.",
            )


def _free_prefix(source: SourceRegion) -> str:
    for number in itertools.count(1):
        prefix = f"{source.reading.function}_tuned_{number}"
        if prefix.encode() not in source.text:
            return prefix
    raise AssertionError


# --- before the function ----------------------------------------------------------------------


def _anchor(source: SourceRegion) -> int:
    """Where the line of the function begins, with a comment and pragmas of OpenMP before it."""
    text = source.text
    at = _line_start(text, source.function.place.start)
    while at:
        line = text[_line_start(text, at - 1) : at].rstrip()
        if _BEFORE_FUNCTION.match(line):
            at = _line_start(text, at - 1)
        elif line.endswith(b"*/") and (opened := text.rfind(b"/*", 0, at)) >= 0:
            begins = _line_start(text, opened)
            if text[begins:opened].strip() or b"*/" in text[opened : at - 1].rstrip()[:-2]:
                break
            at = begins
        else:
            break
    return at


def _line_start(text: bytes, at: int) -> int:
    return text.rfind(b"\n", 0, at) + 1


def _definitions(
    source: SourceRegion, variant: Program, origin: Origin, prefix: str
) -> Iterator[str]:
    kernel = emit_kernel(variant)
    pieces = [_renamed(text, _names(source, kernel, prefix)) for text in kernel.definitions]
    if _pairs(source):
        pieces.insert(0, _APART.format(name=f"{prefix}_apart"))
    yield _comment(source, origin)
    headers = [h for h in kernel.headers if _needs(h, pieces)]
    yield "".join(f"#include <{header}.h>\n" for header in headers) + "\n" * bool(headers)
    text = "\n\n".join(pieces)
    loud = _LOUD + _QUIET_TO_THE_END * ("omp parallel" in text and "simd" in text)
    yield f"{_QUIET}\n\n{text}\n\n{loud}\n\n" if "#pragma" in text else f"{text}\n\n"


def _needs(header: str, pieces: Sequence[str]) -> bool:
    """A header that the file can do without may be at odds with names of its own."""
    text = "\n".join(pieces)
    if header == "stdint":
        return _TYPE.search(text) is not None
    return header != "math" or not FUNCTIONS.keys().isdisjoint(_WORD.findall(text))


def _names(source: SourceRegion, kernel: KernelText, prefix: str) -> dict[str, str]:
    """New names for what the kernel defines, and for what is a macro in the file."""
    macros = {m.decode("ascii", "replace") for m in _MACRO.findall(source.text)}
    macros -= KEYWORDS | FUNCTIONS.keys()
    found = {name: f"{name}_{prefix}" for name in macros if not _TYPE.fullmatch(name)}
    found |= {name: f"{prefix}_{name}" for name in kernel.defined}
    return {**found, kernel.name: prefix}


def _renamed(text: str, names: Mapping[str, str]) -> str:
    return _WORD.sub(lambda m: names.get(m[0], m[0]), text)


def _comment(source: SourceRegion, origin: Origin) -> str:
    part = source.reading.part
    sizes = ", ".join(f"{name} = {value}" for name, value in source.sizes.items())
    lines = [
        f"Lines {part.first_line} to {part.last_line} of {source.reading.function}, "
        f"as calibration agent {__version__} wrote them on {origin.date}.",
        f"Schedule: {origin.schedule}",
        f"Sizes: {sizes or 'as in the text'}",
        *origin.facts,
        "Calls with other sizes, or with arrays that overlap, run the loops as they were.",
    ]
    safe = (line.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ") for line in lines)
    wrapped = [w for line in safe for w in textwrap.wrap(line, WIDTH - 3, subsequent_indent="  ")]
    return "/* " + "\n * ".join(wrapped) + "\n */\n"


# --- in place of the region -------------------------------------------------------------------


def _span(source: SourceRegion) -> tuple[int, int]:
    """Where the region begins, pragmas for its first loop included, and where it ends."""
    text, items = source.text, source.reading.part.items
    start, end = items[0].place.start, items[-1].place.end
    end += len(re.match(rb"(?:\s*;)?", text[end:])[0])  # type: ignore[index]  # matches always
    line = _line_start(text, start)
    while line and not text[line:start].strip():
        above = _line_start(text, line - 1)
        while above and text[:above].rstrip(b"\r\n").endswith(b"\\"):
            above = _line_start(text, above - 1)
        if not _PRAGMA.match(text[above:line]):
            break
        line = start = above
    return start, end


def _indent(source: SourceRegion, start: int) -> str:
    line = source.text[_line_start(source.text, start) :]
    return re.match(rb"[ \t]*", line)[0].decode()  # type: ignore[index]  # matches always


def _alone(source: SourceRegion) -> bool:
    """Whether the region is the only statement of an ``if`` or a loop around it."""
    part = source.reading.part
    around = part.around[-1:]
    return any(x is part.items[0] for held in around for x in parts(held))


def _opening(source: SourceRegion, prefix: str, start: int) -> str:
    indent = _indent(source, start)
    inner = indent + _INDENT
    call = f"{prefix}({', '.join(_passed(source, prefix))});"
    lines = ["{"] * _alone(source)
    lines += [f"{indent}if ({_condition(source, prefix, inner)}) {{"]
    lines += [f"{inner}{text}" for text in _locals(source, prefix)]
    lines += _wrapped(call, inner)
    lines += [f"{inner}{name} = {value};" for name, value in source.reading.leaving]
    lines += [f"{indent}}} else {{", ""]
    text = "\n".join(lines)
    return text if _at_line_start(source, start) else text.removeprefix(indent) + indent


def _at_line_start(source: SourceRegion, start: int) -> bool:
    return start == _line_start(source.text, start)


def _closing(source: SourceRegion, start: int) -> str:
    return f"\n{_indent(source, start)}}}" + " }" * _alone(source)


def _wrapped(call: str, indent: str) -> list[str]:
    hanging = indent + _INDENT
    return textwrap.wrap(
        call, WIDTH, initial_indent=indent, subsequent_indent=hanging, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _locals(source: SourceRegion, prefix: str) -> Iterator[str]:
    """Declarations of the arrays that the region has for itself."""
    for binding in source.reading.bindings:
        if binding.is_local:
            array = source.reading.program.array(binding.array)
            yield f"{array.dtype.value} {prefix}_{binding.array}[{array.elements}];"


def _condition(source: SourceRegion, prefix: str, inner: str) -> str:
    """That the sizes are those of the version, and that what it writes overlaps nothing."""
    sizes = [f"{n} == {v}" for n, v in source.sizes.items() if n not in _unsteady(source)]
    sizes += [f"{prefix}_fits"] if _unsteady(source) else []
    sizes += _layout(source)
    arrays = []
    for pair in _pairs(source):
        places = (word for binding in pair for word in _memory(source, binding, prefix))
        arrays.append(f"{prefix}_apart({', '.join(places)})")
    return f" &&\n{inner}".join([" && ".join(sizes)] * bool(sizes) + arrays) or "1"


def _layout(source: SourceRegion) -> list[str]:
    """What the version takes for granted of types that differ from machine to machine."""
    found: dict[str, None] = {}
    items = [*source.reading.part.items, *called(source.unit, source.reading.part.items)]
    for node in (x for item in items for x in walk(item)):
        kind = getattr(node, "type", None)
        while isinstance(kind, PointerType | ArrayType):
            kind = kind.to if isinstance(kind, PointerType) else kind.element
        if isinstance(kind, ScalarType) and kind.text in ("long", "unsigned long") and kind.dtype:
            found[f"sizeof(long) == {kind.dtype.size}"] = None
        elif isinstance(kind, ScalarType) and kind.text == "char" and kind.dtype:
            found[f"(char)-1 {'==' if kind.dtype.is_signed else '!='} -1"] = None
        elif isinstance(kind, RecordType) and _NAMED.fullmatch(kind.name):
            found[f"sizeof({kind.name}) == {kind.size}"] = None
    return list(found)


def _passed(source: SourceRegion, prefix: str) -> list[str]:
    pointers = (_pointer(source, b, prefix) for b in source.reading.bindings)
    arrays = [f"(void *){f'({p})' if ' ' in p else p}" for p in pointers]
    return [*arrays, *(s.name for s in source.reading.program.scalars)]


def _memory(source: SourceRegion, binding: Binding, prefix: str) -> tuple[str, str]:
    size = source.reading.program.array(binding.array).bytes
    return _pointer(source, binding, prefix), str(size)


def _pointer(source: SourceRegion, binding: Binding, prefix: str) -> str:
    """C of a pointer to an array's first element."""
    text, name = binding.expression, binding.variable
    if binding.is_local:
        return f"{prefix}_{binding.array}"
    if name in _moved_pointers(source):
        text = text.removesuffix(name) + f"{prefix}_{name}"
    row = math.prod(source.reading.program.array(binding.array).shape[1:])
    low = binding.low * row
    return f"{text} {'-' if low < 0 else '+'} {abs(low)}" if low else text


def _pairs(source: SourceRegion) -> list[tuple[Binding, Binding]]:
    """Arrays that must not overlap: of two variables, and the region writes one of them."""
    changed = written(source.reading.program.body)
    return [
        (one, two)
        for one, two in itertools.combinations(source.reading.bindings, 2)
        if {one.array, two.array} & changed and one.variable != two.variable
        if not one.is_local and not two.is_local
    ]


# --- what is known where the function begins --------------------------------------------------


def _unsteady(source: SourceRegion) -> list[str]:
    """Sizes that may have another value where the region begins than where the function does."""
    early = {n.name for item in source.earlier for n in assigned(item)}
    early |= {
        v.name
        for item in source.earlier
        for x in walk(item)
        if isinstance(x, DeclareS)
        for v in x.variables
    }
    return [name for name in source.sizes if name in early]


def _moved_pointers(source: SourceRegion) -> set[str]:
    """Parameters that lead elsewhere where the region begins."""
    own = {p.ident for p in source.function.parameters}
    moved: list[Name] = [n for item in source.earlier for n in assigned(item)]
    return {n.name for n in moved if n.ident in own and isinstance(n.type, PointerType | ArrayType)}


def _copies(source: SourceRegion, prefix: str) -> str:
    """Declarations that keep what the function changes before the region."""
    unsteady = _unsteady(source)
    bound = {b.variable for b in source.reading.bindings}
    lines = [
        f"__typeof__({name}) {prefix}_{name} = {name};"
        for name in sorted(_moved_pointers(source) & bound)
    ]
    if unsteady:
        told = " && ".join(f"{name} == {source.sizes[name]}" for name in unsteady)
        lines.append(f"const int {prefix}_fits = {told};")
    return "".join(f"\n{_INDENT}{line}" for line in lines)
