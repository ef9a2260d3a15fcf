import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import clock
from agent.calibration.calibration import AccuracyByWay, CalibrationWarning, FailedTiming
from agent.loopnest.features.groups import Cause
from agent.model.records import PredictionAccuracy
from agent.terminal import advice_wording, explain_wording, numbers
from agent.terminal import calibration_wording as wording
from agent.terminal.blocks import Table
from tests.conftest import SCHEMAS

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
    assert clock.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2.0, "2 s"), (1.23e-3, "1.23 ms"), (4.5e-5, "45 us"), (3e-9, "3 ns"), (None, "-")],
)
def test_times_have_a_fitting_unit(seconds, words):
    assert numbers.execution_time(seconds) == words


def test_a_log_error_is_told_as_a_factor():
    assert numbers.factor(math.log(1.31)) == "1.31"
    assert numbers.factor(None) == "-"


def test_an_age_is_told():
    assert clock.age(NOW - 3700, NOW) == "1 h 1 min old"


@pytest.mark.parametrize(
    ("created", "now", "words"),
    [
        (100.0, NOW, "clock was not set"),
        (NOW, 100.0, "clock is not set"),
        (NOW + 1e9, NOW, "future"),
    ],
)
def test_a_wrong_clock_gives_no_absurd_age(created, now, words):
    assert words in clock.age(created, now)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_an_age_is_never_negative(created, now):
    assert "-" not in clock.age(created, now)


@pytest.mark.parametrize("code", sorted(wording._WARNINGS))
def test_every_warning_says_what_it_is(code):
    item = CalibrationWarning(code, 3, 0.2, 4, "dot", "x")
    text = wording.warning_text(item)
    assert text.endswith(".")
    assert "{" not in text


@pytest.mark.parametrize("number", [0, 1, 2, 21])
@pytest.mark.parametrize("code", sorted(wording._WARNINGS))
def test_a_warning_tells_one_thing_as_one_and_more_as_more(code, number):
    text = wording.warning_text(CalibrationWarning(code, number, 0.2, number, "dot", "x"))
    assert "(s)" not in text
    single = re.search(rf"\b{number} (planned )?(program|timing)\b", text)
    assert single is None or number == 1, text


def test_a_count_stands_before_its_noun():
    words = [f"{numbers.Count(n):late report}" for n in (0, 1, 2)]
    assert words == ["0 late reports", "1 late report", "2 late reports"]
    assert f"{numbers.Count(3)}" == "3"


def test_a_warning_of_an_unknown_kind_is_shown_all_the_same():
    assert "new-kind" in wording.warning_text(CalibrationWarning("new-kind", worst=1.0))


def test_a_busy_machine_is_told_once():
    codes = ("foreign-load", "switches", "noise")
    assert len(wording.warning_lines([CalibrationWarning(c, 2, 1.0) for c in codes])) == 1


@pytest.mark.parametrize("code", sorted(wording._WARNINGS))
def test_a_measurement_is_not_told_to_calibrate_again(code):
    item = CalibrationWarning(code, 3, 0.2, 4, "dot", "x")
    text = wording.warning_text(item, "measure")
    assert "alibrate" not in text
    assert code in ("out-of-time", "kernel-skipped") or "--budget" not in text


@pytest.mark.parametrize(
    ("log_ratio", "words"), [(0.005, "0.5%"), (0.0, "less than 0.1%"), (None, "-")]
)
def test_a_small_difference_is_told_as_a_percentage(log_ratio, words):
    assert numbers.difference(log_ratio) == words


def measured(**more):
    numbers = ("speedup", "low", "high", "seconds", "own_speedup", "own_low", "own_high")
    row = dict.fromkeys(numbers) | {"schedule": "original"}
    return {
        "program": {"name": "f"},
        "base": {"seconds": 1e-3},
        "own": None,
        "own_wins": None,
        "notes": [],
        "measurements": [row | {"outcome": "crashed", "detail": "SIGSEGV"}],
        "wins": None,
        "noise_floor": {"label_median": 0.005},
        "warnings": [],
        **more,
    }


def test_a_row_that_failed_has_one_dash_for_its_interval():
    table = next(b for b in advice_wording.measurement_blocks(measured()) if isinstance(b, Table))
    assert table.rows == (("-", "-", "-", "crashed: SIGSEGV", "original"),)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"sharing": "undisturbed"}, "ok"),
        ({"sharing": "shared"}, "ok, as it was: its core was always shared"),
        ({"sharing": "undisturbed", "inferred": True}, "ok, undisturbed time inferred"),
    ],
)
def test_a_speed_up_that_is_not_of_cores_of_its_own_says_so(state, words):
    row = measured()["measurements"][0] | {"outcome": "ok", "detail": ""} | state
    answer = measured(measurements=[row])
    (table,) = (b for b in advice_wording.measurement_blocks(answer) if isinstance(b, Table))
    assert table.rows[0][3] == words


@pytest.mark.parametrize(
    ("wins", "words"), [(None, "None of them is shown"), ("vectorize j", "too: vectorize j.")]
)
def test_a_measurement_says_which_version_is_faster_another_time_too(wins, words):
    blocks = advice_wording.measurement_blocks(measured(wins=wins))
    assert any(words in str(block) for block in blocks)


def test_speed_ups_are_over_the_persons_function_where_that_was_timed():
    own = {"seconds_before": 4e-3, "seconds_after": 2e-3, "speedup": 2.0, "low": 1.9, "high": 2.1}
    timed = {"speedup": 1.5, "own_speedup": 3.0, "own_low": 2.5, "own_high": 3.5}
    row = measured()["measurements"][0] | {"outcome": "ok", "detail": ""} | timed
    answer = measured(measurements=[row], own=own, own_wins="original")
    first, table, won, *_ = advice_wording.measurement_blocks(answer)
    assert first.startswith("f as written: 4 ms a call.")
    assert table.rows[0][:2] == ("3.00", "2.50 to 3.50")
    assert "too: original." in won


@pytest.mark.parametrize(
    ("tied", "words"),
    [
        (["jam i 4"], "Fastest: jam i 4."),
        (["jam i 4", "unroll j 4"], "2 of them cannot be told apart"),
        (["unroll j 4", "jam i 4"], "Fastest: jam i 4."),
        (["unroll j 4", "tile i 8"], "Fastest of the rest: jam i 4."),
    ],
)
def test_a_winner_is_told_for_what_it_is(tied, words):
    row = measured()["measurements"][0] | {"schedule": "jam i 4", "outcome": "ok", "detail": ""}
    found = {"winner": row, "finalists": [row], "tied": tied, "function": None, "tried": []}
    ended = {"confirmed": True, "out": None, "looked_at": 9, "elapsed_s": 1.0, "stopped": "budget"}
    assert any(words in str(b) for b in advice_wording.tuning_blocks(measured(**found, **ended)))


@pytest.mark.parametrize(
    ("high", "schedule", "told"),
    [(4.0, "parallelize i", True), (8.5, "parallelize i", False), (8.5, "vectorize j", None)],
)
def test_what_a_table_promises_of_threads_is_put_right_by_the_function_itself(high, schedule, told):
    timed = {"speedup": 4.0, "own_speedup": 8.0, "own_low": 7.0, "own_high": 9.0}
    row = measured()["measurements"][0] | timed | {"schedule": schedule, "outcome": "ok"}
    function = {"seconds_before": 4e-3, "seconds_after": 1e-3, "speedup": 3.5, "low": 3.0}
    found = {"winner": row, "finalists": [row], "tied": [schedule], "tried": []}
    found |= {"function": function | {"high": high}}
    ended = {"confirmed": True, "out": None, "looked_at": 9, "elapsed_s": 1.0, "stopped": "budget"}
    text = " ".join(map(str, advice_wording.tuning_blocks(measured(**found, **ended))))
    assert ("holds while nobody else uses the CPUs" in text) == (told is not None)
    assert ("less than the table says" in text) == bool(told)


def test_the_noise_of_a_measurement_is_a_percentage():
    assert "differs by 0.5%." in advice_wording.measurement_blocks(measured())[-1]


def test_the_noise_beside_a_calibration_is_never_a_bare_one():
    way = PredictionAccuracy(1, 1, *[0.1] * 12)
    table = wording.accuracy_table(AccuracyByWay(way, way), 0.002)
    assert [row[3] for row in table.rows if row[3] != "-"] == ["0.2%", "0.2%"]


def test_a_kernel_that_fails_as_written_is_told_once_and_blames_no_schedule():
    detail = "the program as written: the compiler computes a wrong result"
    failed = [FailedTiming("dot", s, "wrong-result", detail) for s in ("tile i 8", "unroll i 2")]
    lines = {wording._not_usable(f) for f in failed}
    assert lines == {f"Not usable: dot: wrong-result {detail}"}


def test_every_figure_and_every_cause_of_an_explanation_has_words():
    schema = json.loads((SCHEMAS / "explain.json").read_text())["properties"]["causes"]["items"]
    named = schema["properties"]["cause"]["enum"]
    figures = schema["properties"]["figures"]["items"]["properties"]["what"]["enum"]
    assert set(named) == set(advice_wording.CAUSES) == set(Cause)
    assert set(figures) == {"lanes", *explain_wording._WORDS}


@pytest.mark.parametrize(
    ("what", "before", "after", "words"),
    [
        ("stride", 4096.0, 4.0, "B: stride 4 KiB (a new page) -> 4 bytes at each step"),
        ("iterations", 512.0, 1.0, "the innermost loop runs 512 iterations -> 1 iteration"),
        (
            "lanes",
            "sum",
            "marked",
            "adds up floats in their order, so in no SIMD lanes -> is marked",
        ),
    ],
)
def test_a_figure_tells_what_was_and_what_is(what, before, after, words):
    figure = {"what": what, "subject": "B", "before": before, "after": after}
    assert words in explain_wording._figure(figure)


def test_steps_that_one_dependence_forbids_are_told_together_and_not_too_many():
    told = [{"step": f"reverse i{n}", "reason": f"reason {n % 12}", "hint": ""} for n in range(14)]
    blocks = explain_wording._obstacles(told)
    assert blocks[1] == "Not possible: reverse i0, reverse i12: reason 0."
    assert len(blocks) == 1 + explain_wording.MOST + 1
    assert blocks[-1] == "And 4 more reasons (see --json)."
