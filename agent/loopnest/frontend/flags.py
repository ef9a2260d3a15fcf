"""Flags of a compiler: those that change how a file is read, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agent.errors import InputError

_FLAG = re.compile(  # what changes how a file is read; nothing that writes a file or runs code
    r"-(?:(?:D|U|I|isystem|iquote|include)(?P<value>.*)|std=[\w+:]+|ansi|O(?:[0-3sgz]|fast)?"
    r"|m(?!llvm|mlir)\w[-\w.=+,]*|f(?!dump|profile|plugin|test-cov|save|callgraph|stack-usage"
    r"|time|opt-|compare|module|proc|crash|record|deps|diag|auto)[a-z][-\w+]*)",
    re.DOTALL,
)
_MEANING = re.compile(
    r"-f(?:no-)?(?:(?:un)?signed-char|short-enums|short-wchar|pack-struct|ms-extensions)"
)
# What the compiler would make of the file, and is not known here: other types of constants, and
# other sizes of long and of pointers, on which conversions and the types of numbers depend.
_UNKNOWN = re.compile(r"-fsingle-precision-constant|-fshort-double|-m(?:x?32|16|iamcu)|-mabi=ilp32")


def is_harmless(flag: str) -> bool:
    """Whether a flag (without its value) only changes how a file is read."""
    return _FLAG.fullmatch(flag) is not None


def check_flags(cflags: Sequence[str]) -> None:
    """Refuse flags that could do more than change how a file is read.

    Raises:
        InputError: the message names the flag.
    """
    words = iter(cflags)
    for word in words:
        match = _FLAG.fullmatch(word)
        if match is None:
            raise InputError(
                f"--cflags: {word!r} is not a flag that changes how a file is read",
                hint="Flags: -D -U -I -isystem -iquote -include -std= -ansi -O... -m... -f...; "
                "those for warnings and output are not needed.",
            )
        if match["value"] == "" and next(words, "@").startswith("@"):  # @FILE holds more flags
            raise InputError(
                f"--cflags: {word} lacks its value", hint=f"Write {word} VALUE or {word}VALUE."
            )


def flags_for_clang(cflags: Sequence[str]) -> Iterator[str]:
    """The checked flags without those of gcc's that say nothing about the language.

    ``-fopenmp`` is one of them: parallel loops stay loops.

    Raises:
        InputError: a flag makes the file mean something that is not known here.
    """
    words = iter(cflags)
    for word in words:
        if _UNKNOWN.fullmatch(word):
            raise InputError(
                f"{word} changes what types or constants are, in a way that is not known here",
                "Leave it out if the file means the same without it.",
            )
        match = _FLAG.fullmatch(word)
        if match is None or (word.startswith("-f") and not _MEANING.fullmatch(word)):
            continue
        yield word
        if match["value"] == "":
            yield next(words, "")
