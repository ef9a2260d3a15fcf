import math

import numpy as np

from agent.model.facts import FACTS, facts_of, unknown


def test_sizes_are_logs_base_two_and_flags_are_zero_or_one():
    facts = facts_of(64, 2, {1: 32768, 2: 2**20, 3: 2**25}, "gcc", ("-std=gnu11", "-O3"))
    assert dict(zip(FACTS, facts.tolist(), strict=True)) == {
        "simd": 6,
        "threads": 1,
        "l1": 15,
        "l2": 20,
        "l3": 25,
        "gcc": 1,
        "clang": 0,
        "o3": 1,
    }


def test_a_size_of_nothing_is_not_known():
    facts = facts_of(16, 1, {1: 32768, 2: 0}, "clang", ())
    assert np.isnan(facts).tolist() == [False, False, False, True, True, False, False, False]


def test_without_a_compiler_neither_its_family_nor_its_level_is_known():
    assert np.isnan(facts_of(16, 1, {}, "", ("-O3",))[-3:]).all()


def test_the_last_optimisation_level_counts():
    at = FACTS.index("o3")
    assert facts_of(16, 1, {}, "tcc", ("-O3", "-O2"))[at] == 0
    assert facts_of(16, 1, {}, "tcc", ("-O2", "-Ofast"))[at] == 1
    assert facts_of(16, 1, {}, "tcc", ())[at] == 0


def test_of_an_unknown_machine_no_fact_is_known():
    assert all(map(math.isnan, unknown()))
    assert len(unknown()) == len(FACTS)
