import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingRegressor

from agent.json_values import MalformedError
from agent.model.boosting import MOST_NODES, Forest, fit_forest, from_sklearn


def make_data(seed=0, rows=80, inputs=6):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, inputs))
    return features, np.where(features[:, 1] > 0.3, 1.0, -0.5) + 0.1 * rng.normal(size=rows)


def make_forest():
    features, target = make_data()
    return fit_forest(features, target, np.ones(len(target)), seed=3)


@given(
    seed=st.integers(0, 1000),
    depth=st.integers(1, 4),
    trees=st.integers(1, 12),
    rate=st.floats(0.01, 1.0),
)
@settings(deadline=None, max_examples=25)
def test_the_walk_agrees_with_sklearn(seed, depth, trees, rate):
    features, target = make_data(seed)
    model = GradientBoostingRegressor(
        init="zero", n_estimators=trees, max_depth=depth, learning_rate=rate, random_state=seed
    )
    model.fit(features, target)
    unseen = np.concatenate([features, make_data(seed + 1)[0]])
    np.testing.assert_allclose(
        from_sklearn(model).predict(unseen), model.predict(unseen), atol=1e-9, rtol=0
    )


def test_a_forest_survives_json_bit_for_bit():
    forest, (features, _) = make_forest(), make_data(9)
    again = Forest.from_json(json.loads(json.dumps(forest.to_json())))
    assert np.array_equal(again.predict(features), forest.predict(features))
    assert again.to_json() == forest.to_json()


def test_a_forest_learns_a_step():
    features, target = make_data(5)
    error = make_forest().predict(features) - target
    assert np.abs(error).mean() < 0.5 * np.abs(target).mean()


def test_a_forest_without_trees_adds_nothing():
    data = {"inputs": 2} | {k: [] for k in make_forest().to_json() if k != "inputs"}
    assert not Forest.from_json(data).predict(np.ones((3, 2))).any()


def test_predicting_for_no_rows_gives_no_rows():
    assert make_forest().predict(np.zeros((0, 6))).shape == (0,)


SPOILED = {
    "child out of range": ("left", 0, 9999),
    "negative child": ("left", 0, -2),
    "a cycle": ("right", 0, 0),
    "one child only": ("right", 0, -1),
    "feature out of range": ("feature", 0, 6),
    "negative feature": ("feature", 0, -3),
    "infinite threshold": ("threshold", 0, float("inf")),
    "nan value": ("value", 1, float("nan")),
    "root out of range": ("roots", 0, 100_000),
    "negative root": ("roots", 0, -1),
    "half a child": ("left", 0, 1.5),
    "a word": ("value", 0, "1"),
}


@pytest.mark.parametrize(("name", "at", "value"), SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_forest_is_refused(name, at, value):
    data = make_forest().to_json()
    data[name][at] = value
    with pytest.raises(MalformedError):
        Forest.from_json(data)


def test_arrays_of_different_lengths_are_refused():
    data = make_forest().to_json()
    data["value"].append(0.0)
    with pytest.raises(MalformedError, match="value has"):
        Forest.from_json(data)


def test_an_enormous_forest_is_refused():
    data = make_forest().to_json()
    data["feature"] = [-1] * (MOST_NODES + 1)
    with pytest.raises(MalformedError, match="at most"):
        Forest.from_json(data)


def test_a_chain_deeper_than_any_sound_tree_is_refused():
    deep, nodes = 40, np.arange(81)
    inner = (nodes % 2 == 0) & (nodes < 2 * deep)
    left = np.where(inner, nodes + 1, -1)
    right = np.where(inner, nodes + 2, -1)
    data = {"inputs": 1, "roots": [0], "feature": [0] * 81, "threshold": [0.0] * 81}
    data |= {"left": left.tolist(), "right": right.tolist(), "value": [0.0] * 81}
    with pytest.raises(MalformedError, match="deeper"):
        Forest.from_json(data)
