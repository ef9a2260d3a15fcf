"""``bundles measure`` and ``merge``: parse, one call, show. Heavy imports wait for the call."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agent.terminal.options import with_records
from bundles.terminal import As_Json, say, show_json


def attach(app: typer.Typer) -> None:
    """Add the commands to the ``bundles`` app."""
    example = "bundles measure --machine zen5-vm --out labels --threads 2 --threads 1"
    hours = "2,000 programs: one to three hours; stop it and go on whenever you like"
    app.command(epilog=f"Example: `{example}` ({hours})")(measure)
    example = (
        "bundles merge monday/box-gcc-O3-native-t2.parquet tuesday/*-t2.parquet --out all.parquet"
    )
    app.command(epilog=f"Example: `{example}`")(merge)


@dataclass(frozen=True)
class MeasureOptions:
    """What to time, and how."""

    machine: Annotated[
        str,
        typer.Option(help="A name for this class of machine; it is published, so no host name."),
    ]
    out: Annotated[Path, typer.Option(help="Directory of the label files and their journals.")]
    programs: Annotated[int, typer.Option(min=0, max=1_000_000, help="Random programs.")] = 2_000
    schedules: Annotated[int, typer.Option(min=2, max=200, help="Of each, as written too.")] = 16
    kernel_schedules: Annotated[
        int, typer.Option(min=0, max=200, help="Of each kernel of the fixed set; 0: none.")
    ] = 12
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Of parallel loops; repeat for more targets.")
    ] = None
    compiler: Annotated[str | None, typer.Option(help="Default: CC, cc, gcc or clang.")] = None
    flags: Annotated[
        str | None, typer.Option(help="In place of the default flags, such as '-O2 -fopenmp'.")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of the labelled corpus.")] = 0
    lock: Annotated[
        Path | None, typer.Option(help="A file locked (flock) while something is timed.")
    ] = None


@with_records
def measure(options: MeasureOptions, as_json: As_Json = False) -> None:
    """Time random programs and the fixed set here: labels of a reference machine (Parquet)."""
    from bundles.labels.measure import Campaign, measure_labels

    campaign = Campaign(
        options.machine,
        options.programs,
        options.schedules,
        options.kernel_schedules,
        options.seed,
        tuple(options.threads or (1,)),
    )
    flags = shlex.split(options.flags) if options.flags else None
    paths = measure_labels(campaign, options.out, options.compiler, flags, say, options.lock)
    if as_json:
        show_json({"files": [str(path) for path in paths]})
    else:
        typer.echo("\n".join(map(str, paths)))


def merge(
    files: Annotated[list[Path], typer.Argument(help="Label files of one target.")],
    out: Annotated[Path, typer.Option(help="The label file to write; replaced where it is there.")],
    as_json: As_Json = False,
) -> None:
    """Put label files of one target together; of a program in several, the first is kept."""
    from bundles.labels.merge import merge_labels

    programs = merge_labels(files, out)
    if as_json:
        show_json({"file": str(out), "programs": programs})
    else:
        typer.echo(f"{out}: {programs} programs")
