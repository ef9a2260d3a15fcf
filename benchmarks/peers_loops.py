"""Peers that write C: Pluto, and the agent itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers_protocol import THREADS, PeerError, Task, Version, apart

GCC = ("gcc", "-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fopenmp")
WRITES_S = 20.0  # for Pluto to write a version
ENDS_S = 60.0  # for the agent to end once its time is over
MOST_TILED = 8  # loops that have a size of their own
FIRST_WORDS = "timing the function as it is"  # that the agent says once it has read the loops


class Pluto:
    """The polyhedral optimiser of github.com/bondhugula/pluto, its C compiled by gcc.

    It reads loops with clan, or with pet what clan refuses. Every run has a folder of its own: it
    leaves files where it works, and moves a file with several marked regions about.
    """

    name = "Pluto"
    install = "build github.com/bondhugula/pluto, and put its polycc on the PATH"
    ways: ClassVar[dict[str, str]] = {
        "as it orders loops": "",
        "tile, parallel": "--tile --parallel",
        "parallel": "--parallel",
        "tile, parallel, no fusion": "--tile --parallel --nofuse",
        "tile, parallel, most fusion": "--tile --parallel --maxfuse",
        "tile": "--tile",
        "tile, parallel, no unroll-jam": "--tile --parallel --nounrolljam",
        "tile, parallel, no diamonds": "--tile --parallel --nodiamond-tile",
        "tile, parallel, inner loops": "--tile --parallel --innerpar",
        "tile twice, parallel": "--tile --second-level-tile --parallel",
        "tile by its model, parallel": "--tile --determine-tile-size --parallel",
        "tiles of 16, parallel": "--tile --parallel",
        "tiles of 64, parallel": "--tile --parallel",
        "parallel, no fusion": "--parallel --nofuse",
    }

    def version(self) -> str | None:
        """Its own words."""
        if shutil.which("polycc") is None:
            return None
        told = subprocess.run(["polycc", "--version"], capture_output=True, text=True, check=False)
        return next((line for line in told.stdout.splitlines() if "PLUTO" in line.upper()), "Pluto")

    def versions(self, task: Task) -> Iterator[Version]:
        """What it writes of loops marked with ``#pragma scop``, with each set of options."""
        if b"#pragma scop" not in task.kernel.path.read_bytes():
            raise PeerError("no #pragma scop around the loops")
        began = time.monotonic()
        first, *others = self.ways
        for reader in ("", "--pet"):
            if made := self._made(task, first, reader, WRITES_S):
                break
        else:
            raise PeerError(f"neither clan nor pet reads it within {WRITES_S:g} s")
        yield Version(first, made, GCC)
        with ThreadPoolExecutor(THREADS) as pool:
            for at in range(0, len(others), THREADS):
                left = task.budget_s - (time.monotonic() - began)
                if left <= 0:
                    return
                some = others[at : at + THREADS]
                asked = [(task, what, reader, min(left, WRITES_S)) for what in some]
                for what, made in zip(some, pool.map(lambda x: self._made(*x), asked), strict=True):
                    if made is not None:
                        yield Version(what, made, GCC)

    def _made(self, task: Task, what: str, reader: str, most_s: float) -> Path | None:
        """The C that it writes in one way; None where it writes none."""
        place = task.folder / what
        place.mkdir(exist_ok=True)
        given, made = place / "given.c", place / "made.c"
        given.write_bytes(defined(task.kernel.cflags) + task.kernel.path.read_bytes())
        if size := re.search(r"tiles of (\d+)", what):
            (place / "tile.sizes").write_text(f"{size[1]}\n" * MOST_TILED)
        beside = [flag.removeprefix("-I") for flag in task.kernel.cflags if flag.startswith("-I")]
        found = {"C_INCLUDE_PATH": ":".join([*beside, str(task.kernel.path.parent)])}
        options = f"{self.ways[what]} {reader}".split()
        words = ["polycc", given.name, *options, "-o", made.name]
        ran = apart(words, most_s, place, found)
        return made if ran.status == 0 and made.exists() else None


def defined(cflags: Sequence[str]) -> bytes:
    """Macros of a command line as lines of C."""
    macros = (flag.removeprefix("-D").partition("=") for flag in cflags if flag.startswith("-D"))
    return "".join(f"#define {name} {value or 1}\n" for name, _, value in macros).encode()


class Agent:
    """`agent tune`, as a person runs it."""

    name = "agent tune"
    install = "pip install ."

    def version(self) -> str | None:
        """Its number."""
        from agent import __version__

        return f"calibration agent {__version__}"

    def versions(self, task: Task) -> Iterator[Version]:
        """The file that it writes; the file as it is, where it writes none."""
        kernel, out = task.kernel, task.folder / "tuned.c"
        sizes = [word for n, v in kernel.sizes.items() for word in ("--size", f"{n}={v}")]
        words = [
            *(Path(sys.executable).with_name("agent"), "tune", kernel.path, *sizes),
            *("--function", kernel.function, "--budget", f"{task.budget_s:.0f}s"),
            *("--cflags", " ".join(kernel.cflags), "--out", out, "--json", "--no-check"),
            *("--state-dir", task.state_dir),
        ]
        read_s, answer = self._answer([str(w) for w in words], task)
        winner = answer["winner"]
        if winner is None:
            yield Version("as written", kernel.path, GCC)
            return
        over = "own_speedup" if answer["own"] else "speedup"
        course = tuple((read_s + at["at_s"], at[over]) for at in answer["curve"])
        yield Version(winner["schedule"], out, GCC, course=course)

    def _answer(self, words: Sequence[str], task: Task) -> tuple[float, dict[str, Any]]:
        """Seconds until its search begins, and what it answers."""
        began, read_s, told = time.monotonic(), 0.0, [""]
        answer = task.folder / "answer.json"
        with (
            answer.open("w") as out,
            subprocess.Popen(words, stdout=out, stderr=subprocess.PIPE, text=True) as ran,
        ):
            limit = threading.Timer(4 * task.budget_s + ENDS_S, ran.kill)
            limit.start()
            assert ran.stderr is not None
            for line in ran.stderr:
                told.append(line.strip())
                if FIRST_WORDS in line:
                    read_s = time.monotonic() - began
        limit.cancel()
        if ran.returncode != 0:
            raise PeerError(f"agent tune: {told[-1][:200]}")
        return read_s, json.loads(answer.read_text())
