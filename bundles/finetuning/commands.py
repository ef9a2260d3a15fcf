"""``bundles finetune``: parse, one call, show. Torch waits for the call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from agent.errors import AgentError
from agent.terminal.options import with_records
from bundles.terminal import As_Json, needs, say, show_json
from bundles.training.commands import in_brief

BUDGETS = (200, 1000, 3000)


def attach(app: typer.Typer) -> None:
    """Add the command to the ``bundles`` app."""
    example = (
        "bundles finetune --bundle bundles/default --labels labels/mine.parquet --out my-bundle"
    )
    app.command(epilog=f"Example: `{example}` (about a minute)")(finetune)


@dataclass(frozen=True)
class FinetuneOptions:
    """What to learn from, and how."""

    labels: Annotated[
        list[Path], typer.Option(help="A file of `bundles measure`; repeat for more targets.")
    ]
    out: Annotated[
        Path | None, typer.Option(help="Directory of the new bundle; replaced if it exists.")
    ] = None
    bundle: Annotated[Path | None, typer.Option(help="Default: the bundle of the agent.")] = None
    mode: Annotated[
        Literal["staged", "frozen", "free"],
        typer.Option(help="When the encoder learns: after the heads, never, or from the start."),
    ] = "staged"
    seed: Annotated[int, typer.Option(min=0, help="Of validation programs and batches.")] = 0
    compare: Annotated[
        bool, typer.Option("--compare", help="Write nothing; try all modes at several budgets.")
    ] = False
    budget: Annotated[
        list[int] | None,
        typer.Option(min=1, help=f"With --compare: labels a target; repeat. {list(BUDGETS)}"),
    ] = None
    seeds: Annotated[int, typer.Option(min=1, max=100, help="With --compare: how many.")] = 3


@with_records
def finetune(options: FinetuneOptions, as_json: As_Json = False) -> None:
    """Fine-tune a bundle on a site's own labels: the heads first, then slowly the encoder."""
    if not options.compare and options.out is None:
        raise AgentError("nothing to write to", "Give --out DIRECTORY, or --compare.")
    needs("torch", "onnx", "pyarrow")
    from agent.bundle.bundle import default_bundle, load_bundle
    from bundles.finetuning.compare import compare_modes, comparison_table
    from bundles.finetuning.finetune import fine_tune
    from bundles.finetuning.tuning import Mode, Tuning
    from bundles.labels.labels import load_labels

    start = load_bundle(options.bundle or default_bundle())
    tuning = Tuning(mode=Mode(options.mode), seed=options.seed)
    timed = [load_labels(path) for path in options.labels]
    if options.compare or options.out is None:
        budgets = options.budget or BUDGETS
        found = compare_modes(start, timed, tuning, budgets, options.seeds, say)
        show_json(found.to_json()) if as_json else typer.echo(comparison_table(found))
        return
    manifest = fine_tune(start, timed, options.out, tuning, say)
    if as_json:
        show_json(in_brief(manifest))
