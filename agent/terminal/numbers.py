"""Numbers as people read them; None, where there is nothing to tell, is a dash."""

from __future__ import annotations

import math

DASH = "-"


class Count(int):
    """A number told with its noun: ``f"{Count(2):late report}"`` is "2 late reports"."""

    def __format__(self, noun: str) -> str:
        words = f"{int(self)} {noun}".rstrip()
        return words if self == 1 or not noun else f"{words}s"


def execution_time(seconds: float | None) -> str:
    """A time of execution with a fitting unit."""
    if seconds is None:
        return DASH
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def factor(log_error: float | None) -> str:
    """A log error as a factor: 0.27 -> 1.31."""
    return DASH if log_error is None else decimal(math.exp(min(log_error, 45.0)))


def difference(log_ratio: float | None) -> str:
    """A small log ratio as a share: 0.005 -> 0.5%."""
    if log_ratio is None:
        return DASH
    share = math.expm1(min(log_ratio, 45.0))
    return "less than 0.1%" if share < 0.001 else f"{share:.1%}"


def signed_difference(log_ratio: float) -> str:
    """A small log ratio as a share with its sign: 0.05 -> +5.1%."""
    return f"{math.expm1(min(log_ratio, 45.0)):+.1%}"


def limits(log_limit: float) -> str:
    """What a change may be at most, either way: 0.5 -> -39% / +65%."""
    ends = (math.expm1(x) for x in (-log_limit, min(log_limit, 45.0)))
    return " / ".join(f"{100 * end:+.2g}%" if abs(end) < 0.995 else f"{end:+.0%}" for end in ends)


def decimal(value: float | None) -> str:
    """Two decimals, or three digits where these would say nothing: 1.31, 1.2e+03."""
    if value is None:
        return DASH
    return f"{value:.2f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """A share in whole per cent; a large one as a factor."""
    return DASH if share is None else f"{share:.0%}" if share < 100 else f"{share:.2g}x"


def size(count: float) -> str:
    """Bytes with a fitting unit."""
    if count < 1:
        return "not told"
    power = min(int(math.log2(count) // 10), 4)
    return f"{count / 1024**power:.3g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
