"""Bring the page of the peers up to date with the files of runs.

    python -m benchmarks.peers_page own.json [poly.json]

`own.json` is of `python -m benchmarks.peers --json`, `poly.json` of the same with ``--polybench``;
the machine, budget and versions of a run are in its file. What is between the lines of a mark in
`docs/explanation/peers.md` is written anew, and the drawings beside it; what is said about them is
not. Needed: `pip install '.[evaluate]'`.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers_plot import draw
from benchmarks.peers_protocol import ROOT
from benchmarks.peers_tables import markdown

PAGE = ROOT / "docs" / "explanation" / "peers.md"
WIDTH = 100
DRAWINGS = {"own": "peers.svg", "polybench": "peers-polybench.svg"}


def figures(found: Mapping[str, Any], drawing: str) -> str:
    """What a run says of itself, its tables, and its drawing."""
    machine, peers = found["machine"], found["peers"]
    data = f", PolyBench's {found['dataset']} sizes" if found["dataset"] else ""
    told = (
        f"{machine['model']}, {machine['threads']} threads, a budget of {found['budget_s']:g} s a "
        f"function{data}: {'; '.join(dict.fromkeys(peers.values()))}. Each cell: "
        "how many times as fast as gcc -O3, and after how many seconds it was found."
    )
    lines = [*textwrap.wrap(told, WIDTH), ""]
    for line in markdown(found).splitlines():
        plain = line.startswith("- ")
        lines += textwrap.wrap(line, WIDTH, subsequent_indent="  ") if plain else [line]
    return "\n".join([*lines, "", f"![speed against the time it took to find it]({drawing})", ""])


def renewed(page: str, mark: str, text: str) -> str:
    """The page with other text between ``<!-- mark -->`` and ``<!-- end of mark -->``.

    Raises:
        ValueError: it has no such lines.
    """
    before, first, rest = page.partition(f"<!-- {mark} -->\n")
    _, last, after = rest.partition(f"<!-- end of {mark} -->\n")
    if not first or not last:
        raise ValueError(f"no lines for {mark!r}")
    return f"{before}{first}\n{text}\n{last}{after}"


def main(page: Path = PAGE) -> None:
    for file in sys.argv[1:]:
        found = json.loads(Path(file).read_text())
        mark = "polybench" if found["dataset"] else "own"
        text = figures(found, DRAWINGS[mark])
        page.write_text(renewed(page.read_text(), mark, text))
        draw(found, page.with_name(DRAWINGS[mark]))


if __name__ == "__main__":
    main()
