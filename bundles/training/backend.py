"""Where a run happens, decided once: in this process, in a work directory, or on a cluster."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from agent.errors import InputError
from bundles.training import cluster
from bundles.training.dataset import (
    Dataset,
    Progress,
    Recipe,
    TrainingData,
    generate,
    in_processes,
)
from bundles.training.network import Pretrainer
from bundles.training.settings import Say, TrainingSettings, Where
from bundles.training.shards import held_alone, stored
from bundles.training.training import Log, TrainingWorker, check_device, fit

DEVICES = ("cpu", "cuda")
SAID_EVERY_S = 10.0


@contextmanager
def ready(where: Where) -> Iterator[Where]:
    """The place of a run, checked, locked and connected while in the context.

    Raises:
        InputError: options that do not fit each other or this machine; no cluster there.
        BusyError: another run uses the work directory.
    """
    _check(where)
    with ExitStack() as stack:
        work = where.work
        if work is None and where.address:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bundles-")))
        if work is not None:
            work = work.absolute()
            stack.enter_context(held_alone(work))
        if where.address:
            stack.enter_context(cluster.connected(where.address))
            cluster.check_workers(where)
        yield replace(where, work=work)


def _check(where: Where) -> None:
    if where.device not in DEVICES:
        raise InputError(f"--device {where.device} is not known", f"Use {' or '.join(DEVICES)}.")
    if where.workers > 1 and not where.address:
        raise InputError(
            "several workers need a cluster", "Add --address local, or leave out --workers."
        )
    if where.address not in ("", cluster.LOCAL) and where.work is None:
        raise InputError(
            "a cluster needs a work directory", "Add --work DIR on storage that every node sees."
        )
    if not where.address:
        check_device(where.device)


def every_few_seconds(say: Say) -> Progress:
    """Progress of programs, said every ten seconds and at the end."""
    shown = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - shown[0] > SAID_EVERY_S or done == total:
            shown[0] = time.monotonic()
            say(f"programs {done}/{total}")

    return progress


def corpus(recipe: Recipe, processes: int, where: Where, progress: Progress) -> Dataset:
    """The data set of a recipe: in memory, or in the work directory where there is one."""
    if where.work is None:
        return generate(recipe, processes, progress)
    make = cluster.on_cluster(where.address) if where.address else in_processes(processes)
    return stored(recipe, where.work, make, progress)


def train(
    settings: TrainingSettings, data: TrainingData, say: Say, where: Where
) -> tuple[Pretrainer, Log]:
    """``training.fit`` where the run happens."""
    if where.address:
        return cluster.fit_on_cluster(settings, data, say, where)
    return fit(settings, data, say, TrainingWorker(where.device, kept=where.work))
