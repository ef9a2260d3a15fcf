"""``agent emit``: the person's file with a schedule in it, checked, and put where it was asked."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.advise.advise import Request, described, read_source
from agent.advise.own_tests import OwnTests
from agent.advise.splice import Origin, SourceRegion, spliced
from agent.errors import CompilerError, InputError, MeasureError
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import Schedule, parse_schedule
from agent.settings.config import Config

if TYPE_CHECKING:
    from agent.advise.verify import Agreement


@dataclass(frozen=True)
class Wish:
    """What is to become of the file.

    Attributes:
        out: where it goes; None: nowhere, the answer holds it.
        force: whether a file that is there may be replaced.
        check: whether the function is run against the one as written (where there is a compiler).
        date: for its comment, as YYYY-MM-DD; empty: today.
        tests: the person's own tests, which have to pass with it.
    """

    out: Path | None = None
    force: bool = False
    check: bool = True
    date: str = ""
    tests: OwnTests | None = None

    @property
    def idle(self) -> bool:
        """Whether the file is neither to be written nor tested."""
        return self.out is None and self.tests is None


def emit(config: Config, request: Request, schedule: str, wish: Wish) -> dict[str, object]:
    """The file with ``schedule`` in place of the loops; see docs/reference/schemas/emit.json.

    Raises:
        SourceError, ScheduleError: the loops or the schedule cannot be used.
        CompilerError: what was written does not compile.
        MeasureError: it does something else than the function as written, or fails the tests.
        InputError: it cannot be put where it was asked.
    """
    parsed = parse_schedule(schedule)
    if wish.out is not None:
        check_place(wish.out, wish.force)
    source = read_source(config, request)
    if wish.tests is not None:
        wish.tests.try_out(request.path)
    return write(config, request, source, parsed, wish)


def write(
    config: Config,
    request: Request,
    source: SourceRegion,
    schedule: Schedule,
    wish: Wish,
    facts: Sequence[str] = (),
) -> dict[str, object]:
    """As ``emit``, of a file that was read; ``facts`` are sentences for its comment."""
    date = wish.date or time.strftime("%Y-%m-%d", time.gmtime())
    variant = transform(source.reading.program, schedule)
    new = spliced(source, variant, Origin(str(schedule), date, tuple(facts)))
    checked = _checked(config, request, source, new) if wish.check else None
    if wish.tests is not None:
        wish.tests.check(request.path, new)
    if wish.out is not None:
        put(wish.out, new, wish.force)
    return {
        "program": described(source.reading),
        "schedule": str(schedule),
        "sizes": dict(source.sizes),
        "out": None if wish.out is None else str(wish.out),
        "text": new.decode("utf-8", "surrogateescape"),
        "diff": _difference(source.text, new, request.path, wish.out),
        "check": {**_told(checked), "tests": wish.tests.command if wish.tests else None},
    }


def _checked(config: Config, request: Request, source: SourceRegion, new: bytes) -> Agreement:
    from agent.advise.verify import Agreement, verify
    from agent.measure.compiler import working_compiler

    try:
        compiler = working_compiler(config.compiler)
    except CompilerError as error:
        if config.compiler:
            raise
        return Agreement(unchecked=(f"there is no compiler to check it with ({error.message})",))
    found = verify(source, request.path, new, compiler, request.cflags or ())
    if found.wrong:
        raise MeasureError(
            f"{source.reading.function} with this schedule gives other results than as written "
            f"({_in_words(found.wrong[0])}); nothing was written",
            "Sums in another order may change what a condition decides. Otherwise look for "
            "overflow or undefined behaviour, or please report it; --no-check writes it anyhow.",
        )
    if found.miscompiled:
        built = " ".join((*compiler.words, *compiler.flags, *(request.cflags or ())))
        raise MeasureError(
            f"{source.reading.function} with this schedule gives other results than as written "
            f"when it is compiled with {built}, and the right ones with -O1 "
            f"({_in_words(found.miscompiled[0])}); nothing was written",
            "Most likely this is a fault of the compiler: take another schedule or compiler. "
            "--no-check writes it anyhow.",
        )
    return found


def _in_words(sizes: Mapping[str, int]) -> str:
    text = ", ".join(f"{name} = {value}" for name, value in sizes.items())
    return f"sizes: {text or 'as in the text'}"


def _told(checked: Agreement | None) -> dict[str, object]:
    if checked is None:
        return {"runs": 0, "sizes": [], "sanitized": False, "unchecked": ["no check was asked for"]}
    sizes = [dict(s) for s, _ in checked.runs]
    return {
        "runs": len(checked.runs),
        "sizes": [s for n, s in enumerate(sizes) if s not in sizes[:n]],
        "sanitized": checked.sanitized,
        "unchecked": list(checked.unchecked),
    }


def _difference(old: bytes, new: bytes, path: Path, out: Path | None) -> str:
    """A unified diff that ``patch`` takes."""
    before, after = (t.decode("utf-8", "surrogateescape").splitlines(True) for t in (old, new))
    lines = difflib.unified_diff(before, after, str(path), str(out or path))
    whole = (x if x.endswith("\n") else x + "\n\\ No newline at end of file\n" for x in lines)
    return "".join(whole)


# --- onto the disk --------------------------------------------------------------------------------


def check_place(path: Path, force: bool) -> int | None:
    """Refuse a place that cannot be written, before anything is compiled for it.

    Returns:
        The mode of the file that is there.

    Raises:
        InputError: says why not.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise _unwritable(path, error) from error
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is no plain file", "Name a file with --out.")
    if found is not None and not force:
        raise InputError(f"{path} is there already", "Name a new file, or add --force.")
    if not path.parent.is_dir():
        raise InputError(f"there is no directory {path.parent}", "Make it, or name another.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{path} cannot be written: its directory is read-only for this user",
            "Name a file elsewhere with --out.",
        )
    return None if found is None else stat.S_IMODE(found.st_mode)


def put(path: Path, text: bytes, force: bool) -> None:
    """Write a file, whole or not at all; one that is there is replaced only by ``force``.

    Raises:
        InputError: it cannot be written; what was there is unchanged.
    """
    mode = check_place(path, force)
    staged = path.with_name(f".{path.name[:100]}-{secrets.token_hex(8)}")
    try:
        with staged.open("xb") as file:
            file.write(text)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # another user may have renamed it by now
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written: {error.strerror}", "Name another with --out.")
