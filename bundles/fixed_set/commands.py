"""``bundles design``: parse, one call, show. Heavy imports wait for the call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bundles.terminal import As_Json, say, show_json


def attach(app: typer.Typer) -> None:
    """Add the command to the ``bundles`` app."""
    example = "bundles design --bundle bundles/default --out agent/kernels/set.toml"
    app.command(epilog=f"Example: `{example}`")(design)


def design(
    bundle: Annotated[Path | None, typer.Option(help="Default: the bundle of the agent.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The set.toml to rewrite; default: print its variants.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=400, help="Variants to choose.")] = 48,
    candidates: Annotated[
        int, typer.Option(min=2, max=400, help="Schedules considered for each kernel.")
    ] = 40,
    as_json: As_Json = False,
) -> None:
    """Choose the order in which the fixed set is measured: every prefix a good experiment."""
    from agent.bundle.bundle import default_bundle, load_bundle
    from bundles.fixed_set.design import design_set, write_set

    chosen = design_set(load_bundle(bundle or default_bundle()), count, candidates, say)
    if out is not None:
        write_set(out, chosen)
    if as_json:
        show_json([{"kernel": c.kernel, "schedule": c.schedule} for c in chosen])
    elif out is None:
        typer.echo("\n".join(f"{c.kernel:>18}  {c.schedule}" for c in chosen))
