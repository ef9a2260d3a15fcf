"""What people write, read into values: durations, numbers, switches, paths, sizes.

Each reader takes text and gives a value, or InputError with what can be written instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from agent.errors import InputError

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MIN_BUDGET_S, MAX_BUDGET_S = 2.0, HOUR
MAX_SIZE = 1 << 24
MAX_TEXT = 4096
LABEL = "[A-Za-z0-9][A-Za-z0-9._-]{0,31}"  # of a machine, in reports
_UNITS = {"": 1.0, "s": 1.0, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY}
_YES, _NO = ("yes", "on", "true", "1"), ("no", "off", "false", "0")


def parse_duration(
    text: str, least: float = MIN_BUDGET_S, most: float = MAX_BUDGET_S, what: str = "--budget"
) -> float:
    """Seconds in ``20``, ``20s``, ``2m``, ``1m30s``, ``1h`` or ``30d``; InputError otherwise.

    Args:
        text: as written.
        least: in seconds, as ``most``.
        most: the longest that makes sense.
        what: is being read, for the message.
    """
    limits = f"{in_units(least)} and {in_units(most)}"
    hint = f"Write it as 20s, 2m, 1m30s, 1h or 30d; between {limits}."
    words = text.strip().lower()
    below = words.startswith("-")  # a duration, and never one that makes sense
    words = words.removeprefix("-")
    if len(words) > 40 or not re.fullmatch(r"[\d.]+|([\d.]+(h|min|m|s|d)\s*)+", words):
        raise InputError(f"{what} {text!r} is not a duration", hint)
    try:
        parts = re.findall(r"([\d.]+)([a-z]*)", words)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    except ValueError as error:
        raise InputError(f"{what} {text!r} is not a duration", hint) from error
    if below or not least <= seconds <= most:
        raise InputError(f"{what} {text!r} is not between {limits}", hint)
    return seconds


def in_units(seconds: float) -> str:
    """Seconds in the largest unit that they are a whole number of: ``45s``, ``20m``, ``30d``."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.12g}{unit}"
    return f"{seconds:.12g}s"


def parse_number(text: str, least: float, most: float, what: str) -> float:
    """A number from ``least`` to ``most``; InputError for anything else."""
    try:
        number = float(text) if text.isascii() else math.nan
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        words = f"a number from {least:g} to {most:g}"
        raise InputError(f"{what} {text!r} is not {words}", f"Write {words}.")
    return number


def parse_switch(text: str, what: str) -> bool:
    """``yes``, ``on``, ``true`` or their opposites; InputError for anything else."""
    word = text.strip().lower()
    if word not in (*_YES, *_NO):
        raise InputError(f"{what} {text!r} is neither yes nor no", "Write yes or no.")
    return word in _YES


def parse_label(text: str, what: str) -> str:
    """A name for a machine that its reports carry; InputError for anything else."""
    if not re.fullmatch(LABEL, text, re.ASCII):
        hint = "Write 1 to 32 letters, digits, . _ and -, a letter or digit first: press-4."
        raise InputError(f"{what} {text!r} is no label", hint)
    return text


def parse_choice(text: str, choices: Sequence[str], what: str) -> str:
    """One of ``choices``; InputError for anything else, with the one that was meant."""
    if text in choices:
        return text
    known = " or ".join(choices)
    raise InputError(f"{what} {text!r} is not {known}", f"{meant(text, choices)}Set it to {known}.")


def parse_path(text: str, what: str) -> Path:
    """A path, ``~`` being the person's own directory; InputError where there is none."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        hint = "Write the whole path, from / on."
        raise InputError(
            f"{what} {text!r}: the directory of that user is not known", hint
        ) from error


def parse_command(text: str, what: str) -> tuple[str, ...]:
    """The words of a command as a shell splits them, which does not read it; InputError else."""
    import shlex

    hint = "Write the whole path of a program, from / on, and then what it is given."
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"{what} {text!r}: {error}", "Close every quote.") from error
    if not words or not words[0].startswith("/"):
        raise InputError(f"{what} {text!r} does not begin with a program's whole path", hint)
    return words


def parse_string(text: str, what: str) -> str:
    """Text of one line; InputError where it is endless or holds control characters."""
    if len(text) > MAX_TEXT:
        raise InputError(f"{what} is longer than {MAX_TEXT} characters", "Write a shorter one.")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise InputError(f"{what} {text!r} holds a control character", "Write it on one line.")
    return text


def meant(word: str, known: Sequence[str]) -> str:
    """``Did you mean X? `` for a word that is nearly a known one; else nothing."""
    near = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]}? " if near else ""


_SIZE = re.compile(r"[A-Za-z_]\w*(?:(?:->|\.)[A-Za-z_]\w*)*", re.ASCII)  # n, or im->w


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """``["ni=512", "nj=64"]`` as a mapping; InputError where one is malformed or named twice."""
    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not _SIZE.fullmatch(name):
            raise InputError(f"--size {text!r} is not NAME=NUMBER", "Write --size ni=512.")
        if not (value.isascii() and value.isdigit()) or not 1 <= int(value[:12]) <= MAX_SIZE:
            raise InputError(
                f"--size {text!r}: {value!r} is not a number from 1 to {MAX_SIZE}",
                "Write --size ni=512 --size nj=64: one size an option.",
            )
        if name in sizes:
            raise InputError(f"--size {name} is given twice", "Give each size one value.")
        sizes[name] = int(value)
    return sizes


Reader = Callable[[str, str], object]  # the text, and what it is of for the message


def duration_between(least: float, most: float) -> Reader:
    """A reader of durations from ``least`` to ``most`` seconds."""
    return lambda text, what: parse_duration(text, least, most, what)


def number_between(least: float, most: float) -> Reader:
    """A reader of numbers from ``least`` to ``most``."""
    return lambda text, what: parse_number(text, least, most, what)


def one_of(choices: Sequence[str]) -> Reader:
    """A reader of words from a list."""
    return lambda text, what: parse_choice(text, choices, what)
