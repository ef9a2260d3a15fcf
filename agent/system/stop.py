"""Somebody asks a command to stop: Ctrl-C, SIGTERM, or SIGHUP where its terminal is closed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Stop:
    """Turns all of them into KeyboardInterrupt, and remembers that it came.

    KeyboardInterrupt alone does not tell: raised inside an import, some modules turn it into an
    error of their own.
    """

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on; what the parent told this process to ignore (nohup) stays ignored."""
        signal.signal(signal.SIGTERM, self)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, self)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        self.asked = True
        signal.default_int_handler(number, frame)
