"""Every feature is about exactly one cause."""

from agent.loopnest.features.groups import CAUSES, GROUPS, Cause, causes_of
from agent.loopnest.features.vector import FEATURES


def test_every_feature_is_in_exactly_one_group():
    assert {name: causes_of(name) for name in FEATURES if len(causes_of(name)) != 1} == {}
    assert len(GROUPS) == len(FEATURES)


def test_every_group_has_features():
    assert {CAUSES[g] for g in GROUPS} == set(Cause)


def test_the_heaviest_statement_and_the_largest_value_are_about_what_the_mean_is():
    for name in FEATURES:
        for prefix in ("heaviest_", "largest_"):
            plain = name.removeprefix(prefix)
            if plain != name and plain in FEATURES:
                assert causes_of(name) == causes_of(plain), name
