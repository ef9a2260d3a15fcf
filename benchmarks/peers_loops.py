"""Peers that write C: Pluto, and the agent itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers_protocol import PeerError, Task, Version

GCC = ("gcc", "-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fopenmp")
WAITS_S = 60.0  # for Pluto to write a version, and for the agent to end once its time is over


class Pluto:
    """The polyhedral optimiser of github.com/bondhugula/pluto, its C compiled by gcc."""

    name = "Pluto"
    install = "build github.com/bondhugula/pluto, and put its polycc on the PATH"
    ways = (
        ("tile, parallel", ("--tile", "--parallel")),
        ("tile", ("--tile",)),
        ("tile, parallel, no fusion", ("--tile", "--parallel", "--nofuse")),
        ("tile, parallel, unroll-jam", ("--tile", "--parallel", "--unrolljam")),
        ("parallel", ("--notile", "--parallel")),
        ("two levels of tiles, parallel", ("--tile", "--second-level-tile", "--parallel")),
    )

    def version(self) -> str | None:
        """Its own words."""
        if shutil.which("polycc") is None:
            return None
        told = subprocess.run(["polycc", "--version"], capture_output=True, text=True, check=False)
        return next((line for line in told.stdout.splitlines() if "PLUTO" in line.upper()), "Pluto")

    def versions(self, task: Task) -> Iterator[Version]:
        """What it writes of loops marked with ``#pragma scop``, with each set of options."""
        source = task.kernel.path
        if b"#pragma scop" not in source.read_bytes():
            raise PeerError("no #pragma scop around the loops")
        for number, (what, options) in enumerate(self.ways):
            made = task.folder / f"pluto_{number}.c"
            words = ["polycc", source, *options, "-o", made]
            try:
                ran = subprocess.run(
                    words, cwd=task.folder, capture_output=True, timeout=WAITS_S, check=False
                )
            except subprocess.TimeoutExpired:
                continue
            if ran.returncode == 0 and made.exists():
                yield Version(what, made, GCC)


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
        flags = " ".join(flag for flag in kernel.cflags if flag.startswith("-"))
        words = [
            *(Path(sys.executable).with_name("agent"), "tune", kernel.path, *sizes),
            *(
                "--function",
                kernel.function,
                "--budget",
                f"{task.budget_s:.0f}s",
                "--cflags",
                flags,
            ),
            *("--out", out, "--json", "--no-check", "--state-dir", task.state_dir),
        ]
        ran = subprocess.run(
            [str(w) for w in words],
            capture_output=True,
            text=True,
            timeout=4 * task.budget_s + WAITS_S,
            check=False,
        )
        if ran.returncode != 0:
            raise PeerError(ran.stderr.strip().splitlines()[-1][:200])
        answer = json.loads(ran.stdout)
        winner = answer["winner"]
        if winner is None:
            yield Version("as written", kernel.path, GCC)
            return
        over = "own_speedup" if answer["own"] else "speedup"
        course = tuple((at["at_s"], at[over]) for at in answer["curve"])
        yield Version(winner["schedule"], out, GCC, course=course)
