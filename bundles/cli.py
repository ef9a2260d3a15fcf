"""The ``bundles`` command: parse, one call, show. Torch is imported only where it is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from agent.errors import AgentError, Exit
from bundles.fleet.cli import fleet
from bundles.repository import commands as publish_cli

app = typer.Typer(
    name="bundles",
    help="Make, show and publish encoder bundles: what the agent knows before it sees a machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
As_Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _show(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


@app.callback()
def _root() -> None:
    """Keeps the name of a subcommand mandatory."""


@app.command(
    epilog="Example: `bundles pretrain --labels bundles/labels/box.parquet --out my-bundle`"
)
def pretrain(
    out: Annotated[Path, typer.Option(help="Directory of the bundle; replaced if it exists.")],
    seed: Annotated[int, typer.Option(min=0, help="Of programs, machines and training.")] = 0,
    programs: Annotated[int | None, typer.Option(min=40, max=100_000_000)] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=10_000)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run, for tests.")] = False,
    work: Annotated[
        Path | None,
        typer.Option(help="Directory for data and checkpoints: the same command again goes on."),
    ] = None,
    address: Annotated[
        str, typer.Option(help="Ray cluster (HOST:PORT or ray://...); `local` starts one here.")
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="Of the cluster, for training.")] = 1,
    device: Annotated[str, typer.Option(help="Where to train: `cpu` or `cuda`.")] = "cpu",
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Label file of a reference machine (`bundles measure`); repeat it."),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the bundle.")] = "default",
    version: Annotated[str, typer.Option(help="Of the bundle; default: the time of making.")] = "",
    evaluation: Annotated[
        Path | None, typer.Option(help="evaluation.json of `bundles evaluate`, to keep with it.")
    ] = None,
    as_json: As_Json = False,
) -> None:
    """Make a bundle: an encoder from simulated and reference machines, the prior of its heads."""
    from dataclasses import replace

    from bundles.training.settings import Settings, Where
    from bundles.training.settings import quick as tiny

    pipeline = _pipeline()
    settings = tiny(Settings(seed=seed)) if quick else Settings(seed=seed)
    chosen = {"programs": programs, "epochs": epochs}
    settings = replace(settings, **{k: v for k, v in chosen.items() if v is not None})
    known = []
    if labels:
        _needs("pyarrow")
        from bundles.labels.labels import load_labels

        known = [load_labels(path) for path in labels]
    found = None
    if evaluation:
        from bundles.evaluation.report import brief

        found = brief(evaluation)
    where = Where(work, address, workers, device)
    manifest = pipeline.pretrain(
        settings, out, _say, where, known, evaluation=found, named=(name, version)
    )
    if as_json:
        _show(_summary(manifest))


def _pipeline() -> Any:
    try:
        from bundles.training import pretrain as pipeline
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "onnx"):
            raise
        raise AgentError(
            f"pre-training needs {error.name}, which is not installed",
            hint="Install the extra: pip install torch==2.13.0 '.[pretrain]' in a checkout.",
        ) from error
    return pipeline


@app.command(epilog="Example: `bundles inspect bundles/default`")
def inspect(
    directory: Annotated[Path, typer.Argument(help="The bundle.")],
    as_json: As_Json = False,
) -> None:
    """Verify a bundle and show what it is, what it was made from and how good it is."""
    from agent.bundle.bundle import load_bundle
    from agent.bundle.describe import describe, shown
    from agent.bundle.encoder import Encoder, self_test
    from agent.model.prior import Prior

    bundle = load_bundle(directory)
    prior = Prior.from_json(bundle.prior)
    difference = self_test(bundle, Encoder(bundle))
    value = describe(bundle, prior, difference)
    if as_json:
        _show(value)
    else:
        typer.echo(shown(value))


@app.command(
    epilog="Example: `bundles design --bundle bundles/default --out agent/kernels/set.toml`"
)
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

    chosen = design_set(load_bundle(bundle or default_bundle()), count, candidates, _say)
    if out is not None:
        write_set(out, chosen)
    if as_json:
        _show([{"kernel": c.kernel, "schedule": c.schedule} for c in chosen])
    elif out is None:
        typer.echo("\n".join(f"{c.kernel:>18}  {c.schedule}" for c in chosen))


@app.command(
    epilog="Example: `bundles measure --machine zen5-vm --out labels --threads 2 --threads 1` "
    "(2,000 programs: about an hour; stop it and go on whenever you like)"
)
def measure(
    machine: Annotated[
        str,
        typer.Option(help="A name for this class of machine; it is published, so no host name."),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the label files and their journals.")],
    programs: Annotated[int, typer.Option(min=0, max=1_000_000, help="Random programs.")] = 2_000,
    schedules: Annotated[int, typer.Option(min=2, max=200, help="Of each, as written too.")] = 16,
    kernel_schedules: Annotated[
        int, typer.Option(min=0, max=200, help="Of each kernel of the fixed set; 0: none.")
    ] = 12,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Of parallel loops; repeat for more targets.")
    ] = None,
    compiler: Annotated[str | None, typer.Option(help="Default: CC, cc, gcc or clang.")] = None,
    flags: Annotated[
        str | None, typer.Option(help="In place of the default flags, such as '-O2 -fopenmp'.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the labelled corpus.")] = 0,
    lock: Annotated[
        Path | None, typer.Option(help="A file locked (flock) while something is timed.")
    ] = None,
    as_json: As_Json = False,
) -> None:
    """Time random programs and the fixed set here: labels of a reference machine (Parquet)."""
    import shlex

    from bundles.labels.measure import Plan
    from bundles.labels.measure import measure as run

    plan = Plan(machine, programs, schedules, kernel_schedules, seed, tuple(threads or (1,)))
    paths = run(plan, out, compiler, shlex.split(flags) if flags else None, _say, lock)
    if as_json:
        _show({"files": [str(path) for path in paths]})
    else:
        typer.echo("\n".join(map(str, paths)))


@app.command(
    epilog="Example: `bundles finetune --bundle bundles/default --labels labels/mine.parquet "
    "--out my-bundle` (about a minute)"
)
def finetune(
    labels: Annotated[
        list[Path], typer.Option(help="A file of `bundles measure`; repeat for more targets.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the new bundle; replaced if it exists.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Default: the bundle of the agent.")] = None,
    mode: Annotated[
        Literal["staged", "frozen", "free"],
        typer.Option(help="When the encoder learns: after the heads, never, or from the start."),
    ] = "staged",
    seed: Annotated[int, typer.Option(min=0, help="Of validation programs and batches.")] = 0,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write nothing; try all modes at several budgets.")
    ] = False,
    budget: Annotated[
        list[int] | None,
        typer.Option(min=1, help="With --compare: labels a target; repeat. [200, 1000, 3000]"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="With --compare: how many.")] = 3,
    as_json: As_Json = False,
) -> None:
    """Fine-tune a bundle on a site's own labels: the heads first, then slowly the encoder."""
    if not compare and out is None:
        raise AgentError("nothing to write to", "Give --out DIRECTORY, or --compare.")
    _needs("torch", "onnx", "pyarrow")
    from agent.bundle.bundle import default_bundle, load_bundle
    from bundles.finetuning.compare import BUDGETS, table
    from bundles.finetuning.compare import compare as compared
    from bundles.finetuning.finetune import finetune as run
    from bundles.finetuning.tuning import Mode, Tuning
    from bundles.labels.labels import load_labels

    start, tuning = load_bundle(bundle or default_bundle()), Tuning(mode=Mode(mode), seed=seed)
    timed = [load_labels(path) for path in labels]
    if compare or out is None:
        found = compared(start, timed, tuning, budget or BUDGETS, seeds, _say)
        _show(found) if as_json else typer.echo(table(found))
        return
    manifest = run(start, timed, out, tuning, _say)
    if as_json:
        _show(_summary(manifest))


@app.command(epilog="Example: `bundles evaluate labels/*.parquet --leave target --out evaluation`")
def evaluate(
    out: Annotated[Path, typer.Option(help="Directory of the report.")],
    labels: Annotated[
        list[Path] | None, typer.Argument(help="Label files: evaluated, or learned from.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluate this file (repeat for more); LABELS are only learned from."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="To evaluate as it is. Default: the agent's.")
    ] = None,
    leave: Annotated[
        str | None,
        typer.Option(help="`machine` or `target`: train encoders that never saw the one tested."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Draws of labels.")] = 5,
    budgets: Annotated[
        str, typer.Option(help="Numbers of labels.")
    ] = "0,8,16,24,48,96,200,400,1000,3000",
    arms: Annotated[str, typer.Option(help="Some of the arms, by name. [all]")] = "",
    work: Annotated[
        Path | None, typer.Option(help="Directory of trained encoders. [OUT/cache]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=256)] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="A tiny run, for tests.")] = False,
    as_json: As_Json = False,
) -> None:
    """Compare the bundle with its controls on machines and programs it never saw."""
    _needs("torch", "pyarrow", "xgboost", "matplotlib", extras="pretrain,evaluate")
    from bundles.evaluation.evaluate import evaluate as run
    from bundles.evaluation.evaluate import request
    from bundles.evaluation.tables import show

    wanted = request(
        labels or (), data or (), out, work, bundle, leave, budgets, seeds, arms, processes, quick
    )
    found = run(wanted, _say)
    if as_json:
        _show(found)
    else:
        show(found)


@app.command(name="check-simulator", epilog="Example: `bundles check-simulator labels/*.parquet`")
def check_simulator(
    labels: Annotated[list[Path], typer.Argument(help="Label files of `bundles measure`.")],
    as_json: As_Json = False,
) -> None:
    """Compare simulated times with real labels, by kind of program and schedule."""
    _needs("pyarrow")
    from bundles.evaluation.check_simulator import check, shown

    found = [check(path) for path in labels]
    if as_json:
        _show([c.to_json() for c in found])
    else:
        typer.echo(shown(found))


@app.command(
    epilog="Example: `bundles tiramisu tiramisu-public.jsonl.xz --out labels/tiramisu.parquet` "
    "(a few minutes)"
)
def tiramisu(
    file: Annotated[Path, typer.Argument(help="Timings in the LOOPerSet format, JSON lines.")],
    out: Annotated[Path, typer.Option(help="The file of labels (Parquet); replaced if it exists.")],
    as_json: As_Json = False,
) -> None:
    """Turn public Tiramisu timings into labels of one more reference machine."""
    _needs("pyarrow")
    from bundles.labels.tiramisu import load_tiramisu

    report = load_tiramisu(file, out, _say).as_json()
    if as_json:
        _show({**report, "file": str(out)})
        return
    typer.echo(f"{out}: {report['used']} of {report['schedules']} schedules "
               f"of {report['programs']} programs ({report['share_used']:.1%})")  # fmt: skip
    for reason, count in report["skipped"].items():
        typer.echo(f"{count:>9}  left out: {reason}")


publish_cli.attach(app)
app.add_typer(fleet)


def _needs(*modules: str, extras: str = "pretrain") -> None:
    """AgentError where one of them is not installed."""
    from importlib.util import find_spec

    if missing := [name for name in modules if find_spec(name) is None]:
        raise AgentError(
            f"this needs {missing[0]}, which is not installed",
            hint=f"Install the extra: pip install torch==2.13.0 '.[{extras}]' in a checkout.",
        )


def _summary(manifest: dict[str, Any]) -> dict[str, Any]:
    provenance = manifest["provenance"]
    return {
        "name": manifest["name"],
        "version": manifest["version"],
        "files": manifest["files"],
        "elapsed_s": provenance["elapsed_s"],
        "evaluation": provenance["evaluation"],
    }


def main() -> int:
    """Run the command line; the exit code. Expected failures are a message and a hint."""
    try:
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else Exit.OK
    except AgentError as error:
        return _fail(error)
    except KeyboardInterrupt:
        _say("interrupted")
        return Exit.INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer has no public name for it
            return error.exit_code  # the help was shown
        return _fail(AgentError(error.format_message(), "See `bundles --help`."))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no second error at exit
        return Exit.OK
    except Exception as error:  # noqa: BLE001  the boundary: whatever is left is our bug
        from agent.terminal.crash import BugError, write_log

        hint = write_log(error, os.environ, sys.argv)
        return _fail(BugError(f"unexpected {type(error).__name__}: {error}", hint))


def _fail(error: AgentError) -> int:
    _say(f"error: {error.message}")
    if error.hint:
        _say(f"hint: {error.hint}")
    return error.exit_code
