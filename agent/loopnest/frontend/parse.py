"""A file of C, read by libclang: the typed tree of ``ctree``.

The library comes without a compiler and without headers; small ones of ours (``include/`` beside
this module) take the C library's place. What clang says about pragmas that it does not know
tells where ``#pragma scop`` stands: not in a comment, not where a condition leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.changes import changes
from agent.loopnest.frontend.ctree import CFunction, Unit, Variable
from agent.loopnest.frontend.libclang import Cursor, library
from agent.loopnest.frontend.preprocess import INCLUDE, check_flags
from agent.loopnest.frontend.statements import FUNCTION, STATIC, VARIABLE, StatementBuilder

MAX_FILE = 1 << 20  # bytes
MAX_ERRORS = 20
SYSTEM = ("/usr/local/include", "/usr/include/x86_64-linux-gnu", "/usr/include")

_ERROR = 3  # and above: severities of what clang says
_SCOP = re.compile(rb"\s*(?:_Pragma\s*\(\s*\"\s*)?(end)?scop\b")


def parse(path: Path, cflags: Sequence[str] = (), compiler: str | None = None) -> Unit:
    """The tree of the file at ``path``.

    Args:
        path: a C file.
        cflags: flags that change how a file is read: -D, -I, -std=, ...
        compiler: the compiler whose flags (``gcc -m32``) count as well.

    Raises:
        InputError: a flag does more than change how the file is read.
        SourceError: it cannot be read, or it is too large.
    """
    check_flags(cflags)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return _read(text, str(path), (*(compiler or "").split()[1:], *cflags))


def parse_text(text: str, filename: str) -> Unit:
    """The tree of a text."""
    return _read(text.encode(), filename, ())


def _read(text: bytes, name: str, cflags: Sequence[str]) -> Unit:
    if len(text) > MAX_FILE:
        raise SourceError(f"{name} is larger than {MAX_FILE >> 20} MiB")
    lib = library()
    with lib.unit(name, text, _arguments(cflags)) as unit:
        if not unit:
            raise SourceError(f"{name} cannot be read as C")
        builder = StatementBuilder(lib, unit, name)
        errors, marks = _said(builder)
        variables, functions = _declarations(builder)
    changed = (changes(functions, variables) | builder.unread) & variables.keys()
    return Unit(name, functions, variables, changed, marks, errors)


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
        elif cursor.kind == FUNCTION:
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
        elif len(errors) < MAX_ERRORS and not lib.Location_isInSystemHeader(location):
            words = lib.text(lib.getDiagnosticSpelling(said))
            remedy = " (give its folder: --cflags '-I FOLDER')" * words.endswith("file not found")
            errors.append(f"{name}:{line}:{column}: {words}{remedy}")
        lib.disposeDiagnostic(said)
    return tuple(errors), tuple(marks)
