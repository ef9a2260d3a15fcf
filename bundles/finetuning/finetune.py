"""Fine-tuning from a bundle and a site's label files to the site's own bundle, top to bottom.

    thaw the encoder -> join the labels -> tune in stages -> refit the prior -> evaluate -> export

The programs that ``labels.is_test`` names neither train nor validate anything: the figures before
and after come from them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from agent.bundle.bundle import Bundle
from agent.model.prior import Prior
from bundles.finetuning.refit import EmbeddedRows, prior_rows, refit_prior
from bundles.finetuning.site import Site, SiteFigures, join_labels, site_figures
from bundles.finetuning.start import (
    predicted_times,
    site_embedding,
    split_off_test,
    starting_heads,
    starting_point,
)
from bundles.finetuning.thaw import thaw
from bundles.finetuning.tuning import (
    StartingPoint,
    Tuned,
    Tuning,
    split_off_validation,
    tune_in_stages,
)
from bundles.labels.labels import Labels
from bundles.training.export import Export, code_version, export
from bundles.training.settings import Say
from bundles.training.taught import taught_by


@dataclass(frozen=True)
class TuningFigures:
    """On test programs: the bundle as it was, the tuned one, and the site's own heads on it."""

    before: SiteFigures
    after: SiteFigures
    own_heads: SiteFigures


def fine_tune(
    bundle: Bundle, labels: Sequence[Labels], out: Path, tuning: Tuning, say: Say
) -> dict[str, object]:
    """Make a site's bundle in the directory ``out``; returns its manifest.

    Args:
        bundle: to start from.
        labels: one a target, each with a head of its own.
        out: replaced as a whole at the end, not touched before.
        tuning: how.
        say: receives progress lines.

    Raises:
        AgentError: too few programs, a bundle that cannot be trained further, or ``out`` cannot be
            written.
    """
    started, code = time.monotonic(), code_version()
    encoder, prior = thaw(bundle), Prior.from_json(bundle.prior)
    pool, test = split_off_test(join_labels(labels))
    say(f"{len(pool)} programs to learn from, {pool.labels} speed-ups; {len(test)} to test on")
    start = starting_point(encoder, prior, pool)
    train, held = split_off_validation(pool, tuning)
    tuned = tune_in_stages(start, train, held, tuning, say)
    fitted = _prior(bundle, prior, start, pool, held, tuned)
    found = TuningFigures(
        site_figures(test, predicted_times(encoder, start.heads, test)),
        site_figures(test, predicted_times(tuned.encoder, starting_heads(fitted, test), test)),
        site_figures(test, predicted_times(tuned.encoder, tuned.heads, test)),
    )
    for name, row in asdict(found).items():
        say(f"{name:>9}: " + "  ".join(f"{k} {v:.3f}" for k, v in row.items()))
    provenance = {
        "code_version": code,
        **({"quick": True} if bundle.provenance.get("quick") else {}),
        **_recipe(bundle, tuning),
        "targets": _targets(labels, pool),
        "training_log": tuned.log,
        "evaluation": {**asdict(found), "protocol": _protocol(test)},
        "elapsed_s": round(time.monotonic() - started, 1),
    }
    golden = np.asarray(bundle.golden[0], np.float32)
    name = f"{bundle.name}-tuned"[:200]
    taught = tuple(sorted(bundle.taught.union(taught_by(labels))))
    made = Export(tuned.encoder, fitted, golden, provenance, name, taught=taught)
    return export(made, out, say)


def _prior(
    bundle: Bundle, prior: Prior, start: StartingPoint, pool: Site, held: Site, tuned: Tuned
) -> Prior:
    """The prior of the tuned encoder."""
    golden = torch.from_numpy(np.asarray(bundle.golden[0], np.float32))
    old, new = (
        prior_rows(pool, site_embedding(e, pool), e.embed(golden).numpy().astype(np.float64))
        for e in (start.encoder, tuned.encoder)
    )
    times = predicted_times(tuned.encoder, tuned.heads, held)
    return refit_prior(prior, EmbeddedRows(old, new), tuned.heads, held, times)


def _recipe(bundle: Bundle, tuning: Tuning) -> dict[str, object]:
    return {
        "seeds": {"all": tuning.seed},
        "recipe": asdict(tuning),
        "environment": {"torch": torch.__version__, "numpy": np.__version__}
        | {"python": platform.python_version(), "machine": platform.machine()},
        "data": "labelled timings of a site, each target with a head of its own",
        "tuned_from": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
    }


def _targets(labels: Sequence[Labels], pool: Site) -> list[dict[str, object]]:
    """What was learned from, target by target: machine classes and counts, no file names."""
    counts = np.isfinite(pool.speedup).sum(0)
    return [
        {**asdict(part.target), "labels": int(count)}
        for part, count in zip(labels, counts, strict=True)
    ]


def _protocol(test: Site) -> str:
    return (
        f"{len(test)} programs that neither trained nor validated anything, {test.labels} "
        "speed-ups; means over targets; no label of them is used before or after"
    )
