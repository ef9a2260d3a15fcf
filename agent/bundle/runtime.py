"""onnxruntime, kept from reporting to its makers; nothing else of the project imports it.

Its builds on PyPI (1.32) report how they are used: from the import on, a thread keeps a database
in ``~/.cache/Microsoft`` and looks up a server of Microsoft's. Only the environment as it is at the
import prevents that; ``onnxruntime.disable_telemetry_events()`` comes too late.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

__all__ = ["ERRORS", "onnxruntime"]

# onnxruntime raises classes of its own, with no common base but Exception.
ERRORS: tuple[type[Exception], ...] = (
    RuntimeError, ValueError, MemoryError,
    *(x for x in vars(onnxruntime_pybind11_state).values()
      if isinstance(x, type) and issubclass(x, Exception)),
)  # fmt: skip
