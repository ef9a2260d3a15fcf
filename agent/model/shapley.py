"""Shapley values: what each of a few players adds to what all of them reach together.

L. S. Shapley, A value for n-person games, 1953: the mean, over all orders in which players join, of
what a player adds. Exact, by all 2^k coalitions.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from agent.arrays import Bools, Doubles


def coalitions(players: int) -> Bools:
    """[2^k, k] who is in each coalition: nobody first, everybody last."""
    inside: Bools = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    return inside


def shapley(values: Doubles) -> Doubles:
    """[k] shares of the players, which add up to ``values[-1] - values[0]``.

    Args:
        values: [2^k] what every coalition reaches, in the order of ``coalitions``.
    """
    players = len(values).bit_length() - 1
    inside = coalitions(players)
    size = inside.sum(axis=1)
    chance = [factorial(s) * factorial(players - s - 1) for s in range(players)]
    weight = np.array(chance, np.float64) / factorial(players)
    shares = np.zeros(players)
    for player in range(players):
        without = np.flatnonzero(~inside[:, player])
        gained = values[without + 2**player] - values[without]
        shares[player] = weight[size[without]] @ gained
    return shares
