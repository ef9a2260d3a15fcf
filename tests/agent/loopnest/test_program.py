"""Loops remember what is asked of them often; that changes nothing of what they are."""

import pickle
import random
from dataclasses import replace

import pytest

from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.program import Loop, loops
from agent.loopnest.schedules.candidates import random_schedule

KERNELS = kernels()[::5]


def found(kernel):
    _, program = random_schedule(load_kernel(kernel), random.Random(kernel.name))
    return [loop for _, loop in loops(program.body)]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_a_loop_around_another_body_is_the_loop_that_replace_makes(kernel):
    for loop in found(kernel):
        hash(loop)  # what is remembered of the one is not taken for the other
        made, usual = loop.with_body(loop.body[:1] * 2), replace(loop, body=loop.body[:1] * 2)
        assert made == usual
        assert hash(made) == hash(usual)
        assert repr(made) == repr(usual)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_loops_of_another_process_bring_no_hash_of_their_own(kernel):
    for loop in found(kernel):
        hash(loop)
        assert not {"_hash", "loops_inside"} & set(vars(pickle.loads(pickle.dumps(loop))))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_a_loop_is_jammed_where_it_or_one_inside_is(kernel):
    for loop in found(kernel):
        inside = [x for x in loop.body if isinstance(x, Loop)]
        assert loop.is_jammed == (loop.jam > 1 or any(x.is_jammed for x in inside))
