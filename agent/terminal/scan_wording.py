"""What ``agent scan`` says: the data of ``--json`` as words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from agent.clock import duration
from agent.terminal.blocks import Answer, Block, Table
from agent.terminal.numbers import DASH, Count, decimal, execution_time

SHOWN = 40  # nests of each kind; --json has them all


def scan_blocks(answer: Answer) -> list[Block]:
    """Nests that are read, the most promising first; then those that are not, and why."""
    read = [n for n in answer["nests"] if n["status"] == "read"]
    refused = [n for n in answer["nests"] if n["status"] != "read"]
    counted = f"{Count(len(answer['nests'])):loop nest} in {Count(answer['files']):file}"
    blocks: list[Block] = [
        f"{counted}, {len(read)} of them read, in {duration(answer['elapsed_s'])}."
    ]
    if read:
        rows = tuple(_row(n) for n in read[:SHOWN])
        blocks.append(Table(("speed-up", "seconds", "where", "schedule"), rows))
        blocks.append("Speed-ups are over the loops as the agent writes them: nothing is run here.")
    blocks += _not_read(refused)
    blocks += [f"Not C as a compiler knows it: {u['reason']}." for u in answer["unread"][:SHOWN]]
    missing = sorted({name for n in refused for name in n["missing"]})
    if missing:
        blocks.append(
            "Sizes that are not given: " + ", ".join(missing[:20]) + ". Give them with --size "
            "NAME=N, or all of them one value with --other-sizes N."
        )
    if read:
        blocks.append(_next(read[0]))
    return blocks


def _row(nest: Answer) -> tuple[str, ...]:
    promise = nest["promise"]
    if promise is None:
        return DASH, DASH, _where(nest), ""
    seconds = execution_time(promise["seconds"])
    return decimal(promise["speedup"]), seconds, _where(nest), promise["schedule"]


def _where(nest: Answer) -> str:
    return f"{nest['file']}:{nest['lines'][0]} {nest['function']}"


def _not_read(refused: list[Answer]) -> Iterator[Block]:
    if refused:
        yield "Not read:"
        rows = tuple((_where(n), _reason(n)) for n in refused[:SHOWN])
        yield Table(("where", "why"), rows)
        if len(refused) > SHOWN:
            yield f"... and {len(refused) - SHOWN} more (--json has them all)."


def _reason(nest: Answer) -> str:
    return str(nest["reason"]).removeprefix(f"{nest['file']}:")


def _next(nest: Answer) -> str:
    """The command that looks closer at the most promising nest."""
    sizes = [w for name, value in nest["sizes"].items() for w in ("--size", f"{name}={value}")]
    which = ["--nest", str(nest["nest"])] if (nest["nest"] or 1) > 1 else []
    words = ["agent", "rank", nest["file"], "--function", nest["function"], *which, *sizes]
    return (
        f"Look closer: {shlex.join(words)}"
        if nest["nest"]
        else f"The most promising is an inner nest of {nest['function']}."
    )
