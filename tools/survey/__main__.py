"""What loop nests of public C are made of, and how far the corpus is from that.

    python -m tools.survey read CHECKOUTS --rows real.npz --out survey.json
    python -m tools.survey compare real.npz survey.json

CHECKOUTS is a folder of checkouts named as in ``repositories.toml``, with ``+`` for ``/``. Of their
code nothing is kept: ``survey.json`` holds shares of what nests are made of, ``real.npz`` the
features that the model computes (a scratch file, for the classifier).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.arrays import Singles
from agent.errors import AgentError, Exit
from agent.loopnest.features.nest import lower
from agent.loopnest.features.vector import FEATURES, features
from agent.terminal import console
from bundles.corpus.corpus import random_program
from bundles.corpus.traits import Traits, distance, mean_traits, traits
from bundles.terminal import needs, say
from bundles.workers import results_in_order
from tools.survey.read import FileReport, FoundNest, read_files
from tools.survey.tell import tell_apart

Repository = dict[str, Any]  # of repositories.toml
KNOWN = Path(__file__).with_name("repositories.toml")
BATCH = 8  # files a job, programs a job
MOST = 400  # nests of a repository that are kept, so that none speaks for all
MOST_FILES = 45  # with LOOPS loops or more are read of a repository, for the same reason
LOOPS = 2
SYSTEM = frozenset("unistd.h stdint.h stddef.h math.h string.h windows.h getopt.h".split())
MOST_FOLDERS = 120  # with headers, of a repository


def main(arguments: Sequence[str] | None = None) -> int:
    """Read or compare; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        needs("sklearn", "loky")
        text = read(asked) if asked.command == "read" else compare(asked)
    except AgentError as error:
        console.failure(error, as_json=False)
        return error.exit_code
    sys.stdout.write(text)
    return Exit.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tools.survey", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    reading = commands.add_parser("read", help="read checkouts of public repositories")
    reading.add_argument("checkouts", type=Path)
    reading.add_argument("--rows", type=Path, required=True, help="features, for `compare`")
    reading.add_argument("--out", type=Path, required=True, help="statistics (JSON)")
    reading.add_argument("--processes", type=int, default=2)
    reading.add_argument(
        "--minutes", type=float, default=600.0, help="then stop; files come in any order"
    )
    comparing = commands.add_parser("compare", help="compare the corpus with what was read")
    comparing.add_argument("rows", type=Path)
    comparing.add_argument("survey", type=Path)
    comparing.add_argument("--programs", type=int, default=4_000, help="to draw")
    comparing.add_argument("--processes", type=int, default=2)
    return parser


# --- reading --------------------------------------------------------------------------------------


def read(asked: argparse.Namespace) -> str:
    """Read every repository that stands in CHECKOUTS; write statistics and features."""
    listed = tomllib.loads(KNOWN.read_text())["repository"]
    here = [r for r in listed if (asked.checkouts / _folder(r["name"])).is_dir()]
    if not here:
        raise AgentError(f"none of the repositories is in {asked.checkouts}", f"See {KNOWN.name}.")
    jobs = [job for r in here for job in _jobs(r, asked.checkouts / _folder(r["name"]))]
    random.Random(0).shuffle(jobs)
    reports: dict[str, list[FileReport]] = {r["name"]: [] for r in here}
    started = time.monotonic()
    results = results_in_order(read_files, jobs, asked.processes)
    for number, (job, report) in enumerate(zip(jobs, results, strict=False), 1):
        reports[job[0]].append(report)
        say(f"{number}/{len(jobs)}: {job[0]}, {len(report.found)} nests")
        if time.monotonic() - started > 60 * asked.minutes:
            break
    kept = [nest for r in here for nest in _some(reports[r["name"]])]
    np.savez_compressed(
        asked.rows,
        features=np.stack([n.features for n in kept]),
        repository=np.array([n.repository for n in kept]),
    )
    told = {
        "schema": 1,
        "repositories": [_about(r, reports[r["name"]]) for r in here],
        "nests": len(kept),
        "traits": mean_traits((n.traits, 1.0) for n in kept),
    }
    asked.out.write_text(json.dumps(told, indent=1) + "\n")
    return f"{asked.out}: {len(kept)} nests of {len(here)} repositories\n"


def _folder(name: str) -> str:
    return name.replace("/", "+")


def _jobs(repository: Repository, root: Path) -> Iterator[tuple[str, list[Path], list[str]]]:
    """Batches of files, with the folders of all headers: nothing of a repository is configured."""
    headers = [p for p in root.rglob("*.h") if p.name not in SYSTEM]
    folders = {p.parent for p in headers} | {p.parent.parent for p in headers}
    nearest = sorted(folders - {root.parent}, key=lambda p: (len(p.parts), p))[:MOST_FOLDERS]
    own = [*repository.get("flags", ()), *(f"-I{folder}" for folder in nearest)]
    plain = (p for p in root.rglob("*.c") if p.is_file() and not p.is_symlink())
    paths = sorted(p for p in plain if p.read_bytes().count(b"for") >= LOOPS)
    paths = sorted(random.Random(0).sample(paths, min(MOST_FILES, len(paths))))
    for start in range(0, len(paths), BATCH):
        yield str(repository["name"]), paths[start : start + BATCH], ["-D_GNU_SOURCE", *own]


def _some(reports: Sequence[FileReport]) -> list[FoundNest]:
    """Nests that do as much as programs of the corpus, at most so many."""
    fit = [nest for report in reports for nest in report.found if nest.fit]
    return random.Random(0).sample(fit, min(MOST, len(fit)))


def _about(repository: Repository, reports: Sequence[FileReport]) -> dict[str, object]:
    found = [nest for report in reports for nest in report.found]
    return {
        "name": repository["name"],
        "licence": repository["licence"],
        "field": repository["field"],
        "files": sum(r.files for r in reports),
        "files_not_read": sum(r.unread_files for r in reports),
        "nests_read": len(found),
        "nests_refused": sum(r.refused for r in reports),
        "nests_fit": sum(nest.fit for nest in found),
        "nests_used": len(_some(reports)),
    }


# --- comparing ------------------------------------------------------------------------------------


def compare(asked: argparse.Namespace) -> str:
    """The table real / generated, and what a classifier makes of both."""
    stored, told = np.load(asked.rows), json.loads(asked.survey.read_text())
    jobs = [
        (start, min(start + BATCH, asked.programs)) for start in range(0, asked.programs, BATCH)
    ]
    drawn = list(results_in_order(_drawn, jobs, asked.processes))
    found = tell_apart(
        stored["features"], np.concatenate([f for f, _ in drawn]), stored["repository"], FEATURES
    )
    made = mean_traits((t, 1.0) for _, some in drawn for t in some)
    lines = ["| | | public C | corpus |", "|---|---|---:|---:|"]
    for name, real in told["traits"].items():
        mine = made.get(name, {})
        lines.append(f"| **{name}** (apart {distance(real, mine):.2f}) | | | |")
        for value in dict.fromkeys([*real, *mine]):
            shares = (f"{100 * s.get(value, 0.0):.0f} %" for s in (real, mine))
            lines.append(f"| | {value} | " + " | ".join(shares) + " |")
    lines += ["", f"AUC {found.auc:.3f}; apart: "]
    lines += [f"  {apart:.2f} {name}" for name, apart in found.apart[:25]]
    return "\n".join(lines) + "\n"


def _drawn(start: int, stop: int) -> tuple[Singles, list[Traits]]:
    programs = [random_program(random.Random(f"survey/{n}")) for n in range(start, stop)]
    return features(lower(programs)), [traits(p) for p in programs]


if __name__ == "__main__":
    sys.exit(main())
