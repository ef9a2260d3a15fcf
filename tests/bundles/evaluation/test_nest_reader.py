"""`benchmarks/nest_reader.py`: tokens are of the tree after the schedule."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from agent.loopnest.features.nest import lower
from benchmarks.nest_reader import STATE, NestReader
from benchmarks.nest_tokens import Nests, joined, nests
from bundles.labels.programs import scheduled
from tests.agent.loopnest.nests import at, gemm, loop, program, read, statement

TRIP, PARALLEL, VECTOR = 0, 8, 9  # columns of a loop
BYTES, STAYS, NEXT = 0, 1, 2  # columns of a step


def two_statements():
    """`for i { X[i] = Y[i]; for j Z[i][j] = X[i]; }`"""
    first = statement("S0", at("X", "i"), "", read("Y", "i"), "i")
    second = statement("S1", at("Z", "i", "j"), "", read("X", "i"), "i", "j")
    both = loop("i", 0, 31, first, loop("j", 0, 63, second))
    return program(both, arrays={"X": (32,), "Y": (32,), "Z": (32, 64)})


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Nests))


@pytest.fixture
def some():
    schedules = ("", "tile i 8 j 16", "interchange j k; vectorize j", "parallelize i")
    return [two_statements(), *(scheduled(gemm(48), text) for text in schedules)]


def test_loops_are_those_after_the_schedule_with_their_trips_and_marks_outermost_first():
    found = nests(lower([scheduled(gemm(64), "interchange j k; parallelize i; vectorize j")]))
    assert found.depth.tolist() == [3]
    assert np.exp(found.loop[0, :3, TRIP]) == pytest.approx([64, 64, 64])
    assert found.loop[0, :4, PARALLEL].tolist() == [1, 0, 0, 0]
    assert found.loop[0, :4, VECTOR].tolist() == [0, 0, 1, 0]


def test_a_step_says_how_far_an_access_moves_in_each_loop():
    found = nests(lower([gemm(64)]))  # C[i][j] += A[i][k] * B[k][j]
    written, a, b = found.step
    in_bytes = np.expm1(found.step[:, :3, BYTES])
    assert in_bytes == pytest.approx(np.array([[512, 8, 0], [512, 0, 8], [0, 8, 512]]), rel=1e-5)
    assert written[:3, STAYS].tolist() == [0, 0, 1]
    assert a[:3, NEXT].tolist() == [0, 0, 1]
    assert b[:3, NEXT].tolist() == [0, 1, 0]


def test_statements_share_the_number_of_a_loop_around_both():
    found = nests(lower([two_statements()]))
    assert found.depth.tolist() == [1, 2]
    assert found.number[0, 0] == found.number[1, 0] != found.number[1, 1]


def test_versions_taken_in_any_order_have_the_tokens_they_have_alone(some):
    whole = joined([nests(lower(some[:2])), nests(lower(some[2:]))], [2, 3])
    assert same(whole, nests(lower(some)))
    order = [3, 0, 0, 4]
    assert same(whole.take(np.array(order)), nests(lower([some[i] for i in order])))


def test_a_version_is_read_alike_alone_and_among_others(some):
    torch.manual_seed(0)
    whole = nests(lower(some))
    reader = NestReader(whole, noise=0.4).eval()
    together = reader(whole, len(some))
    assert together.shape == (len(some), 2 * STATE)
    for i in range(len(some)):
        alone = reader(whole.take(np.array([i])), 1)
        assert torch.allclose(alone[0], together[i], atol=1e-5)


def test_a_statement_hears_of_the_others_in_its_loop():
    torch.manual_seed(0)
    apart = program(
        loop("i", 0, 31, statement("S0", at("X", "i"), "", read("Y", "i"), "i")),
        loop("i2", 0, 31, statement("S1", at("Z", "i2"), "", read("X", "i2"), "i2")),
        arrays={"X": (32,), "Y": (32,), "Z": (32,)},
    )
    whole = nests(lower([apart, scheduled(apart, "fuse i i2")]))
    reader = NestReader(whole, noise=0.0).eval()
    assert np.array_equal(whole.statement[:2], whole.statement[2:])
    assert not torch.allclose(*reader(whole, 2), atol=1e-3)
