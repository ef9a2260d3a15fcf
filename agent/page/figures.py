"""Numbers and moments as the page writes them."""

from __future__ import annotations

import math
from typing import Final

from agent.clock import stamp
from agent.terminal import numbers

TIMES: Final = "\N{MULTIPLICATION SIGN}"


def moment(seconds: float) -> str:
    """Seconds since 1970 as ``2026-11-24 05:30 UTC``."""
    return stamp(seconds)[:16].replace("T", " ") + " UTC"


def day(seconds: float) -> str:
    """Seconds since 1970 as ``2026-11-24``."""
    return stamp(seconds)[:10]


def hour(seconds: float) -> str:
    """Seconds since 1970 as ``05:30 UTC``."""
    return moment(seconds)[11:]


def three_digits(value: float) -> str:
    """Three digits, as many as matter."""
    return f"{value:.3g}" if 1e-3 <= value < 1e5 else f"{value:.1e}"


def page_time(value: float) -> str:
    """A time of execution with a fitting unit."""
    return numbers.execution_time(value).replace(" us", " µs")


def drawn_factor(log_error: float | None) -> float | None:
    """A log error as a factor, for drawing."""
    return None if log_error is None else math.exp(min(abs(log_error), 45.0))


def as_factor(log_error: float | None) -> str:
    """A log error as a factor, for reading."""
    return numbers.DASH if log_error is None else f"{TIMES}\u00a0{numbers.factor(log_error)}"


def off_by(log_ratio: float | None) -> str:
    """A log ratio as a share: 0.005 -> 0.5%."""
    if log_ratio is None:
        return numbers.DASH
    return share(ratio(log_ratio))


def share(part: float) -> str:
    """A share in per cent: 0.005 -> 0.5%."""
    return f"{100 * part:.2g}%" if part < 0.995 else f"{100 * part:.3g}%"


def ratio(log_ratio: float) -> float:
    """How far a ratio is from 1: 0.005 -> 0.00501."""
    return math.expm1(min(abs(log_ratio), 45.0))


def signed_change(log_ratio: float) -> str:
    """A log ratio as a change: 0.005 -> +0.5%."""
    share = math.expm1(max(min(log_ratio, 45.0), -45.0))
    return f"{100 * share:+.2g}%" if abs(share) < 0.995 else f"{100 * share:+.3g}%"
