"""What players add together is shared out by the mean over all orders in which they join."""

from itertools import permutations

import numpy as np
import pytest

from agent.model.shapley import coalitions, shapley


def by_orders(values, players):
    """The definition, with the coalition's members as bits of its number."""
    shares = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        inside = 0
        for player in order:
            shares[player] += values[inside | 1 << player] - values[inside]
            inside |= 1 << player
    return shares / len(orders)


@pytest.mark.parametrize("players", [0, 1, 2, 4])
def test_shares_are_the_mean_over_all_orders_and_add_up(players):
    values = np.random.default_rng(players).normal(size=2**players)
    shares = shapley(values)
    assert shares == pytest.approx(by_orders(values, players))
    assert shares.sum() == pytest.approx(values[-1] - values[0])


def test_coalitions_begin_with_nobody_and_end_with_everybody():
    inside = coalitions(3)
    assert inside.shape == (8, 3)
    assert not inside[0].any()
    assert inside[-1].all()
    assert len(np.unique(inside, axis=0)) == 8
