"""Compilers that are given the file as it is: gcc, graphite, clang, Polly."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.peers_protocol import BASELINE, THREADS, Peer, Task, Version

NATIVE = ("-std=gnu11", "-march=native", "-fno-math-errno")
PARALLEL = f"-ftree-parallelize-loops={THREADS}"
POLLY = ("-O3", "-mllvm", "-polly")
POLLY_PARALLEL = ("-mllvm", "-polly-parallel", "-mllvm", f"-polly-num-threads={THREADS}", "-lgomp")
STRIPMINE = ("-mllvm", "-polly-vectorizer=stripmine")


@dataclass
class Compiler:
    """A compiler with some sets of flags, each a version.

    Attributes:
        name: of the peer; ``install``: how it is got.
        commands: what it may be called, the newest first.
        flags: the sets of flags; ``by_name``: what they are called.
    """

    name: str
    install: str
    commands: Sequence[str]
    flags: dict[str, tuple[str, ...]]

    @cached_property
    def command(self) -> str | None:
        """The first that is there and takes the first flags."""
        there = (c for c in self.commands if shutil.which(c))
        return next((c for c in there if self._takes(c)), None)

    def _takes(self, command: str) -> bool:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "probe.c")
            file.write_text("double a[64]; int main(void) { for (int i = 0; i < 64; i++) a[i]++; }")
            words = [command, *NATIVE, *next(iter(self.flags.values()))]
            words += [str(file), "-o", f"{file}.out"]
            return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def version(self) -> str | None:
        """Its first line of ``--version``."""
        if self.command is None:
            return None
        asked = [self.command, "--version"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True)
        return told.stdout.splitlines()[0]

    def versions(self, task: Task) -> Iterator[Version]:
        """The file as it is, with each set of flags."""
        assert self.command is not None
        for what, flags in self.flags.items():
            yield Version(what, task.kernel.path, (self.command, *NATIVE, *flags))


def compilers() -> list[Peer]:
    """All of them."""
    gcc, clang = ("gcc",), ("clang-19", "clang-16", "clang-15", "clang-14", "clang")
    clang_there = "apt-get install clang libomp-dev"
    polly = {  # the first without what recognises products, which may not end
        "Polly, no patterns": (*POLLY, "-mllvm", "-polly-pattern-matching-based-opts=0"),
        "Polly": POLLY,
        "Polly, stripmine": (*POLLY, *STRIPMINE),
        "Polly, no tiling": (*POLLY, "-mllvm", "-polly-tiling=0"),
        "Polly, parallel": (*POLLY, *POLLY_PARALLEL),
        "Polly, parallel, stripmine": (*POLLY, *POLLY_PARALLEL, *STRIPMINE),
        "Polly, parallel, -Ofast": (*POLLY, "-Ofast", *POLLY_PARALLEL),
    }
    return [
        Compiler(BASELINE, "apt-get install gcc", gcc, {"-O3": ("-O3",)}),
        Compiler(
            "gcc -Ofast",
            "apt-get install gcc",
            gcc,
            {"-Ofast": ("-Ofast",), "-Ofast, parallel": ("-Ofast", PARALLEL)},
        ),
        Compiler(
            "gcc graphite",
            "a gcc that is built with isl, as Debian's is",
            gcc,
            {
                "graphite": ("-O3", "-floop-nest-optimize"),
                "graphite, parallel": ("-O3", "-floop-nest-optimize", PARALLEL),
                "graphite, parallelize-all": (
                    "-O3",
                    "-floop-nest-optimize",
                    "-floop-parallelize-all",
                    PARALLEL,
                ),
            },
        ),
        Compiler("clang -O3", clang_there, clang, {"-O3": ("-O3",), "-Ofast": ("-Ofast",)}),
        Compiler("Polly", f"{clang_there} libpolly-14-dev", clang, polly),
    ]
