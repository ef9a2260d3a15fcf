"""The only module that prints: answers on stdout, everything else on stderr.

Answers are text for people, or one JSON object with ``--json``. rich is imported only where
something is drawn with it (tables, a progress bar on a terminal).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TextIO

from agent.clock import duration
from agent.errors import AgentError, Exit
from agent.json_values import finite_object
from agent.terminal.bars import ASCII, BESIDE, LEAST, Marks, marks_for, with_bars
from agent.terminal.blocks import Block, Table, Verbatim
from agent.terminal.streams import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table as RichTable

    from agent.progress import Progress

SCHEMA = 1
NARROWEST, UNWRAPPED = 40, 100_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}  # of a finding's level
_FIRST_WORDS = {  # how a line begins, and the SGR code that it begins with on a terminal
    "error:": "1;31",
    "Verdict: good": "32",
    "Verdict: usable": "33",
    "Verdict: not to be used": "1;31",
    "Not put in force": "1;31",
}
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # the journal's levels
_EXPECTED = frozenset(  # on machines that are offline or at work: nobody has to act
    (Exit.UNREACHABLE, Exit.BUSY, Exit.NOT_NOW, Exit.INTERRUPTED)
)


class Volume(IntEnum):
    """How much is said beside answers and errors."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


@dataclass
class _Asked:
    volume: Volume = Volume.USUAL


_asked, _BEGAN = _Asked(), time.monotonic()


def set_volume(volume: Volume) -> None:
    """From now on say so much; with ``VERBOSE`` also what the rooms log of their work."""
    _asked.volume = volume
    if volume is Volume.VERBOSE:
        import logging

        class Details(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                detail(record.getMessage())

        for name in ("agent", "bundles"):
            logging.getLogger(name).setLevel(logging.DEBUG)
            logging.getLogger(name).handlers = [Details()]


def answer(body: Mapping[str, object], blocks: Sequence[Block] | None) -> None:
    """Print an answer: ``blocks`` to people, ``body`` as JSON where ``blocks`` is None.

    Raises:
        OutputError: stdout cannot be written (a full disk); see ``streams``.
    """
    if blocks is None:
        text = json.dumps({"schema": SCHEMA, **finite_object(body)}, indent=2, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        for block in blocks:
            _show(block)
    sys.stdout.flush()


def failure(error: AgentError, *, as_json: bool) -> None:
    """What happened, then what to do: on stderr; with ``--json`` on stdout as an object too."""
    idle = error.exit_code == Exit.NOTHING_TO_DO
    quiet = idle and _asked.volume is Volume.QUIET
    level = INFO if idle else NOTICE if error.exit_code in _EXPECTED else ERROR
    if not quiet:
        _say(f"{'note' if idle else 'error'}: {error.message}", level)
    if error.hint and not quiet:
        _say(f"hint: {error.hint}", level)
    if as_json:
        words = {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
        with suppress(OutputError):  # the first failure is the one that counts
            answer({"error": words}, None)


def note(text: str) -> None:
    """A line on stderr, but for those who want none."""
    _tell(text, INFO)


def detail(text: str) -> None:
    """A line for those who want to know all."""
    if _asked.volume is Volume.VERBOSE:
        _tell(text, INFO)


def warn(text: str) -> None:
    """A note that somebody should read; in the journal it is a warning."""
    _tell(f"note: {text}", WARNING)


def _tell(text: str, level: int) -> None:
    if _asked.volume is Volume.VERBOSE:
        text = f"{time.monotonic() - _BEGAN:7.2f} s  {text}"
    if _asked.volume is not Volume.QUIET:
        _say(text, level)


def _say(text: str, level: int) -> None:
    """Lines on stderr; in the journal each with its level, as sd-daemon(3) has it."""
    text = _visible(text)
    if _is_journal(sys.stderr, os.environ.get("JOURNAL_STREAM", "")):
        text = "\n".join(f"<{level}>{line}" for line in text.split("\n"))
    sys.stderr.write(_painted(text, sys.stderr) + "\n")
    sys.stderr.flush()


def _visible(text: str) -> str:
    """Control characters as escapes: names and reasons of others must not steer a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _painted(text: str, stream: TextIO) -> str:
    """``text`` with its first words in colour, where a person looks at it and wants that."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR")
    first = next((words for words in _FIRST_WORDS if text.startswith(words)), None)
    if first is None or not wanted or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_FIRST_WORDS[first]}m{first}\x1b[0m{text.removeprefix(first)}"


def _is_journal(stream: TextIO, told: str) -> bool:
    """Is ``stream`` the connection to the journal that systemd told us of, as DEVICE:INODE?

    What is started from a service inherits the variable, but may have been given another stderr.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def ask(question: str) -> bool:
    """Ask on stderr and read the answer; no answer is a no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """A live line on a terminal, a plain line a step elsewhere (journals, pipes); on stderr."""
    live = _asked.volume is Volume.USUAL and sys.stderr.isatty()
    if not live or os.environ.get("TERM") == "dumb":
        yield _PlainProgress().tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Live

    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
    with Live(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)
        yield lambda p: shown.update(
            task, description=_describe(p), completed=p.done, total=p.total or None
        )


def _describe(now: Progress) -> str:
    text = f"{now.phase}: {now.what}" if now.what else now.phase
    return f"{text}, {duration(now.left_s)} left" if now.left_s else text


class _PlainProgress:
    """A line when what is being done changes; compiling reports its ends only."""

    def __init__(self) -> None:
        self._last = ("", 0, "")

    def tell(self, now: Progress) -> None:
        usual = _asked.volume is not Volume.VERBOSE
        inside = usual and now.phase == "compiling" and 0 < now.done < now.total
        step = (now.phase, now.done, now.what)  # the time left alone is no news
        if inside or step == self._last or not now.what:
            return
        self._last = step
        count = f"[{now.done}/{now.total}] " if now.total > 1 else ""
        note(f"{count}{_describe(now)}")


def width() -> int:
    """Columns to fill; nothing is wrapped where neither a terminal nor $COLUMNS asks for it."""
    asked = sys.stdout.isatty() or "COLUMNS" in os.environ
    return max(NARROWEST, shutil.get_terminal_size().columns) if asked else UNWRAPPED


def _show(block: Block) -> None:
    if isinstance(block, Table):
        _show_table(block)
    elif isinstance(block, Verbatim):
        sys.stdout.flush()
        sys.stdout.buffer.write(block.text.encode("utf-8", "surrogateescape"))
    else:
        lines = textwrap.wrap(
            _visible(block), width(), break_long_words=False, break_on_hyphens=False
        )
        sys.stdout.write(_painted("\n".join(lines), sys.stdout) + "\n")


def _show_table(table: Table) -> None:
    from rich.console import Console

    screen, marks = Console(width=width()), marks_for(sys.stdout.encoding, os.environ)
    plain = _rich_table(table, marks)
    room = width() - screen.measure(plain).maximum - BESIDE
    drawn = table.intervals and sys.stdout.isatty() and room >= LEAST
    screen.print(_rich_table(with_bars(table, room, marks), marks) if drawn else plain)


def _rich_table(table: Table, marks: Marks) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.ASCII if marks is ASCII else box.SIMPLE, pad_edge=False)
    for header in table.headers:
        drawn.add_column(Text(header), overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(_visible(cell), style=_COLOURS.get(cell, "")) for cell in row))
    return drawn
