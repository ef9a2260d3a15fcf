"""Manual pages and completion of ``agent`` from its own command line.

    make_help.py /usr/share

One page for the whole, one a command (``agent-bundle-pin.1``), so that they say what ``--help``
says. Run by debian/rules with the packaged virtual environment, and by tests.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.completion import get_completion_script

from agent import __version__
from agent.commands.root import app

SEE = "/usr/share/doc/calibration-agent/docs/reference"


def pages(command: Any, above: Any = None) -> Iterator[tuple[str, str]]:
    """Names and texts of the pages of a command and of those below it."""
    context = command.make_context(
        command.name or "agent", [], parent=above, resilient_parsing=True
    )
    words = context.command_path.split()
    yield f"{'-'.join(words)}.1", _page(command, context, words)
    for name in getattr(command, "commands", {}):
        yield from pages(command.commands[name], context)


def _page(command: Any, context: Any, words: list[str]) -> str:
    title, path = "-".join(words), " ".join(words)
    first, *rest = inspect.cleandoc(command.help or "").split("\n\n")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH {_text(title.upper())} 1 "" "calibration-agent {__version__}" "User Commands"',
        f".SH NAME\n{_text(title)} \\- {_text(' '.join(first.split()).rstrip('.'))}",
        f".SH SYNOPSIS\n.B {_text(path)}\n{_text(usage)}",
    ]
    if rest:
        paragraphs = "\n.PP\n".join(_text(" ".join(part.split())) for part in rest)
        lines.append(f".SH DESCRIPTION\n{paragraphs}")
    records = [p.get_help_record(context) for p in command.get_params(context)]
    lines += _listed("OPTIONS", [r for r in records if r])
    inner = getattr(command, "commands", {})
    summaries = [(f"{path} {name}", one.get_short_help_str(10_000)) for name, one in inner.items()]
    lines += _listed("COMMANDS", summaries)
    if command.epilog:
        lines.append(f".SH EXAMPLES\n{_text(command.epilog.removeprefix('Example: '))}")
    lines.append(f".SH SEE ALSO\n.nf\n{_text(SEE)}/cli.md\n{_text(SEE)}/exit\\-codes.md\n.fi")
    return "\n".join(lines) + "\n"


def _listed(heading: str, rows: list[tuple[str, str]]) -> list[str]:
    entries = [f".TP\n.B {_text(name)}\n{_text(' '.join(text.split()))}" for name, text in rows]
    return [f".SH {heading}", *entries] if entries else []


def _text(words: str) -> str:
    """As roff prints it: no word of it is a request, and hyphens stay hyphens."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def main(share: Path) -> None:
    """Write the pages, and what bash asks for completions."""
    for name, text in pages(typer.main.get_command(app)):
        _write(share / "man" / "man1" / name, text)
    names = {"prog_name": "agent", "complete_var": "_AGENT_COMPLETE", "shell": "bash"}
    script = get_completion_script(**names)
    _write(share / "bash-completion" / "completions" / "agent", script + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
