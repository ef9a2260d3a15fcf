"""``bundles pretrain`` and ``bundles inspect``: parse, one call, show. Torch waits for the call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from agent.terminal.options import with_records
from bundles.terminal import As_Json, needs, say, show_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bundles.labels.labels import Labels
    from bundles.training.pretrain import PretrainingRun


def attach(app: typer.Typer) -> None:
    """Add the commands to the ``bundles`` app."""
    example = "bundles pretrain --labels bundles/labels/box.parquet --out my-bundle"
    app.command(epilog=f"Example: `{example}`")(pretrain)
    app.command(epilog="Example: `bundles inspect bundles/default`")(inspect)


@dataclass(frozen=True)
class PretrainOptions:
    """What to make, from what, and where."""

    out: Annotated[Path, typer.Option(help="Directory of the bundle; replaced if it exists.")]
    seed: Annotated[int, typer.Option(min=0, help="Of programs, machines and training.")] = 0
    programs: Annotated[int | None, typer.Option(min=40, max=100_000_000)] = None
    epochs: Annotated[int | None, typer.Option(min=1, max=10_000)] = None
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run, for tests.")] = False
    work: Annotated[
        Path | None,
        typer.Option(help="Directory for data and checkpoints: the same command again goes on."),
    ] = None
    address: Annotated[
        str, typer.Option(help="Ray cluster (HOST:PORT or ray://...); `local` starts one here.")
    ] = ""
    workers: Annotated[int, typer.Option(min=1, help="Of the cluster, for training.")] = 1
    device: Annotated[str, typer.Option(help="Where to train: `cpu` or `cuda`.")] = "cpu"
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Label file of a reference machine (`bundles measure`); repeat it."),
    ] = None
    name: Annotated[str, typer.Option(help="Of the bundle.")] = "default"
    version: Annotated[str, typer.Option(help="Of the bundle; default: the time of making.")] = ""
    evaluation: Annotated[
        Path | None, typer.Option(help="evaluation.json of `bundles evaluate`, to keep with it.")
    ] = None

    def resolved(self) -> PretrainingRun:
        """What they come to, with the labels read.

        Raises:
            InputError: a file cannot be read.
        """
        from bundles.training.evidence import evaluation_in_brief
        from bundles.training.pretrain import PretrainingRun
        from bundles.training.settings import TrainingSettings, Where, quick_settings

        usual = TrainingSettings(seed=self.seed)
        settings = quick_settings(usual) if self.quick else usual
        return PretrainingRun(
            self.out,
            replace(
                settings,
                programs=self.programs or settings.programs,
                epochs=self.epochs or settings.epochs,
            ),
            Where(self.work, self.address, self.workers, self.device),
            _loaded(self.labels or ()),
            evaluation=evaluation_in_brief(self.evaluation) if self.evaluation else {},
            name=self.name,
            version=self.version,
            quick=self.quick,
        )


@with_records
def pretrain(options: PretrainOptions, as_json: As_Json = False) -> None:
    """Make a bundle: an encoder from simulated and reference machines, the prior of its heads."""
    needs("torch", "onnx", what="pre-training")
    from bundles.training.pretrain import pretrain as run

    manifest = run(options.resolved(), say)
    if as_json:
        show_json(in_brief(manifest))


def _loaded(paths: Sequence[Path]) -> list[Labels]:
    if paths:
        needs("pyarrow")
    from bundles.labels.labels import load_labels

    return [load_labels(path) for path in paths]


def in_brief(manifest: Mapping[str, object]) -> dict[str, object]:
    """What a manifest says, without its long parts."""
    provenance = cast("Mapping[str, object]", manifest["provenance"])
    return {
        "name": manifest["name"],
        "version": manifest["version"],
        "files": manifest["files"],
        "elapsed_s": provenance["elapsed_s"],
        "evaluation": provenance["evaluation"],
    }


def inspect(
    directory: Annotated[Path, typer.Argument(help="The bundle.")],
    as_json: As_Json = False,
) -> None:
    """Verify a bundle and show what it is, what it was made from and how good it is."""
    from agent.bundle.bundle import load_bundle
    from agent.bundle.describe import describe, description_text
    from agent.bundle.encoder import Encoder, golden_difference
    from agent.model.prior import Prior

    bundle = load_bundle(directory)
    prior = Prior.from_json(bundle.prior)
    difference = golden_difference(bundle, Encoder(bundle))
    value = describe(bundle, prior, difference)
    if as_json:
        show_json(value)
    else:
        typer.echo(description_text(value))
