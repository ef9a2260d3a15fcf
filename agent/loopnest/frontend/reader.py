"""The C front end: a function with a ``#pragma scop`` region in, a Program out.

The parser is pycparser: pure Python, no libclang on the edge, C99 with line and column, and well
kept. It needs preprocessed text, see ``preprocess``. From here the way goes through ``region``
(loops and statements), ``expressions`` and ``affine`` (values, subscripts) and ``proof`` (every
access proved in bounds).

The file may come from anywhere, so everything is bounded before it is walked: bytes, nesting,
statements, sizes, memory; whatever is outside the subset becomes a SourceError that starts with
``file:line:column`` and says why.
"""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from pathlib import Path

from pycparser import c_ast
from pycparser.c_parser import CParser, ParseError

from agent.errors import SourceError
from agent.loopnest.frontend import preprocess
from agent.loopnest.frontend.affine import c_excerpt
from agent.loopnest.frontend.region import block, declared_entity, initialised
from agent.loopnest.frontend.source import (
    MAX_FILE,
    MAX_NESTING,
    MAX_SIZE,
    ArrayParameter,
    Entity,
    Environment,
    FreshNames,
    KnownSize,
    Local,
    Parameter,
    Refused,
    Region,
    Scope,
    SourceFile,
)
from agent.loopnest.program import FUNCTIONS, Node, Program, statements

MEMORY_SHARE = 0.8  # of the memory available now
_SKIPPED = re.compile(r'"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'?|[()\[\]{}]')
_PLACE = re.compile(r"(?P<place>.*?:\d+(?::\d+)?): (?P<what>.*)", re.DOTALL)
_MARKER = re.compile(r"^# (\d{1,9})[^\n]*\n", re.MULTILINE)
_EXAMPLE = "Put #pragma scop before and #pragma endscop after the loops, in the outermost block."


def load_program(
    path: Path,
    *,
    function: str | None,
    sizes: Mapping[str, int],
    cflags: Sequence[str] | None = None,
    compiler: str | None = None,
    memory_limit: int | None = None,
) -> Program:
    """The Program in the C file ``path``.

    Args:
        path: the file, at most 1 MiB.
        function: which function; None where only one has a region.
        sizes: a value for each size, 1..2**24.
        cflags: flags for the preprocessor; None: none, and no compiler needed unless the file has
            macros or headers of its own.
        compiler: the compiler for ``cc -E``; None: the first found.
        memory_limit: bytes the arrays may take; None: 80 % of the memory available now.

    Raises:
        SourceError: the file cannot be read or is outside the subset, a size is wrong, an access
            is out of bounds, or the arrays need too much memory.
        InputError: a flag does more than change how the file is read.
        CompilerError: a compiler is needed and there is none, or it refuses the file.
    """
    text = preprocess.blank_comments(_read(path))
    _check_nesting(text, str(path))
    ready = preprocess.without_preprocessor(text) if cflags is None else None
    if ready is None:
        ready = preprocess.preprocess(path, cflags or (), compiler)
        _check_nesting(ready, str(path))
    else:
        ready = _with_types(ready)
    return _program(ready, str(path), function, sizes, memory_limit)


def parse_program(
    text: str,
    filename: str,
    *,
    function: str | None,
    sizes: Mapping[str, int],
    memory_limit: int | None = None,
) -> Program:
    """The Program in ``text``, which needs no preprocessor; ``filename`` is for messages.

    Raises:
        SourceError: as load_program, and where the text needs a preprocessor.
    """
    if len(text) > MAX_FILE:
        raise SourceError(f"{filename}:1:1: the text is larger than {MAX_FILE >> 20} MiB")
    text = preprocess.blank_comments(text)
    _check_nesting(text, filename)
    ready = preprocess.without_preprocessor(text)
    if ready is None:
        raise SourceError(
            f"{filename}:1:1: it has macros or headers of its own",
            hint="Save it as a file: files go through the C preprocessor.",
        )
    return _program(_with_types(ready), filename, function, sizes, memory_limit)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path}: cannot be read: {why}", hint="Give a C file.") from error
    if len(data) > MAX_FILE:
        raise SourceError(f"{path}:1:1: the file is larger than {MAX_FILE >> 20} MiB")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise SourceError(f"{path}:{line}:1: the file is no text", hint="Give a C source file.")
    return _decoded(data).replace("\r\n", "\n")


def _decoded(data: bytes) -> str:
    """What is not UTF-8 is as good as Latin-1: beyond ASCII there are comments and strings only."""
    try:
        return data.removeprefix(BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError:
        return data.removeprefix(BOM_UTF8).decode("latin-1")


def _with_types(text: str) -> str:
    """``text`` after the types of the standard headers; its lines keep their numbers."""
    return f"{preprocess.TYPEDEFS}\n# 1\n{text}"


# --- parsing ----------------------------------------------------------------------------------


def _program(
    text: str,
    filename: str,
    function: str | None,
    sizes: Mapping[str, int],
    memory_limit: int | None,
) -> Program:
    tree = _parse(text, filename)
    typedefs = {node.name: node for node in tree.ext if isinstance(node, c_ast.Typedef)}
    source = SourceFile(filename, typedefs)
    found = _function(source, tree, function)
    scope = _parameters(source, found, sizes)
    names = FreshNames(set(FUNCTIONS) | set(scope))
    region = Region(source, names, parameters=dict(scope), missing=_missing(scope))
    _globals(scope, tree)
    body = _body(Environment(region, scope), found)
    program = Program(
        name=found.decl.name,
        arrays=tuple(region.arrays[n].array for n in scope if n in region.arrays),
        scalars=tuple(region.scalars[n] for n in scope if n in region.scalars),
        temporaries=tuple(region.temporaries),
        body=body,
    )
    _check_memory(source, found, program, memory_limit)
    return program


def _parse(text: str, filename: str) -> c_ast.FileAST:
    if "\0" in text:
        raise SourceError(f"{filename}:1:1: it is a binary file", hint="Give a C source file.")
    try:
        return CParser().parse(text, filename)
    except ParseError as error:
        match = _PLACE.fullmatch(str(error))
        end = f"{filename}:{_last_line(text)}:1"
        place, what = (match["place"], match["what"]) if match else (end, "it ends too early")
        raise SourceError(
            f"{place}: it is not C as this parser knows it: {what[:200]}",
            hint="C99 without extensions is read; give --cflags if it needs macros of its own.",
        ) from error
    except RecursionError as error:
        raise _too_deep(f"{filename}:1:1") from error


def _last_line(text: str) -> int:
    """The number of the last line, counted from the last line marker as the parser does."""
    line, end = 1, 0
    for marker in _MARKER.finditer(text):
        line, end = int(marker[1]), marker.end()
    return line + text.count("\n", end)


def _too_deep(place: str) -> SourceError:
    return SourceError(f"{place}: it is nested too deeply", hint="Split it into simpler parts.")


def _check_nesting(text: str, filename: str) -> None:
    """Refuse brackets nested beyond what a recursive parser can follow."""
    depth = 0
    for match in _SKIPPED.finditer(text):
        if match[0] in "([{":
            depth += 1
            if depth > MAX_NESTING:
                line = text.count("\n", 0, match.start()) + 1
                raise _too_deep(f"{filename}:{line}:1")
        elif match[0] in ")]}":
            depth = max(depth - 1, 0)


# --- the function -----------------------------------------------------------------------------


def _function(source: SourceFile, tree: c_ast.FileAST, name: str | None) -> c_ast.FuncDef:
    functions = [node for node in tree.ext if isinstance(node, c_ast.FuncDef)]
    marked = [f.decl.name for f in functions if _marks(f)]
    listed = ", ".join(marked[:10]) or "none"
    if name is not None:
        chosen = [f for f in functions if f.decl.name == name]
        if not chosen:
            raise SourceError(
                f"{source.filename}:1:1: there is no function {name!r}",
                hint=f"Functions with a region: {listed}.",
            )
        if name not in marked:
            raise source.error(
                chosen[0].decl, f"the function {name!r} has no #pragma scop", hint=_EXAMPLE
            )
        return chosen[0]
    if len(marked) != 1:
        if marked:
            raise SourceError(
                f"{source.filename}:1:1: several functions have a region: {listed}",
                hint=f"Choose one with --function, for example --function {marked[0]}.",
            )
        raise SourceError(
            f"{source.filename}:1:1: no function has a #pragma scop region", hint=_EXAMPLE
        )
    return next(f for f in functions if f.decl.name == marked[0])


def _marks(function: c_ast.FuncDef) -> list[int]:
    """The positions of scop and endscop pragmas in the outermost block."""
    items = function.body.block_items or []
    return [n for n, item in enumerate(items) if isinstance(item, c_ast.Pragma)]


def _parameters(source: SourceFile, function: c_ast.FuncDef, sizes: Mapping[str, int]) -> Scope:
    listed = function.decl.type.args
    scope: Scope = {}
    for node in listed.params if listed else ():
        if isinstance(node, c_ast.Decl) and node.name:
            if node.name in FUNCTIONS or "$" in node.name:
                raise source.error(
                    node,
                    f"a parameter may not be called {node.name!r}",
                    hint="It is the name of a function of the C library."
                    if node.name in FUNCTIONS
                    else "Use letters, digits and underscores.",
                )
            scope[node.name] = _parameter(source, node)
    _set_sizes(source, function, scope, sizes)
    return scope


def _parameter(source: SourceFile, node: c_ast.Decl) -> Entity:
    dims: list[c_ast.Node | None] = []
    inner = node.type
    while isinstance(inner, c_ast.ArrayDecl):
        dims.append(inner.dim)
        inner = inner.type
    kind = source.scalar_type(inner, tuple(node.quals or ()))
    if kind is None:
        if isinstance(inner, c_ast.PtrDecl):
            return Refused("it is a pointer; declare it with its sizes, for example A[n][m]")
        return Refused(f"its type `{c_excerpt(inner)}` is not supported")
    if dims:
        return ArrayParameter(node.name, kind, tuple(dims), node)
    return Parameter(node.name, kind)


def _set_sizes(
    source: SourceFile, function: c_ast.FuncDef, scope: Scope, sizes: Mapping[str, int]
) -> None:
    known = [n for n, e in scope.items() if isinstance(e, Parameter) and e.type.integer]
    place = source.position(function.decl)
    for name, value in sizes.items():
        if name not in known:
            raise SourceError(
                f"{place}: {function.decl.name!r} has no size {name!r}",
                hint="Its sizes: " + (", ".join(known) or "none (no int parameters)") + ".",
            )
        if not 1 <= value <= MAX_SIZE:
            raise SourceError(
                f"{place}: the size {name} = {value} is outside 1..{MAX_SIZE}",
                hint="Give a size in this range.",
            )
        scope[name] = KnownSize(value)


def _missing(scope: Scope) -> tuple[str, ...]:
    """Sizes without a value that the arrays' shapes use, in order."""
    used: set[str] = set()
    for entity in scope.values():
        if isinstance(entity, ArrayParameter):
            for dim in entity.dims:
                used |= _identifiers(dim)
    return tuple(n for n, e in scope.items() if isinstance(e, Parameter) and n in used)


def _identifiers(node: c_ast.Node | None) -> set[str]:
    pending, found = [node], set[str]()
    while pending:
        part = pending.pop()
        if isinstance(part, c_ast.ID):
            found.add(part.name)
        elif part is not None:
            pending += [child for _, child in part.children()]
    return found


def _globals(scope: Scope, tree: c_ast.FileAST) -> None:
    """Global variables are known by name only, so that a message can say what is wrong."""
    for node in tree.ext:
        if isinstance(node, c_ast.Decl) and node.name and not isinstance(node.type, c_ast.FuncDecl):
            scope.setdefault(node.name, Refused("it is global; make it a parameter"))


# --- the region -------------------------------------------------------------------------------


def _body(env: Environment, function: c_ast.FuncDef) -> tuple[Node, ...]:
    begin, end = _delimit(env, function)
    items = function.body.block_items
    inside = items[begin + 1 : end]
    before, nodes = _before(env, items[:begin], inside), block(env, inside)
    if env.region.statements == 0:
        raise env.error(items[begin], "the region has no statements")
    _check_live_out(env, nodes, items[end + 1 :])
    return (*before, *nodes)


def _check_live_out(env: Environment, nodes: list[Node], after: Sequence[c_ast.Node]) -> None:
    """Results leave the region in arrays only: a variable's value ends with it."""
    written = {statement.target.array for _, statement in statements(tuple(nodes))}
    for item in after:
        for name in sorted(_identifiers(item)):
            entity = env.scope.get(name)
            if isinstance(entity, Local) and entity.temporary in written:
                raise env.error(
                    item,
                    f"{name!r} is computed in the region and used after it",
                    hint="Store the result in an array parameter, if need be of one element.",
                )


def _delimit(env: Environment, function: c_ast.FuncDef) -> tuple[int, int]:
    marks = _marks(function)
    items = function.body.block_items
    words = [str(items[n].string).strip() for n in marks]
    if words == ["scop", "endscop"]:
        return marks[0], marks[1]
    if words[0] == "endscop":
        raise env.error(items[marks[0]], "#pragma endscop without #pragma scop", hint=_EXAMPLE)
    if words[1:2] != ["endscop"]:
        raise env.error(items[marks[0]], "#pragma endscop is missing", hint=_EXAMPLE)
    raise env.error(
        items[marks[2]], "the function has a second region", hint="Give it a function of its own."
    )


def _before(
    env: Environment, items: Sequence[c_ast.Node], inside: Sequence[c_ast.Node]
) -> list[Node]:
    """Declarations before the region; initialisers of the data used inside start the Program."""
    nodes: list[Node] = []
    pure = all(isinstance(item, c_ast.Decl | c_ast.EmptyStatement) for item in items)
    used = set[str]().union(*map(_identifiers, inside)) - _counters(inside)
    for item in items:
        if isinstance(item, c_ast.Decl) and item.name:
            entity = declared_entity(env, item)
            if isinstance(entity, Local) and entity.init is not None and item.name in used:
                if pure:
                    nodes += initialised(env, item, entity)
                else:
                    entity = Refused("statements before the region may change its value")
            env.scope[item.name] = entity
    return nodes


def _counters(inside: Sequence[c_ast.Node]) -> set[str]:
    """Variables that are iterators of loops inside the region."""
    pending, found = list(inside), set[str]()
    while pending:
        part = pending.pop()
        if isinstance(part, c_ast.For) and isinstance(part.init, c_ast.Assignment):
            found |= _identifiers(part.init.lvalue)
        pending += [child for _, child in part.children()]
    return found


def _available() -> int:
    """Bytes of memory that are free; all there are where that is not told."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (OSError, ValueError, RuntimeError):  # no /proc/meminfo
        return os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_memory(
    source: SourceFile, function: c_ast.FuncDef, program: Program, limit: int | None
) -> None:
    if limit is None:
        limit = int(_available() * MEMORY_SHARE)
    if program.bytes > limit:
        raise source.error(
            function.decl,
            f"the arrays need {program.bytes / 2**20:,.0f} MiB, and {limit / 2**20:,.0f} MiB may "
            "be used",
            hint="Give smaller sizes with --size.",
        )
