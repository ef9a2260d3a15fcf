"""onnxruntime, kept quiet and from reporting to its makers; only this imports it.

Its builds on PyPI (1.32) report how they are used: from the import on, a thread keeps a database
in ``~/.cache/Microsoft`` and looks up a server of Microsoft's. Only the environment as it is at the
import prevents that; ``onnxruntime.disable_telemetry_events()`` comes too late. So does every
setting of its log: what its native parts think of this machine is printed at the import.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """What native code prints to descriptor 2 goes nowhere; exceptions pass."""
    with contextlib.ExitStack() as back:
        with contextlib.suppress(OSError):  # closed, or no /dev/null: then as it is
            kept = os.dup(2)
            back.callback(os.close, kept)
            back.callback(os.dup2, kept, 2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            back.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
        yield


with _unheard():
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state

__all__ = ["ERRORS", "onnxruntime"]

# onnxruntime raises classes of its own, with no common base but Exception.
ERRORS: tuple[type[Exception], ...] = (
    RuntimeError, ValueError, MemoryError,
    *(x for x in vars(onnxruntime_pybind11_state).values()
      if isinstance(x, type) and issubclass(x, Exception)),
)  # fmt: skip
