"""Which problems a person was told of, kept so that a full or failing disk does not lose it.

The file is made while all is well and rewritten in place, which needs no space. Where it cannot be
written all the same (a disk that became read-only) it is kept where systemd has things last until
the next start of the machine (RUNTIME_DIRECTORY).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

FILE = "told"
ROOM = 16 << 10  # bytes that it always has
MOST = 200  # problems
AGAIN_S = 86_400.0  # what has gone and come back is not told again sooner


@dataclass(frozen=True)
class ToldProblems:
    """What was told, and when.

    Attributes:
        places: folders that the file may be in, the best first.
        at: seconds since 1970, by the key of a finding.
    """

    places: tuple[Path, ...]
    at: Mapping[str, float]

    @classmethod
    def read(cls, state_dir: Path, environment: Mapping[str, str]) -> ToldProblems:
        """What is known; what cannot be read is not."""
        runtime = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
        places = (state_dir, *([Path(runtime)] if runtime else []))
        at: dict[str, float] = {}
        for place in places:
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                known = json.loads(_read(place / FILE))
                at |= {str(key): float(when) for key, when in known.items()}
        return cls(places, at)

    def after(self, there: Iterable[str], new: Iterable[str], now: float) -> ToldProblems:
        """What is known after a look that found the keys ``there``, of which ``new`` were told."""
        lasting = set(there)
        kept = {k: at for k, at in self.at.items() if k in lasting or now - at < AGAIN_S}
        known = {**kept, **dict.fromkeys(new, now)}
        newest = sorted(known, key=lambda key: -known[key])[:MOST]
        return replace(self, at={key: known[key] for key in newest})

    def write(self) -> None:
        """Keep it in the first place that can be written; best effort."""
        body = json.dumps(dict(self.at)).encode().ljust(ROOM)
        for place in self.places:
            with contextlib.suppress(OSError):
                _rewrite(place / FILE, body)
                return


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(ROOM)


def _rewrite(path: Path, body: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        if file.write(body) < len(body):
            raise OSError(f"{path} is not whole")
        os.fsync(file.fileno())
