"""Fine-tuning from a bundle and a site's label files to the site's own bundle, top to bottom.

    thaw the encoder -> join the labels -> tune in stages -> refit the prior -> evaluate -> export

The programs that ``labels.is_test`` names neither train nor validate anything: the figures before
and after come from them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.arrays import Doubles
from agent.bundle.bundle import Bundle
from agent.errors import AgentError
from agent.model.prior import Prior
from bundles.finetuning.refit import Embedded, designs, refit
from bundles.finetuning.site import Site, apart, figures, join
from bundles.finetuning.thaw import thaw
from bundles.finetuning.tuning import Tuned, Tuning, embedded, split, tune
from bundles.labels.labels import Labels
from bundles.training.export import Export, code_version, export
from bundles.training.network import EncoderNetwork
from bundles.training.prior import Whitening
from bundles.training.settings import Say

FEWEST_PROGRAMS, FEWEST_TESTS = 10, 3
HEAD_UNIT = 5.0  # sds of the prior in a unit of a head's parameters: one rate then suits all


def finetune(
    bundle: Bundle, labels: Sequence[Labels], out: Path, tuning: Tuning, say: Say
) -> dict[str, Any]:
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
    pool, test = enough(join(labels))
    say(f"{len(pool)} programs to learn from, {pool.labels} speed-ups; {len(test)} to test on")
    start = starting_heads(prior, pool)
    train, held = split(pool, tuning)
    tuned = tune(encoder, start, spread(prior), train, held, tuning, say)
    fitted = _prior(bundle, encoder, prior, pool, held, tuned)
    evaluation = {
        "before": figures(test, predict(encoder, start, test)),
        "after": figures(test, predict(tuned.encoder, starting_heads(fitted, test), test)),
        "own_heads": figures(test, predict(tuned.encoder, tuned.heads, test)),
    }
    for name, row in evaluation.items():
        say(f"{name:>9}: " + "  ".join(f"{k} {v:.3f}" for k, v in row.items()))
    provenance = {
        "code_version": code,
        "seeds": {"all": tuning.seed},
        "recipe": asdict(tuning),
        "environment": {"torch": torch.__version__, "numpy": np.__version__}
        | {"python": platform.python_version(), "machine": platform.machine()},
        "data": "labelled timings of a site, each target with a head of its own",
        "tuned_from": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "targets": _targets(labels, pool),
        "training_log": tuned.log,
        "evaluation": {**evaluation, "protocol": _protocol(test)},
        "elapsed_s": round(time.monotonic() - started, 1),
    }
    white = Whitening(np.zeros(bundle.embedding), np.eye(bundle.embedding))  # folded in already
    golden = np.asarray(bundle.golden[0], np.float32)
    name = f"{bundle.name}-tuned"[:200]
    return export(Export(tuned.encoder, white, fitted, golden, provenance, name), out, say)


def enough(site: Site) -> tuple[Site, Site]:
    """Programs to learn from and to test on; AgentError where a target has too few of either."""
    pool, test = apart(site)
    needs = ((pool, FEWEST_PROGRAMS, "to learn from"), (test, FEWEST_TESTS, "to test on"))
    for part, least, use in needs:
        counts = part.timed.sum(0)
        worst = int(np.argmin(counts))
        if counts[worst] < least:
            raise AgentError(
                f"the labels of {site.targets[worst].name} have {counts[worst]} programs {use}; "
                f"at least {least} are needed",
                "Three in ten programs are kept for testing. Label more with `bundles measure`.",
            )
    return pool, test


def starting_heads(prior: Prior, site: Site) -> Doubles:
    """[t, E+1] what the prior says of each target before any label of it."""
    return np.array([prior.on(target.facts).mean for target in site.targets])


def spread(prior: Prior) -> Doubles:
    """[E+1, k] how the prior lets a head move, column by column."""
    return HEAD_UNIT * np.column_stack([prior.scaled_directions, np.diag(prior.rest)])


def embed(encoder: EncoderNetwork, site: Site) -> Doubles:
    """[n, E] embeddings of all versions."""
    return np.asarray(embedded(encoder, torch.from_numpy(site.features)).numpy(), np.float64)


def predict(encoder: EncoderNetwork, heads: Doubles, site: Site) -> Doubles:
    """[n, t] log seconds less log work by heads [t, E+1]."""
    times: Doubles = embed(encoder, site) @ heads[:, :-1].T + heads[:, -1]
    return times


def _prior(
    bundle: Bundle, encoder: EncoderNetwork, prior: Prior, pool: Site, held: Site, tuned: Tuned
) -> Prior:
    golden = torch.from_numpy(np.asarray(bundle.golden[0], np.float32))
    old, new = (
        designs(pool, embed(e, pool), embedded(e, golden).numpy().astype(np.float64))
        for e in (encoder, tuned.encoder)
    )
    times = predict(tuned.encoder, tuned.heads, held)
    return refit(prior, Embedded(old, new), tuned.heads, held, times, pool.targets)


def _targets(labels: Sequence[Labels], pool: Site) -> list[dict[str, Any]]:
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
