"""The text of a file of C, read by libclang: the typed tree of ``ctree``.

The library comes without a compiler and without headers; small ones of ours (``include/`` beside
this module) take the C library's place. What clang says about pragmas that it does not know
tells where ``#pragma scop`` stands: not in a comment, not where a condition leaves it out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.building import TOO_DEEP
from agent.loopnest.frontend.changes import changes
from agent.loopnest.frontend.ctree import CFunction, Unit, Variable
from agent.loopnest.frontend.libclang import Cursor, library
from agent.loopnest.frontend.statements import FUNCTION, STATIC, VARIABLE, StatementBuilder

INCLUDE = Path(__file__).with_name("include")
MAX_ERRORS = 20
SYSTEM = ("/usr/local/include", "/usr/include/x86_64-linux-gnu", "/usr/include")

_ERROR = 3  # and above: severities of what clang says
_SCOP = re.compile(rb"\s*(?:_Pragma\s*\(\s*\"\s*)?(end)?scop\b")


def read_unit(text: bytes, name: str, cflags: Sequence[str] = ()) -> Unit:
    """The tree of a file's text.

    Args:
        text: of the file.
        name: of the file; what it includes is looked for beside it.
        cflags: of ``flags.flags_for_clang``.

    Raises:
        SourceError: clang gave up, or the tree has too many nodes.
    """
    lib = library()
    name = f"./{name}" if name.startswith("-") else name  # it would be a flag
    with lib.unit([(name, text), *_headers().items()], _arguments(cflags)) as unit:
        if not unit:
            raise SourceError(f"{name} cannot be read as C", hint="Does a compiler take it?")
        builder = StatementBuilder(lib, unit, name)
        errors, marks = _said(builder)
        try:
            variables, functions = _declarations(builder)
        except RecursionError:  # the limits are below it, unless the caller is deep itself
            raise SourceError(f"{name}: {TOO_DEEP}") from None
    changed = (changes(functions, variables) | builder.unread) & variables.keys()
    return Unit(name, functions, variables, changed, marks, errors, text)


@functools.cache
def _headers() -> Mapping[str, bytes]:
    """Our headers by their path; read once, and before a process gives up rights."""
    found = (p for p in sorted(INCLUDE.rglob("*.h")))
    return {str(p): p.read_bytes() for p in found}


def prepare() -> None:
    """Load what reading takes, while this process may still read it."""
    library()
    _headers()


def header_names() -> frozenset[str]:
    """What ``#include <...>`` finds among our headers."""
    return frozenset(str(Path(p).relative_to(INCLUDE)) for p in _headers())


def _arguments(cflags: Sequence[str]) -> list[str]:
    quiet = ["-Wno-everything", "-Wunknown-pragmas", "-ferror-limit=0"]
    places = [word for place in (str(INCLUDE), *SYSTEM) for word in ("-isystem", place)]
    return ["-xc", "-std=gnu11", "-nostdinc", *quiet, *cflags, *places]


def _declarations(builder: StatementBuilder) -> tuple[dict[int, Variable], dict[int, CFunction]]:
    lib = builder.library
    variables: dict[int, Variable] = {}
    functions: dict[int, CFunction] = {}
    for cursor in lib.children(lib.getTranslationUnitCursor(builder.unit)):
        if cursor.kind == VARIABLE:
            variable = builder.variable(cursor)
            before = variables.get(variable.ident)
            if before is None or before.init is None:
                variables[variable.ident] = variable
        elif cursor.kind == FUNCTION and lib.isCursorDefinition(cursor):
            function = builder.function(cursor) if _wanted(builder, cursor) else None
            if function:
                functions[function.ident] = function
            else:
                builder.leave(cursor)
    return variables, functions


def _wanted(builder: StatementBuilder, cursor: Cursor) -> bool:
    """Whether a function is read: one of the file itself, or one to inline."""
    lib = builder.library
    if lib.Cursor_getStorageClass(cursor) == STATIC and lib.Cursor_isFunctionInlined(cursor):
        return True
    file = lib.spot(lib.getRangeStart(lib.getCursorExtent(cursor)))[0]
    return builder.file(file)[0] == builder.filename


def _said(builder: StatementBuilder) -> tuple[tuple[str, ...], tuple[tuple[int, bool], ...]]:
    """Errors, and lines of the pragmas scop and endscop."""
    lib = builder.library
    errors: list[str] = []
    marks: list[tuple[int, bool]] = []
    for number in range(lib.getNumDiagnostics(builder.unit)):
        said = lib.getDiagnostic(builder.unit, number)
        location = lib.getDiagnosticLocation(said)
        file, line, column, offset = lib.spot(location)
        name, text = builder.file(file)
        if lib.getDiagnosticSeverity(said) < _ERROR:
            match = _SCOP.match(text, offset)
            if match and name == builder.filename:
                marks.append((line, not match[1]))
        elif file and len(errors) < MAX_ERRORS and not lib.Location_isInSystemHeader(location):
            words = lib.text(lib.getDiagnosticSpelling(said))
            remedy = " (give its folder: --cflags '-I FOLDER')" * words.endswith("file not found")
            errors.append(f"{name}:{line}:{column}: {words}{remedy}")
        lib.disposeDiagnostic(said)
    return tuple(errors), tuple(marks)
