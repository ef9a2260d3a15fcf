"""What programs are timed with: a C compiler, or the prebuilt set in place of one.

Resolved once a command (``resolve``), then passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from agent.errors import CompilerError
from agent.measure.cache import Cache

Kind = Literal["compiler", "prebuilt"]
Family = Literal["gcc", "clang", "other"]
Built = Path | str | CompilerError  # a shared object, a prebuilt program's name, or why neither
OnBuilt = Callable[[int, int], None]  # told (done, total)
HINT_INSTALL = (
    "Install a C compiler (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; "
    "Alpine: apk add gcc musl-dev), or name one with --compiler or CC."
)
_GCC = re.compile(r"(\S*-)?g?cc(-[\d.]+)? \(")  # how GCC's drivers begin their --version


class Toolchain(Protocol):
    """Something tried that gives machine code for C programs."""

    @property
    def kind(self) -> Kind:
        """Which of the two; parallel loops of a prebuilt set run on the harness's own threads."""

    @property
    def compiler(self) -> str:
        """Absolute path of the compiler's driver, or of the prebuilt executable."""

    @property
    def version(self) -> str:
        """First line of ``--version``, or of what the prebuilt set was made with."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of every compilation (without ``-shared -fPIC``)."""

    @property
    def openmp(self) -> bool:
        """Whether threads are available (else ``omp parallel for`` runs serially)."""

    @property
    def identity(self) -> str:
        """Digest of everything that decides the machine code besides the source."""

    @property
    def mark(self) -> str:
        """What changes when another toolchain is there (see ``resolve.mark_for_set``)."""

    @property
    def described(self) -> str:
        """What the code comes from, in words that name its version."""

    @property
    def preparing(self) -> str:
        """What it does before anything is timed, in words."""

    def vector_bytes(self) -> int:
        """Width of the widest vectors of its code; CompilerError where it does not tell."""

    def worker(self, cache: Cache) -> Path:
        """The executable that times programs, ready to run.

        Raises:
            CompilerError: it cannot be compiled, or is damaged.
            StateError: the cache cannot be written.
        """

    def build(
        self, sources: Sequence[str], cache: Cache, progress: OnBuilt | None = None
    ) -> Sequence[Built]:
        """What the worker's ``load`` takes for each of ``sources``; errors as for ``worker``."""

    def references(self, source: str, cache: Cache) -> Sequence[Built]:
        """``source`` without optimisation, and without fused operations; empty: cannot compile."""


def family_of(version: str) -> Family:
    """The family of a compiler, from the first line it says of itself.

    >>> [family_of(v) for v in ("cc (Debian 12.2) 12.2.0", "Debian clang version 19", "tcc 0.9")]
    ['gcc', 'clang', 'other']
    """
    if "clang" in version.lower():
        return "clang"
    return "gcc" if _GCC.match(version) else "other"
