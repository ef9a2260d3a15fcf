"""The standard streams as they are found: closed, full, on a closed terminal, their reader gone.

Messages are best effort: work does not end because nobody can read them. Answers that cannot be
written are an error of their own, told once; a reader who has gone (``| head -1``) is none.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING

from agent.errors import AgentError, Exit

if TYPE_CHECKING:
    from typing import Any, TextIO


class OutputError(AgentError):
    """The answer of a command cannot be written; what the command did is done."""

    exit_code = Exit.NOT_WRITTEN


class _Messages(FileIO):
    """Loses what cannot be written."""

    def write(self, data: Any, /) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


class _Answers(FileIO):
    """Fails once, in words, and loses what comes later."""

    _lost = False

    def write(self, data: Any, /) -> int:
        try:
            if not self._lost:
                return super().write(data)
        except BrokenPipeError:
            self._lost = True
        except OSError as error:
            self._lost = True
            raise OutputError(
                f"the answer cannot be written: {error.strerror}",
                "What the command does is done. Free space on that disk, or send the output "
                "elsewhere.",
            ) from error
        return memoryview(data).nbytes


def steady_streams() -> None:
    """Have this process write as described above, whatever its streams are.

    File names need not be text in the terminal's encoding; what is not is shown escaped. What
    libraries warn their developers of is shown to those who ask (PYTHONWARNINGS).
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: or the next file that is opened, the state even, would be it
            os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY)
    if sys.stdout is sys.__stdout__:  # not where a test reads it
        sys.stdout = _text(_Answers(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr, by_lines=True)
        if not sys.warnoptions:
            warnings.simplefilter("ignore")


def _text(raw: FileIO, like: TextIO | None, *, by_lines: bool = False) -> TextIOWrapper:
    """A text stream on ``raw``, in the encoding of the one that Python made."""
    encoding = like.encoding if like is not None else "utf-8"
    by_lines = by_lines or raw.isatty()
    return TextIOWrapper(BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_lines)
