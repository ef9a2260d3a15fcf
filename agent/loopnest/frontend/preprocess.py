"""From the text of a C file to text a parser without a preprocessor reads.

Most kernels need no compiler for it: comments are blanked out (line and column of what remains
do not move), includes of standard headers and foreign pragmas too. A file with macros,
conditions or headers of its own goes through ``cc -E``, with small headers of ours in place of
the C library's (``include/`` beside this module), which no pure C99 parser could read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from agent.errors import CompilerError, SourceError
from agent.loopnest.frontend.flags import check_flags
from agent.system.child import ChildLimits, ChildRun, find_command, other_owner, run_child

INCLUDE = Path(__file__).with_name("include")
KNOWN_HEADERS = frozenset("math.h stdint.h stddef.h stdlib.h stdio.h string.h".split())
TYPEDEFS = " ".join(
    [f"typedef int {u}int{bits}_t;" for u in ("", "u") for bits in (8, 16, 32, 64)]
    + ["typedef unsigned long size_t;", "typedef long ptrdiff_t;", "typedef struct FILE_ FILE;"]
)
COMPILERS = ("gcc", "cc", "clang")
TIME_LIMIT = 20.0  # seconds
MAX_OUTPUT = 4 << 20  # bytes
MEMORY = 1 << 30  # bytes of address space; gcc 12 takes 40 MiB, clang 19 250 (its library)
GNU = ("__attribute__(x)", "__extension__", "__asm__(x)", "__inline", "__volatile__")

_HINT = (
    "Give include paths and macros with --cflags, for example --cflags '-I. -DN=64'. It may use "
    f"{MEMORY >> 20} MiB of memory, and for root it has the rights of the file's owner only."
)
_TOKEN = re.compile(
    r"""(?P<comment>/\*.*?(?:\*/|\Z)|//(?:\\\r?\n|[^\n])*)"""
    r"""|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?""",  # never fails late: linear time
    re.DOTALL,
)
_DIRECTIVE = re.compile(r"^[ \t\f\v]*\#[ \t]*(?P<word>\w*)(?P<rest>[^\n]*)$", re.MULTILINE)
_HEADER = re.compile(r"\s*<([^<>]*)>\s*")
_SCOP = re.compile(r"\s*(end)?scop\s*")
_NOT_BLANK = re.compile(r"[^\n]")


def blank_comments(text: str) -> str:
    """``text`` with every comment replaced by as many blanks; strings and characters stay."""

    def blank(match: re.Match[str]) -> str:
        return _NOT_BLANK.sub(" ", match[0]) if match["comment"] else match[0]

    return _TOKEN.sub(blank, text)


def without_preprocessor(text: str) -> str | None:
    """``text`` ready to parse where no compiler is needed for it, else None.

    Comments must be blanked out already. Pragmas other than scop and endscop say nothing about
    the meaning of the program and are blanked out.
    """
    if "\\\n" in text:
        return None
    parts: list[str] = []
    done = 0
    for match in _DIRECTIVE.finditer(text):
        kept = _directive(match)
        if kept is None:
            return None
        parts += [text[done : match.start()], kept]
        done = match.end()
    return "".join([*parts, text[done:]])


def _directive(match: re.Match[str]) -> str | None:
    """What stays of a directive's line; None where the directive needs a preprocessor."""
    if match["word"] == "pragma":
        return match[0] if _SCOP.fullmatch(match["rest"]) else ""
    header = _HEADER.fullmatch(match["rest"])
    known = match["word"] == "include" and header is not None and header[1] in KNOWN_HEADERS
    return "" if known or not (match["word"] or match["rest"].strip()) else None


def keep_scop(text: str) -> str:
    """``text`` (already preprocessed) without the pragmas that are not scop or endscop."""

    def kept(match: re.Match[str]) -> str:
        foreign = match["word"] == "pragma" and not _SCOP.fullmatch(match["rest"])
        return "" if foreign else match[0]

    return _DIRECTIVE.sub(kept, text)


def preprocessor(compiler: str | None) -> tuple[str, ...]:
    """The command ``compiler``, or the first of COMPILERS on PATH; its path first.

    Raises:
        CompilerError: there is none.
    """
    for name in (compiler,) if compiler else COMPILERS:
        if found := find_command(name):
            return found
    raise CompilerError(
        f"the C compiler {compiler!r} was not found"
        if compiler
        else "no C compiler was found, and macros or headers need its preprocessor",
        hint="Install one (for example: apt install gcc), or write the function without macros "
        "and headers of its own.",
    )


def preprocess(path: Path, cflags: Sequence[str], compiler: str | None) -> str:
    """What ``cc -E`` makes of ``path``; pragmas and line markers are in it.

    Raises:
        InputError: a flag does more than change how the file is read.
        CompilerError: there is no compiler, or it refuses the file (its words are given), or it
            takes too long.
        SourceError: the result is longer than MAX_OUTPUT.
    """
    check_flags(cflags)
    defines = [f"-D{name}=" for name in GNU] + ["-D__restrict=restrict", "-D__restrict__=restrict"]
    own = ["-nostdinc", "-isystem", str(INCLUDE), *defines]
    # An absolute path: a file called "-x.c" is no flag. Markers keep the name people gave.
    command = [*preprocessor(compiler), "-E", "-std=c99", *own, *cflags, str(path.absolute())]
    run = _run(path, command)
    if len(run.output) > MAX_OUTPUT:
        raise SourceError(
            f"{path}:1:1: the preprocessed file is larger than {MAX_OUTPUT >> 20} MiB",
            hint="Put the kernel into a file of its own.",
        )
    if run.status is None:
        raise CompilerError(
            f"{path}: the preprocessor took longer than {TIME_LIMIT:g} s",
            hint="Check what the file includes.",
        )
    if run.status != 0:
        raise CompilerError(f"{path}: the preprocessor failed:\n{run.words}", hint=_HINT)
    text = os.fsdecode(run.output)  # as names of files are: the markers hold this file's
    return keep_scop(text).replace(f'"{path.absolute()}"', f'"{path}"')


def _run(path: Path, command: Sequence[str]) -> ChildRun:
    """The preprocessor at work on somebody's file, for root with no more rights than they have."""
    limits = ChildLimits(TIME_LIMIT, MEMORY, MAX_OUTPUT, MAX_OUTPUT)
    try:
        return run_child(command, limits, user=other_owner(path))
    except OSError as error:
        raise CompilerError(f"{command[0]} cannot be started: {error.strerror}") from error
