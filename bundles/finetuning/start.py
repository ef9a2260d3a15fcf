"""What fine-tuning starts from: the programs that may teach, and heads as the prior has them."""

from __future__ import annotations

import numpy as np
import torch

from agent.arrays import Doubles
from agent.errors import AgentError
from agent.model.prior import Prior
from bundles.finetuning.site import Site
from bundles.finetuning.tuning import StartingPoint
from bundles.training.network import Encoders

FEWEST_PROGRAMS, FEWEST_TESTS = 10, 3
HEAD_UNIT = 5.0  # sds of the prior in a unit of a head's parameters: one rate then suits all


def split_off_test(site: Site) -> tuple[Site, Site]:
    """Programs to learn from and to test on; AgentError where a target has too few of either."""
    pool, test = site.take(np.flatnonzero(~site.test)), site.take(np.flatnonzero(site.test))
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


def starting_point(encoder: Encoders, prior: Prior, site: Site) -> StartingPoint:
    """An encoder with the heads of its prior, which move as the prior lets them."""
    moves = HEAD_UNIT * np.column_stack([prior.scaled_directions, np.diag(prior.rest)])
    return StartingPoint(encoder, starting_heads(prior, site), moves)


def site_embedding(encoder: Encoders, site: Site) -> Doubles:
    """[n, E] embeddings of all versions."""
    return np.asarray(encoder.embed(torch.from_numpy(site.features)).numpy(), np.float64)


def predicted_times(encoder: Encoders, heads: Doubles, site: Site) -> Doubles:
    """[n, t] log seconds less log work by heads [t, E+1]."""
    times: Doubles = site_embedding(encoder, site) @ heads[:, :-1].T + heads[:, -1]
    return times
