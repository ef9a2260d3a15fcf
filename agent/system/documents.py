"""Where the documents lie on this machine: hints name a page that is there."""

from __future__ import annotations

import sys
from pathlib import Path

_BESIDE = Path("share/doc/calibration-agent")
_PLACES = (Path(__file__).parents[2], sys.prefix / _BESIDE, "/usr" / _BESIDE)


def page_path(name: str) -> str:
    """A page such as ``docs/reference/report.md``: where it was installed, or else its name.

    A checkout has it, so has the environment that a wheel was installed into, and so has Debian's
    package; ``pip install --target`` and a dpkg that leaves out documents have none.
    """
    return str(next((place / name for place in _PLACES if (place / name).exists()), name))
