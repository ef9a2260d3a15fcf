"""Points in time and how they are told, also where the clock is or was wrong."""

from __future__ import annotations

import time

CLOCK_SET = 1_577_836_800.0  # 2020: a clock before that was never set


def stamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(max(seconds, 0.0), 2.5e11)))


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 5 s``, ``2 h 10 min``, ``12 days``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    if seconds < 2 * 86400:
        return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"
    return f"{int(seconds) // 86400} days"


def age(created_at: float, now: float | None = None) -> str:
    """How old something is, also when the clock was or is wrong."""
    now = time.time() if now is None else now
    if created_at < CLOCK_SET:
        return "of unknown age (the clock was not set when it was made)"
    if now < CLOCK_SET:
        return "of unknown age (this machine's clock is not set)"
    if created_at > now + 60:
        return "of unknown age (it lies in the future; check this machine's clock)"
    return f"{duration(max(0.0, now - created_at))} old"
