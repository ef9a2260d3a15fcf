import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wording

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4.25, "4.2 s"),
        (48.3, "48 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (12 * 86400, "12 days"),
    ],
)
def test_durations_are_for_people(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2.0, "2 s"), (1.23e-3, "1.23 ms"), (4.5e-5, "45 us"), (3e-9, "3 ns"), (None, "-")],
)
def test_times_have_a_fitting_unit(seconds, words):
    assert wording.small_time(seconds) == words


def test_a_log_error_is_told_as_a_factor():
    assert wording.factor(math.log(1.31)) == "1.31"
    assert wording.factor(None) == "-"


def test_an_age_is_told():
    assert wording.age(NOW - 3700, NOW) == "1 h 1 min old"


@pytest.mark.parametrize(
    ("created", "now", "words"),
    [
        (100.0, NOW, "clock was not set"),
        (NOW, 100.0, "clock is not set"),
        (NOW + 1e9, NOW, "future"),
    ],
)
def test_a_wrong_clock_gives_no_absurd_age(created, now, words):
    assert words in wording.age(created, now)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_an_age_is_never_negative(created, now):
    assert "-" not in wording.age(created, now)


@pytest.mark.parametrize("code", sorted(wording._WARNINGS))
def test_every_warning_says_what_it_is(code):
    item = {"code": code, "kernels": 3, "worst": 0.2, "variants": 4, "kernel": "dot", "why": "x"}
    text = wording.warning(item)
    assert text.endswith(".")
    assert "{" not in text


def test_a_warning_of_an_unknown_kind_is_shown_all_the_same():
    assert "new-kind" in wording.warning({"code": "new-kind", "worst": 1.0})


def test_a_busy_machine_is_told_once():
    items = [{"code": c, "kernels": 2, "worst": 1.0} for c in ("foreign-load", "switches", "noise")]
    assert len(wording.warnings(items)) == 1
