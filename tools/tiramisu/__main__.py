"""Turn public Tiramisu timings into labels of one more reference machine (a few minutes).

Example: python -m tools.tiramisu tiramisu-public.jsonl.xz tiramisu-xeon.parquet
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.errors import AgentError, Exit
from agent.terminal import console
from bundles.terminal import needs, say, show_json
from tools.tiramisu.convert import Report, load_tiramisu


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, and say what was left out; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        needs("pyarrow")
        report = load_tiramisu(asked.public, asked.out, say)
    except AgentError as error:
        console.failure(error, as_json=False)
        return error.exit_code
    if asked.json:
        show_json({**report.as_json(), "file": str(asked.out)})
    else:
        sys.stdout.write(_in_words(report, asked.out))
    return Exit.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tools.tiramisu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("public", type=Path, help="timings in the LOOPerSet format, JSON lines")
    parser.add_argument("out", type=Path, help="file of labels (Parquet); replaced if it exists")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _in_words(report: Report, out: Path) -> str:
    told = report.as_json()
    lines = [
        f"{out}: {told['used']} of {told['schedules']} schedules "
        f"of {told['programs']} programs ({told['share_used']:.1%})",
        *(f"{count:>9}  left out: {reason}" for reason, count in told["skipped"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
