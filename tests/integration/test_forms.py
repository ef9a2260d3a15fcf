"""Conditions, derived numbers, tables and all integer types mean what they say: compiled, run."""

import pytest

from agent.loopnest.schedules.legality import Dependences
from tests.agent.loopnest.forms import FORMS
from tests.integration.test_semantics import check_cases, kernel_schedules, make_case
from tests.shared_object import SANITIZE


@pytest.mark.parametrize(
    ("flags", "share"), [(("-O2", "-ftree-vectorize"), 2), (("-O1", *SANITIZE), 5)]
)
def test_a_program_of_every_form_keeps_its_meaning_under_legal_steps(flags, share) -> None:
    cases = [
        make_case(p, kernel_schedules(p, Dependences.of(p))[::share], seed=3)
        for p in FORMS.values()
    ]
    assert all(case.versions for case in cases)
    check_cases(cases, flags, interpreted=True)
