"""A C function and the facts that running it needs; its text with kernels in place of regions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.loopnest.program import Program


@dataclass(frozen=True)
class Field:
    """A number in memory: its C type, its least and greatest first value.

    ``member``: its name where it is a member of a structure.
    """

    type: str
    low: float = -1.0
    high: float = 1.0
    member: str = ""


@dataclass(frozen=True)
class Argument:
    """What a parameter gets, or what a global array holds.

    Attributes:
        name: that of the parameter or the global array.
        type: the C type of an element.
        elements: how many elements it points to.
        value: what is passed by value, as C; then there are no elements.
        fields: what is in an element.
        is_global: whether it is a global array and no parameter.
        is_held: whether only the value of another leads to it, which has ``@name`` for its address.
    """

    name: str
    type: str
    elements: int = 0
    value: str = ""
    fields: tuple[Field, ...] = ()
    is_global: bool = False
    is_held: bool = False

    @property
    def is_passed(self) -> bool:
        """Whether it is a parameter."""
        return not (self.is_global or self.is_held)


@dataclass(frozen=True)
class Case:
    """A file with a function to be read, and how to call it.

    Attributes:
        text: the file.
        function: the function's name.
        sizes: as for ``--size``.
        arguments: in order of the parameters, then global arrays.
        result: the C type of what it returns; empty for void.
        names: other names that the file defines.
        discrete: whether rounding may become a jump (a condition on floats, a cast to int), so that
            versions that add in another order may differ by any amount.
    """

    text: str
    function: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    arguments: tuple[Argument, ...] = ()
    result: str = ""
    names: tuple[str, ...] = ()
    discrete: bool = False

    @property
    def pointers(self) -> tuple[str, ...]:
        """The parameters that are pointers or arrays."""
        return tuple(a.name for a in self.arguments if a.elements and a.is_passed)


@dataclass(frozen=True)
class Region:
    """What was read of a function: a Program and what it stands for.

    Attributes:
        program: the region's meaning.
        start: the offset where the region begins in the file's text.
        end: the offset behind it.
        arrays: for each array of the program that is passed, a C expression for its address where
            the region begins; ``b_entry`` is what a pointer parameter ``b`` was at first.
        scalars: for each scalar of the program, a C expression for its value there.
        after: variables that are something else behind the region, and what, as C.
    """

    program: Program
    start: int
    end: int
    arrays: Mapping[str, str]
    scalars: Mapping[str, str]
    after: Sequence[tuple[str, str]] = ()


def spliced(text: str, regions: Sequence[Region], entries: Sequence[str]) -> str:
    """``text`` in which functions called ``entries`` do what the regions did."""
    for region, entry in sorted(zip(regions, entries, strict=True), key=lambda x: -x[0].start):
        text = text[: region.start] + _call(region, entry) + text[region.end :]
    return text


def _call(region: Region, entry: str) -> str:
    passed = [f"(void *)({region.arrays[a.name]})" for a in passed_arrays(region.program)]
    passed += [
        f"(void *)&({s.dtype.value}){{{region.scalars[s.name]}}}" for s in region.program.scalars
    ]
    after = "".join(f" {name} = {value};" for name, value in region.after)
    return f"{{ {entry}((void *const[]){{{', '.join(passed) or '0'}}});{after} }}"


def passed_arrays(program: Program) -> list:
    """The arrays of ``program`` that are arguments: all but constant tables."""
    return [array for array in program.arrays if not array.values]


_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_DEFINED = re.compile(r"^(?:static |void |[a-z]\w* ).*?\b(\w+)(?:\([^;\n]*$|\[.*=)", re.MULTILINE)


def renamed(text: str, names: Sequence[str], suffix: str) -> str:
    """C ``text`` in which every one of ``names`` ends in ``suffix``."""
    chosen = frozenset(names)
    return _WORD.sub(lambda m: m[0] + suffix if m[0] in chosen else m[0], text)


def defined(emitted: str) -> tuple[str, ...]:
    """The functions and tables that emitted C defines."""
    return tuple(n for n in dict.fromkeys(_DEFINED.findall(emitted)) if not n.startswith("__"))
