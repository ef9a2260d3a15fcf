"""A compiler that is started once for many programs: labelling is mostly starting compilers.

Programs that follow each other (the versions of one, mostly) become one translation unit and one
shared object, in which the worker finds each by the name of its entry. Where a unit is refused or
takes too long, its programs are compiled one by one, so that one cannot take the others along.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace

from agent.errors import CompilerError
from agent.loopnest.emitter.emit import ENTRY
from agent.measure.cache import Cache
from agent.measure.compiler import Compiler
from agent.measure.toolchain import Built, OnBuilt

UNIT = 16  # programs of a unit
MOST_S = 20.0  # that compiling a unit may take
_DEFINED = re.compile(r"^static [^(\[=;]*?\b(\w+)\s*[(\[]", re.MULTILINE)


def unit_of(sources: Sequence[str]) -> str:
    """One translation unit; the entry of the n-th program has the suffix ``_n``."""
    return "\n".join(_renamed(source, f"_{n}") for n, source in enumerate(sources))


def _renamed(source: str, suffix: str) -> str:
    names = [ENTRY, *dict.fromkeys(_DEFINED.findall(source))]
    before = "".join(f"#define {name} {name}{suffix}\n" for name in names)
    return before + source + "".join(f"#undef {name}\n" for name in names)


class UnitCompiler(Compiler):
    """A compiler (a ``Toolchain``) that compiles programs by the unit."""

    @classmethod
    def of(cls, compiler: Compiler) -> UnitCompiler:
        """The same compiler, by the unit."""
        return cls(**{f.name: getattr(compiler, f.name) for f in fields(compiler)})

    def build(
        self, sources: Sequence[str], cache: Cache, progress: OnBuilt | None = None
    ) -> Sequence[Built]:
        """See ``Toolchain``; equal sources once."""
        unique = list(dict.fromkeys(sources))
        parts = [unique[start : start + UNIT] for start in range(0, len(unique), UNIT)]
        patient = replace(self, most_s=MOST_S)
        units = Compiler.build(patient, [unit_of(part) for part in parts], cache, progress)
        built: dict[str, Built] = {}
        for part, unit in zip(parts, units, strict=True):
            if not isinstance(unit, CompilerError):
                built |= {source: f"{unit}#{ENTRY}_{n}" for n, source in enumerate(part)}
        left = [source for source in unique if source not in built]
        if left:
            built |= zip(left, Compiler.build(self, left, cache, progress), strict=True)
        return [built[source] for source in sources]
