"""Heads of the functions of emitted C: parameters, prototypes, and what a body needs passed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from agent.loopnest.program import Array

WIDTH = 100
_IDENTIFIER = re.compile(r"(?<![\w.])[A-Za-z_]\w*")  # not the letters of 1e5, 2.f, 0x1p3


def array_parameter(array: Array, name: str, *, changed: bool) -> str:
    """``array`` as a ``restrict`` parameter; ``const`` elements where it is not ``changed``."""
    element = array.dtype.value if changed else f"const {array.dtype.value}"
    if len(array.shape) == 1:
        return f"{element} *restrict {name}"
    return f"{element} (*restrict {name})" + "".join(f"[{n}]" for n in array.shape[1:])


def sized_parameter(array: Array, name: str, *, changed: bool) -> str:
    """The same with all extents written, for those who read it."""
    element = array.dtype.value if changed else f"const {array.dtype.value}"
    first, *others = array.shape
    return f"{element} {name}[restrict {first}]" + "".join(f"[{n}]" for n in others)


def table(array: Array, name: str) -> str:
    """The constant table ``array`` with its elements."""

    def braced(shape: Sequence[int], values: Sequence[str]) -> str:
        if len(shape) > 1:
            size = len(values) // shape[0]
            rows = [values[n : n + size] for n in range(0, len(values), size)]
            return "{" + ", ".join(braced(shape[1:], row) for row in rows) + "}"
        return "{" + ", ".join(values) + "}"

    extents = "".join(f"[{n}]" for n in array.shape)
    elements = braced(array.shape, array.values)
    text = f"static const {array.dtype.value} {name}{extents} = {elements};"
    return textwrap.fill(text, WIDTH, subsequent_indent="    ", break_long_words=False)


def prototype(head: str, parameters: Sequence[str]) -> str:
    """``head(parameters)``, one parameter a line where one line is too short for all."""
    line = f"{head}({', '.join(parameters) or 'void'})"
    if len(line) <= WIDTH:
        return line
    return f"{head}(\n    " + ",\n    ".join(parameters) + ")"


def identifiers(lines: Iterable[str]) -> frozenset[str]:
    """Every identifier, keywords included, in lines of C."""
    return frozenset(name for line in lines for name in _IDENTIFIER.findall(line))
