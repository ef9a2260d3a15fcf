"""What is known of machine and compiler, for a bundle's prior: by name to store, and as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agent.measure.toolchain import family_of
from agent.model.facts import FACTS, facts_of

if TYPE_CHECKING:
    from agent.arrays import Doubles
    from agent.measure.machine import Machine

KnownFacts = Mapping[str, float | None]


def facts_known(
    machine: Machine, vector_bytes: int = 0, version: str = "", flags: Sequence[str] = ()
) -> KnownFacts:
    """What a bundle's prior may know, by name; None where it is not known.

    Args:
        machine: this one.
        vector_bytes: widest vectors of the compiled code; 0: not known.
        version: the first line a compiler says of itself; empty: not known which it will be.
        flags: of every compilation.
    """
    family = family_of(version) if version else ""
    found = facts_of(vector_bytes, machine.threads, machine.caches, family, flags)
    return {name: None if np.isnan(x) else float(x) for name, x in zip(FACTS, found, strict=True)}


def facts_vector(known: KnownFacts | None) -> Doubles:
    """[f] facts in the order of ``FACTS``; nan for every one that is not known."""
    values = [(known or {}).get(name) for name in FACTS]
    return np.array([math.nan if x is None else x for x in values], dtype=np.float64)
