"""A file of C in, its typed tree out; whatever the file may be.

Most kernels are read in this process, in some milliseconds. What a small text can make large
(macros, files that it includes, constants to be computed) or deep is read by a child within
limits: clang may crash, and a file may include a pipe that never ends. So is, for root, whatever
another user wrote, with no more rights than that user has.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.errors import SourceError
from agent.loopnest.frontend.ctree import Unit
from agent.loopnest.frontend.flags import check_flags, flags_for_clang
from agent.loopnest.frontend.libclang import release
from agent.loopnest.frontend.unit import header_names, read_unit
from agent.loopnest.frontend.wire import decode
from agent.system.child import (
    ChildLimits,
    ChildRun,
    find_command,
    inherited,
    other_owner,
    run_child,
)

MAX_FILE = 1 << 20  # bytes
PLAIN_FILE = 1 << 16  # bytes of a file that this process reads itself
PLAIN_STATEMENT = 4_000  # bytes without ; { } outside parentheses
PLAIN_ELSE = 500  # an "else" is one level deeper than the one before
LIMITS = ChildLimits(seconds=20.0, memory=1 << 30, file=0, output=64 << 20)
HINT = (
    "Check what it includes, and how large its macros become. Reading a file may take "
    f"{LIMITS.memory >> 20} MiB of memory, and for root it has the rights of the file's owner only."
)
BATCH = 20  # files that one child reads
HARMLESS_FLAGS = ("-m", "-f", "-std=")
CHILD = "agent.loopnest.frontend.parse_child"

_HARMLESS = re.compile(  # directives that make no text of their own
    rb"""^[ \t]*\#[ \t]*(?:
        pragma[ ](?:scop|endscop|omp|unroll|ivdep|simd|once|STDC|GCC[ ]ivdep|GCC[ ]unroll)\b.*
      | include[ \t]*<(?P<header>[\w./]+)>[ \t]*
      | define[ \t]+\w+[ \t]*(?:[ \t][ \t(]*-?[ \t]*[0-9.][\w.]*(?:[eE][+-]?\d+)?[ \t)]*)?
      | (?:ifdef|ifndef|undef)[ \t]+\w+[ \t]*
      | (?:else|endif)[ \t]*
    )\r?$""",
    re.MULTILINE | re.VERBOSE,
)
_JOINED = re.compile(rb"\\\s*\n|%:|\?\?|\0")  # lines joined, other spellings of #
_WORDS = re.compile(  # strings and comments: the rest of a text is what clang computes with
    rb'"(?:\\.|[^"\\\n])*"' + rb"|'(?:\\.|[^'\\\n])*'|//[^\n]*|/\*.*?\*/", re.DOTALL
)
_ODD = re.compile(
    rb"""["']|/\*                                 # a string or comment without an end
    | (?<![\w)\]])\[ | (?<![\w)\]\s])\s*\.\s*[A-Za-z_]  # designators: [9]= .x[9]=
    | \b_(?!_restrict(?:__)?\b|_inline(?:__)?\b|Bool\b)  # _Pragma, _BitInt, __attribute__, ...
    """,
    re.VERBOSE,
)
_MARKS = re.compile(rb"[;{}()]")


def parse(path: Path, cflags: Sequence[str] = (), compiler: str | None = None) -> Unit:
    """The tree of the file at ``path``.

    Args:
        path: a C file.
        cflags: flags that change how a file is read: -D, -I, -std=, ...
        compiler: the compiler whose flags (``gcc -m32``) count as well; None: $CC.

    Raises:
        InputError: a flag does more than change how the file is read.
        SourceError: it cannot be read, it is too large, or it is more than clang can take.
    """
    (read,) = parse_all((path,), cflags, compiler)
    release()
    if isinstance(read, SourceError):
        raise read
    return read


def parse_all(
    paths: Sequence[Path], cflags: Sequence[str] = (), compiler: str | None = None
) -> Iterator[Unit | SourceError]:
    """The trees of many files, in their order, or why there is none.

    A child reads several: most of its time goes into starting.

    Raises:
        InputError: a flag does more than change how a file is read.
    """
    check_flags(cflags)
    command = find_command(compiler or os.environ.get("CC", "")) or ()
    flags = tuple(flags_for_clang([*command[1:], *cflags]))
    for first in range(0, len(paths), BATCH):
        batch = paths[first : first + BATCH]
        found = {path: _read_here(path, flags) for path in batch}
        others: dict[int | None, list[Path]] = {}
        for path, read in found.items():
            if read is None:
                others.setdefault(other_owner(path), []).append(path)
        for owner, theirs in others.items():
            found.update(zip(theirs, _from_child(theirs, flags, owner), strict=True))
        yield from filter(None, map(found.__getitem__, batch))


def parse_text(text: str, filename: str) -> Unit:
    """The tree of a text that is known to be harmless."""
    return read_unit(text.encode(), filename)


def plain(text: bytes) -> bool:
    """Whether nothing in a text can make it larger or deeper than it looks."""
    if len(text) > PLAIN_FILE or _JOINED.search(text) or text.count(b"else") > PLAIN_ELSE:
        return False
    code = _HARMLESS.sub(b" ", _WORDS.sub(b" ", text))
    directives = list(_HARMLESS.finditer(text))
    headers = {d["header"].decode() for d in directives if d["header"]}
    if text.count(b"#") != len(directives) or not headers <= header_names():
        return False
    return not _ODD.search(code) and _longest_statement(code) <= PLAIN_STATEMENT


def _longest_statement(code: bytes) -> int:
    """Bytes of the longest part without ; { } outside parentheses: none can be nested deeper."""
    ends, deep = [0], 0
    for mark in _MARKS.finditer(code):
        deep = max(0, deep + {b"(": 1, b")": -1}.get(mark[0], 0))
        if deep == 0 and mark[0] != b")":
            ends.append(mark.start())
    return max(b - a for a, b in itertools.pairwise([*ends, len(code)]))


def _content(path: Path) -> tuple[bytes, bool]:
    """The bytes of a file, and whether it is a regular one."""
    try:
        with path.open("rb") as file:
            text, regular = file.read(MAX_FILE + 1), stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{path}: cannot be read: {why}", hint="Give a C file.") from error
    if len(text) > MAX_FILE:
        raise SourceError(
            f"{path}: larger than {MAX_FILE >> 20} MiB", hint="Put the kernel into its own file."
        )
    return text, regular


def _read_here(path: Path, flags: Sequence[str]) -> Unit | SourceError | None:
    """The tree of a harmless file; None: a child should read it."""
    try:
        text, regular = _content(path)
        own = other_owner(path) is None
        if own and plain(text) and all(flag.startswith(HARMLESS_FLAGS) for flag in flags):
            return read_unit(text, str(path), flags)
    except SourceError as error:
        return error
    if regular:
        return None
    return SourceError(
        f"{path}: no regular file, and one with macros or headers of its own must be one",
        hint="Write it to a file.",
    )


def _from_child(
    paths: Sequence[Path], flags: Sequence[str], owner: int | None
) -> list[Unit | SourceError]:
    """What a child makes of files; one that is too much for it is read, and told, alone."""
    if not paths:
        return []
    try:
        run = _run(paths, flags, owner)
    except OSError as error:
        why = f"no process to read it in can be started: {error.strerror}"
        return [SourceError(f"{path}: {why}", hint=HINT) for path in paths]
    answers = list(_answers(run.output))[: len(paths)]
    if len(answers) == len(paths):
        return answers
    if len(paths) == 1:
        return [SourceError(f"{paths[0]}: {_why(run)}", hint=HINT)]
    done = len(answers)
    for rest in (paths[done : done + 1], paths[done + 1 :]):
        answers += _from_child(rest, flags, owner)
    return answers


def _run(paths: Sequence[Path], flags: Sequence[str], owner: int | None) -> ChildRun:
    command = [sys.executable, "-P", "-s", "-S", "-B", "-m", CHILD]
    given = {"user": owner, "flags": list(flags), "paths": [str(path) for path in paths]}
    places = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    environment = {**inherited(owner), "PYTHONPATH": places}
    return run_child([*command, json.dumps(given)], LIMITS, environment=environment)


def _answers(output: bytes) -> Iterator[Unit | SourceError]:
    """What a child says of its files, up to what is no answer."""
    for line in output.split(b"\n")[:-1]:
        if (read := _answer(line)) is None:
            return
        yield read


def _answer(line: bytes) -> Unit | SourceError | None:
    """A line of a child's, see ``parse_child``; None: it is none, whatever went wrong there."""
    try:
        return decode(line)
    except ValueError:
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            said = json.loads(line)
            return SourceError(str(said["message"]), hint=str(said["hint"]))
    return None


def _why(run: ChildRun) -> str:
    """Why a child that should have read a file did not."""
    if len(run.output) > LIMITS.output:
        return f"what it is made of takes more than {LIMITS.output >> 20} MiB"
    if run.status is None:
        return f"reading it took longer than {LIMITS.seconds:g} s"
    last = run.words.splitlines()[-1:] or ["it is nested too deep, or takes too much memory"]
    return (
        f"reading it failed ({'signal' if run.status < 0 else 'status'} {abs(run.status)}): "
        + last[0]
    )
