"""Identifiers of emitted C: the program's own names, moved out of the way of C's."""

from __future__ import annotations

import re
from collections.abc import Container

from agent.loopnest.emitter import dividing, streaming, transposing
from agent.loopnest.program import FUNCTIONS

KEYWORDS = frozenset(
    """alignas alignof asm auto bool break case char const constexpr continue default do double
    else enum extern false float for goto if inline int long nullptr register restrict return
    short signed sizeof static static_assert struct switch thread_local true typedef typeof
    typeof_unqual union unsigned void volatile while""".split()
)
# Object-like macros that compilers predefine outside the reserved name space (gnu modes).
MACROS = frozenset(
    "arm hpux i386 linux math_errhandling mips powerpc ppc sgi sparc sun unix vax".split()
)
OURS = frozenset("args ceild floord kernel loopnest_run max2 min2".split())
OURS |= transposing.NAMES | streaming.HELPERS.keys() | dividing.HELPERS.keys()
_TYPE = re.compile(r"u?int\w*_t|float_t|double_t|size_t|ptrdiff_t|wchar_t")
_MACRO_LIKE = re.compile(r"[A-Z][A-Z0-9_]{2,}")  # INFINITY, M_PI, INT8_MAX and their kind


def is_safe(name: str) -> bool:
    """Whether ``name`` can be a local identifier whatever <math.h> and <stdint.h> define."""
    return (
        name.isascii()
        and name.isidentifier()
        and not name.startswith("_")
        and name not in KEYWORDS | MACROS | OURS
        and name not in FUNCTIONS
        and not _TYPE.fullmatch(name)
        and not _MACRO_LIKE.fullmatch(name)
    )


class Identifiers:
    """Hands out identifiers: safe, and different for different keys."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def add(self, key: str) -> str:
        """The identifier for the program's name ``key``, as close to it as is safe."""
        if key not in self._given:
            self._given[key] = self.fresh(key)
        return self._given[key]

    def __getitem__(self, key: str) -> str:
        return self._given[key]

    def apart(self, wanted: str, taken: Container[str]) -> str:
        """An identifier like ``wanted`` for a block in which ``taken`` are in use."""
        base = wanted if is_safe(wanted) else f"{wanted}_"
        name, number = base, 1
        while name in self._taken or name in taken:
            number += 1
            name = f"{base}_{number}"
        return name

    def fresh(self, wanted: str) -> str:
        """A new identifier like ``wanted``."""
        base = re.sub(r"[^A-Za-z0-9_]", "_", wanted).lstrip("_") or "x"
        base = f"x{base}" if base[0].isdigit() else base
        base = base if is_safe(base) else f"{base}_"
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base.rstrip('_')}_{number}"
        self._taken.add(name)
        return name
