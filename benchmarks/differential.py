"""Generated C functions against what is emitted for them: how many are read, and what differs.

    python -m benchmarks.differential [--functions 100000] [--first 0] [--jobs 2] [--scheduled 8] \
        --results FILE

Workers take a hundred seeds at a time and append a line of JSON for each hundred to FILE; hundreds
that stand there are not run again, so that a campaign may be stopped and go on. Every tenth hundred
runs under the address and undefined-behaviour sanitizers. Goal: nothing
differs. (tests/integration/test_differential.py tries a few hundred.)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.differential.campaign import BATCH, campaign
from tests.differential.compare import PLAIN, SANITIZE

SANITIZED = 10  # every how-manieth hundred


def hundred(first: int, scheduled: int) -> dict[str, Any]:
    """What came of the functions of a hundred seeds, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(first, first + BATCH)
        checked = first // BATCH % SANITIZED == 0
        flags = (*SANITIZE, "-O0") if checked else PLAIN
        try:
            counts = campaign(seeds, Path(folder), scheduled=scheduled, flags=flags)
        except Exception as error:  # noqa: BLE001  a campaign goes on, and tells at its end
            return {"first": first, "crash": f"{type(error).__name__}: {error}"[:2000]}
    told = [f"{d.version}: {d.what}\n{d.case.text}" for d in counts.differences]
    return {
        "first": first,
        "functions": counts.functions,
        "read": counts.read,
        "refused": counts.refused,
        "versions": counts.versions,
        "sanitized": counts.functions * checked,
        "differences": told,
    }


def _done(results: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in results.read_text().splitlines()] if results.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--functions", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scheduled", type=int, default=8, help="every how-manieth has schedules")
    parser.add_argument("--results", type=Path, required=True)
    options = parser.parse_args()
    known = {line["first"] for line in _done(options.results)}
    wanted = range(options.first, options.first + options.functions, BATCH)
    with ProcessPoolExecutor(options.jobs) as pool, options.results.open("a") as out:
        jobs = [pool.submit(hundred, n, options.scheduled) for n in wanted if n not in known]
        for job in as_completed(jobs):
            out.write(json.dumps(job.result()) + "\n")
            out.flush()
    report(_done(options.results))


def report(lines: list[dict[str, Any]]) -> None:
    """Prints the counts, every refusal's, and what differs."""
    refused = Counter[str]()
    for line in lines:
        refused.update(line.get("refused", {}))
        for told in (*line.get("differences", ()), *filter(None, [line.get("crash")])):
            print(f"hundred {line['first']}: {told}\n")
    for key in ("functions", "read", "versions", "sanitized"):
        print(f"{key}: {sum(line.get(key, 0) for line in lines):,}")
    print(f"refused: {refused.total():,}")
    for why, count in refused.most_common():
        print(f"{count:8,}  {why}")
    print(f"different: {sum(len(line.get('differences', ())) for line in lines):,} versions")
    print(f"crashes: {sum('crash' in line for line in lines):,} hundreds")


if __name__ == "__main__":
    main()
