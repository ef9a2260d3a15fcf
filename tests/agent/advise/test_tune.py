"""``agent tune``: what a search finds on machines that are simulated, and once on this one."""

import contextlib
import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from agent.advise.advise import Request, predictor_of
from agent.advise.emission import Wish
from agent.advise.guided import TuneWish
from agent.advise.own_function import (
    Effort,
    OwnBuild,
    OwnTimes,
    own_base,
    own_base_or_why,
    own_times,
)
from agent.advise.own_tests import OwnTests
from agent.advise.search import (
    Alike,
    Correction,
    Versions,
    expected_gain,
    next_batch,
    pooled,
    verdict_of,
)
from agent.advise.splice import SourceRegion
from agent.advise.tune import tune
from agent.advise.tuning_log import LogKey, append, look_up
from agent.errors import CompilerError, InputError, MeasureError, ScheduleError
from agent.loopnest.frontend.parse import parse
from agent.loopnest.lowering.reader import load_program, read_region
from agent.loopnest.program import loops
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import Schedule, parse_schedule
from agent.measure.compiler import working_compiler
from agent.measure.machine import read_machine
from agent.measure.timing import Outcome, Timing
from agent.settings.config import Config
from tests.conftest import agent, valid
from tests.fake_runner import ROUNDS, FakeRunner, FakeToolchain

SUM = """
double f(int n, double *a)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += a[i];
    return s;
}
"""
SIZES = {"ni": 64, "nj": 64, "nk": 64}


def seconds_of(program):
    """A machine on which jams are what counts, which the bundle does not know, and then vectors."""
    marks = [loop for _, loop in loops(program.body)]
    seconds = 1e-2
    seconds /= 4 if any(x.jam == 4 for x in marks) else 1
    seconds /= 1.5 if any(x.vector for x in marks) else 1
    return seconds * (2 if any(x.parallel for x in marks) else 1)


def search(gemm, runner, budget_s=20.0, known=None, **more):
    """A search in which every batch takes a second."""
    config = Config(gemm.parent / "state", budget_s=budget_s)
    request = Request(gemm, None, SIZES, None)
    wish = TuneWish(known=known, clock=lambda: float(len(runner.asked)), **more)
    lines = []
    found = tune(config, request, wish, lines.append, lambda _: runner)
    return found, lines


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """Read once: a bundle takes its time."""
    return predictor_of(Config(tmp_path_factory.mktemp("none") / "state"))


@pytest.fixture(autouse=True)
def _read_once(monkeypatch, predictor):
    monkeypatch.setattr("agent.advise.tune.predictor_of", lambda _: predictor)
    monkeypatch.setattr("agent.advise.tune.LOOKED_AT", 30)


def test_what_the_model_does_not_know_is_learnt_from_timings(gemm):
    found, lines = search(gemm, FakeRunner(seconds_of, noise=0.01))
    assert found["winner"]["speedup"] == pytest.approx(6, rel=0.05)
    assert found["confirmed"]
    assert found["curve"][0]["speedup"] <= found["curve"][-1]["speedup"] * 1.05  # but for noise
    assert any("best so far" in line.what for line in lines)
    valid({"schema": 1, **found}, "tune")


def test_steps_that_the_bundle_was_not_taught_are_timed_whatever_it_predicts(
    gemm, predictor, monkeypatch
):
    older = replace(predictor, bundle=replace(predictor.bundle, taught=frozenset()))
    monkeypatch.setattr("agent.advise.tune.predictor_of", lambda _: older)

    def fast_in_registers(program):
        return 1e-3 if any(x.lanes > 1 for _, x in loops(program.body)) else 1e-2

    found, _ = search(gemm, FakeRunner(fast_in_registers, noise=0.01), budget_s=8.0)
    assert found["winner"]["speedup"] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_steps_that_make_no_difference_are_not_in_the_winner(gemm, seed):
    found, _ = search(gemm, FakeRunner(seconds_of, noise=0.01, seed=seed), budget_s=60.0)
    steps = [len(parse_schedule(text).steps) for text in found["tied"]]
    assert steps == sorted(steps)
    assert found["winner"]["schedule"] == found["tied"][0]
    least = seconds_of(transform(as_written(gemm), parse_schedule(found["winner"]["schedule"])))
    assert all(seconds > least for seconds in without_a_step(gemm, found["winner"]["schedule"]))


def without_a_step(gemm, text):
    """What it takes without each of the steps, where the others fit then."""
    steps = parse_schedule(text).steps
    for n in range(len(steps)):
        with contextlib.suppress(ScheduleError):
            rest = Schedule((*steps[:n], *steps[n + 1 :]))
            yield seconds_of(transform(as_written(gemm), rest))


def test_versions_that_cannot_be_told_apart_are_timed_longer_first(gemm):
    """The simpler one is a little slower, which a single noisy timing does not show."""

    def close(program):
        marks = [loop for _, loop in loops(program.body)]
        return 1e-2 / (2 if any(x.vector for x in marks) else 1) * (0.97 if len(marks) > 3 else 1)

    found, _ = search(gemm, FakeRunner(close, noise=0.02, session=0.02), budget_s=40.0)
    longer = [m["schedule"] for m in found["finalists"] if m["rounds"] > ROUNDS]
    assert len(longer) > 1
    assert set(found["tied"]) <= set(longer)
    assert found["elapsed_s"] <= 40.0


def test_the_same_seed_finds_the_same_winner(gemm):
    one, two = (search(gemm, FakeRunner(seconds_of), budget_s=8.0)[0] for _ in range(2))
    assert one["winner"] == two["winner"]
    assert one["tried"] == two["tried"]


def test_a_program_that_cannot_be_made_faster_stays_and_nothing_is_written(gemm, tmp_path):
    slower = FakeRunner(lambda p: 1e-3 if len(repr(p.body)) == written else 2e-3, noise=0.01)
    written = len(repr(as_written(gemm).body))
    out = tmp_path / "tuned.c"
    found, _ = search(gemm, slower, budget_s=6.0, write=Wish(out))
    assert found["winner"] is None
    assert found["out"] is None
    assert not out.exists()


def as_written(gemm):
    return load_program(gemm, function=None, sizes=SIZES)


STEPS = """
void f(int steps, int n, double *restrict a, double *restrict b)
{
    for (int t = 0; t < steps; t++) {
        for (int i = 1; i < n - 1; i++)
            b[i] = a[i - 1] + a[i + 1];
        for (int i = 1; i < n - 1; i++)
            a[i] = b[i];
    }
}
"""


def test_a_search_times_fewer_time_steps_of_a_program_that_takes_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.advise.shorter.SHORT_S", 1e-6)  # as few as may be
    path = tmp_path / "steps.c"
    path.write_text(STEPS)
    runner = FakeRunner(lambda _: 0.1)
    request = Request(path, None, {"steps": 1000, "n": 4_000_000}, None)
    wish = TuneWish(clock=lambda: float(len(runner.asked)))
    config = Config(tmp_path / "state", budget_s=8.0)
    found = tune(config, request, wish, lambda _: None, lambda _: runner)
    assert found["base"]["seconds"] == pytest.approx(0.1 * 1000 / 32, rel=0.05)
    assert "versions were timed with 32 of the 1000 iterations of loop t" in found["notes"][0]
    valid({"schema": 1, **found}, "tune")


@dataclass
class EndingRunner(FakeRunner):
    """Something happens while the third batch is timed."""

    ending: BaseException = field(default_factory=KeyboardInterrupt)

    def measure(self, base, variants, **more):
        if len(self.asked) == 2:
            raise self.ending
        return super().measure(base, variants, **more)


@pytest.mark.parametrize(
    ("ending", "stopped"),
    [(KeyboardInterrupt(), "interrupted"), (CompilerError("it is gone"), "failed")],
)
def test_what_ends_a_search_keeps_the_best_and_writes_it(gemm, tmp_path, ending, stopped):
    out = tmp_path / "tuned.c"
    runner = EndingRunner(seconds_of, ending=ending)
    found, _ = search(gemm, runner, write=Wish(out, check=False))
    assert found["stopped"] == stopped
    assert not found["confirmed"]
    assert found["winner"]["speedup"] > 1
    assert f"Schedule: {found['winner']['schedule']}" in out.read_text()
    valid({"schema": 1, **found}, "tune")


def test_what_interrupts_the_last_timing_keeps_the_best_and_writes_it(gemm, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("agent.advise.tune.own_base_or_why", lambda *_: (None, ""))
    monkeypatch.setattr("agent.advise.tune.own_times", interrupted)
    out = tmp_path / "tuned.c"
    runner = FakeRunner(seconds_of, toolchain=working_compiler())
    found, _ = search(gemm, runner, budget_s=6.0, write=Wish(out, check=False))
    assert f"Schedule: {found['winner']['schedule']}" in out.read_text().replace("\n *  ", "")


def test_what_interrupts_the_persons_tests_offers_nothing(gemm, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("agent.advise.own_tests.OwnTests.check", interrupted)
    out, before = tmp_path / "tuned.c", gemm.read_bytes()
    wish = Wish(out, check=False, tests=OwnTests("true", 60.0))
    found, _ = search(gemm, FakeRunner(seconds_of), budget_s=6.0, write=wish)
    assert found["winner"] is None
    assert "your tests were interrupted" in " ".join(found["notes"])
    assert found["finalists"]
    assert (gemm.read_bytes(), out.exists()) == (before, False)


def test_versions_that_fail_are_told_and_left_alone(gemm):
    class Failing(FakeRunner):
        def measure(self, base, variants, **more):
            wrong = {v.body: Timing(Outcome.WRONG_RESULT, detail="differs") for v in variants[:2]}
            self.failing = {**self.failing, **wrong} if len(self.asked) == 0 else self.failing
            return super().measure(base, variants, **more)

    runner = Failing(seconds_of)
    found, _ = search(gemm, runner, budget_s=8.0)
    assert sum(t["outcome"] == "wrong-result" for t in found["tried"]) == 2
    timed = [v.body for _, variants in runner.asked for v in variants]
    assert [timed.count(body) for body in runner.failing] == [1, 1]


def test_a_program_that_cannot_be_timed_is_refused(gemm):
    broken = Timing(Outcome.CRASHED, detail="SIGSEGV")
    runner = FakeRunner()
    runner.failing = AlwaysThere(broken)
    with pytest.raises(MeasureError, match="SIGSEGV"):
        search(gemm, runner)


class AlwaysThere(dict):
    """Every program fails in one way."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def get(self, *_):
        return self.value


@pytest.mark.parametrize(("low", "high"), [(-0.8, -0.6), (-2.0, 0.5)], ids=["shown", "unclear"])
def test_what_makes_the_function_itself_slower_has_not_won(gemm, tmp_path, monkeypatch, low, high):
    slower = OwnTimes(1e-3, 2e-3, -0.7, low, high)
    monkeypatch.setattr("agent.advise.tune.own_base_or_why", lambda *_: (None, ""))
    monkeypatch.setattr("agent.advise.tune.own_times", lambda *_: slower)
    out = tmp_path / "tuned.c"
    runner = FakeRunner(seconds_of, toolchain=working_compiler())
    found, _ = search(gemm, runner, budget_s=6.0, write=Wish(out))
    assert found["winner"] is None
    assert found["function"]["speedup"] == pytest.approx(0.5, abs=0.01)
    assert "the function itself is no faster" in found["notes"][0]
    assert not out.exists()


def test_a_version_with_which_the_persons_tests_fail_is_not_offered(gemm, tmp_path):
    out, failed = tmp_path / "tuned.c", tmp_path / "failed"
    command = f"! grep -q tuned_1 {gemm} || test -e {failed} || {{ touch {failed}; exit 1; }}"
    tests = OwnTests(command, 60.0)
    wish = Wish(out, check=False, tests=tests)
    found, _ = search(gemm, FakeRunner(seconds_of, noise=0.01), budget_s=6.0, write=wish)
    dropped = next(note for note in found["notes"] if "your tests fail with it" in note)
    assert found["winner"] is not None
    assert not dropped.startswith(f"{found['winner']['schedule']} is not offered")
    assert f"Schedule: {found['winner']['schedule']}" in out.read_text().replace("\n *  ", "")


@pytest.mark.parametrize(
    ("own", "winner"),
    [
        (OwnTimes(1.0, 0.5, math.log(2.0), 0.6, 0.8), "original"),
        (OwnTimes(1.0, 2.0, math.log(0.5), -0.8, -0.6), None),
    ],
)
def test_the_loops_as_the_agent_writes_them_are_one_more_version(gemm, monkeypatch, own, winner):
    monkeypatch.setattr("agent.advise.tune.own_base_or_why", lambda *_: (own, ""))
    slower = FakeRunner(lambda p: 1e-3 if len(repr(p.body)) == written else 1.2e-3, noise=0.01)
    written = len(repr(as_written(gemm).body))
    found, _ = search(gemm, slower, budget_s=6.0)
    assert (found["winner"] and found["winner"]["schedule"]) == winner
    speedup = found["curve"][-1]["own_speedup"]
    assert speedup == pytest.approx(math.exp(own.log_speedup), rel=0.1)
    valid({"schema": 1, **found}, "tune")


def test_a_speed_up_over_the_function_is_as_unsure_as_both_that_it_is_made_of():
    own = OwnTimes(1.0, 0.5, log_speedup=0.7, low=0.4, high=1.1)
    assert own.over(1.0, low=0.6, high=1.3) == pytest.approx((1.7, 1.7 - 0.5, 1.7 + 0.5))


def source_of(path, text, sizes, cflags=()):
    path.write_text(text)
    unit = parse(path, cflags, None)
    return SourceRegion(path.read_bytes(), unit, read_region(unit, "f", sizes), sizes)


def test_a_function_is_timed_against_its_loops_as_the_agent_writes_them(gemm):
    source = source_of(gemm, SUM, {"n": 20_000})
    found = own_base(source, gemm, OwnBuild(working_compiler()))
    assert found.low <= found.log_speedup <= found.high
    assert found.seconds_before > 0


def test_a_function_that_does_more_than_the_loops_says_so(gemm):
    more = "rand();\n    for (int i = 1; i < n; i++)\n        a[i] *= s;\n    return s"
    gemm.write_text(f"int rand(void);\n{SUM.replace('return s', more)}")
    unit, sizes = parse(gemm, (), None), {"n": 9000}
    source = SourceRegion(gemm.read_bytes(), unit, read_region(unit, "f", sizes, 2), sizes)
    found, note = own_base_or_why(source, gemm, working_compiler(), None)
    assert found is not None
    assert "f does more than these loops" in note


def test_flags_that_say_how_to_optimise_are_the_only_ones(gemm):
    asked = "#ifdef _OPENMP\ndouble missing(void);\n#else\n#define missing() 0.0\n#endif\n"
    text = asked + SUM.replace("return s", "return s + missing()")
    found, why = own_base_or_why(source_of(gemm, text, {"n": 9000}), gemm, working_compiler(), ())
    assert found is None
    assert "does not link by itself" in why
    source = source_of(gemm, text, {"n": 9000}, ("-O2",))
    assert own_base_or_why(source, gemm, working_compiler(), ("-O2",))[0] is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"int pause(void);{SUM.replace('return s', 'pause(); return s')}", "longer than 1 s"),
        (f"void abort(void);{SUM.replace('return s', 'abort(); return s')}", "fails with inputs"),
        (SUM, "less than a microsecond"),
    ],
)
def test_a_function_that_cannot_be_timed_says_why(gemm, text, why):
    source, effort = source_of(gemm, text, {"n": 8}), Effort(call_s=1.0)
    found, told = own_base_or_why(source, gemm, working_compiler(), None, effort)
    assert found is None
    assert why in told


def test_a_function_is_timed_as_a_person_calls_it(gemm):
    source = source_of(gemm, SUM, {"n": 100_000})
    more = b"for (int again = 0; again < 9; again++) for (int i = 0; i < n; i++) s += a[i]; return"
    slow = source.text.replace(b"return", more)
    found = own_times(source, gemm, slow, OwnBuild(working_compiler()))
    assert found.high < math.log(1 / 3)
    assert found.seconds_before < found.seconds_after


# --- the log --------------------------------------------------------------------------------------


def test_a_log_is_taken_up_and_what_is_in_it_is_not_timed_again(gemm, tmp_path):
    log = tmp_path / "log.jsonl"
    first, _ = search(gemm, FakeRunner(seconds_of), budget_s=6.0, save=log)
    runner = FakeRunner(seconds_of)
    second, _ = search(gemm, runner, budget_s=3.0, known=log)
    before = {t["schedule"] for t in first["tried"]}
    finalists = {m["schedule"] for m in second["finalists"]}
    assert {t["schedule"] for t in second["tried"]} & before <= finalists
    assert second["winner"]["speedup"] >= first["winner"]["speedup"] * 0.999
    written = {json.loads(line)["schedule"] for line in log.read_text().splitlines()}
    assert f"{len(written)} schedules timed before" in second["notes"][0]


def test_lines_of_other_machines_toolchains_and_versions_are_not_used_and_stay(gemm, tmp_path):
    log = tmp_path / "log.jsonl"
    setting = LogKey.of(as_written(gemm), read_machine(), FakeToolchain())
    line = setting.line("vectorize k", Timing(Outcome.OK, 1.0, 0.9, 1.1), "2026-11-29T00:00:00Z")
    others = [
        {**line, "machine": {**line["machine"], "threads": 999}},
        {**line, "toolchain": {"version": "cc 9", "flags": []}},
        {**line, "program": "another"},
        {**line, "format": 2, "more": [1]},
    ]
    log.write_text("".join(json.dumps(x) + "\n" for x in others) + "no JSON\n" + '{"cut of')
    before = log.read_bytes()
    append(log, [{**line, "of a later version": 1}])
    assert log.read_bytes().startswith(before)
    found = look_up(log, setting)
    assert found.speedups == {"vectorize k": 1.0}
    assert (found.others, found.unreadable) == (4, 2)


def test_a_log_that_cannot_be_written_is_told_before_anything_is_timed(gemm, tmp_path):
    runner = FakeRunner()
    with pytest.raises(InputError, match="cannot be written"):
        search(gemm, runner, save=tmp_path)
    assert not runner.asked


def test_a_log_that_is_not_there_is_told(gemm, tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        search(gemm, FakeRunner(), known=tmp_path / "none.jsonl")


def test_a_pipe_or_a_device_in_place_of_a_log_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="is no plain file"):
            look_up(path, LogKey("", {}, {}))
        with pytest.raises(InputError, match="is no plain file"):
            append(path, [{}])


def test_a_log_without_an_end_is_refused(tmp_path):
    with (tmp_path / "log.jsonl").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="is larger than 64 MiB"):
        look_up(tmp_path / "log.jsonl", LogKey("", {}, {}))


@pytest.mark.parametrize("gain", ["1" + "0" * 400, "1e300", "NaN", "true", "[]", "-1e9", "{}"])
def test_no_gain_is_believed_that_cannot_be(gemm, tmp_path, gain):
    log, setting = tmp_path / "log.jsonl", LogKey("p", {}, {})
    line = {**setting.line("vectorize k", Timing(Outcome.OK, 1.0, 0.9, 1.1), ""), "log_speedup": 0}
    log.write_text(json.dumps(line).replace('"log_speedup": 0', f'"log_speedup": {gain}') + "\n")
    assert look_up(log, setting).speedups == {}


# --- decisions ------------------------------------------------------------------------------------


def test_an_error_that_versions_share_is_learnt_from_a_few_of_them():
    versions = versions_at(np.random.default_rng(0).normal(size=(40, 5)))
    doubts = np.full(4, 0.05)
    correction = Correction.of(versions.take(range(4)), np.full(4, 0.8), doubts, length=1.0)
    error, sd = correction.at(versions)
    assert error[4:] == pytest.approx(np.full(36, 0.8), abs=0.35)
    assert (sd[:4] < 0.1).all()
    assert (sd[4:] > sd[:4].max()).all()


def test_without_timings_nothing_is_corrected():
    versions = versions_at(np.ones((3, 2)))
    correction = Correction.of(versions.take([]), np.zeros(0), np.zeros(0), length=1.0)
    assert correction.at(versions)[0] == pytest.approx([0.0] * 3)


def test_what_one_timing_says_of_marks_that_were_not_taught_holds_for_all_with_them():
    vectors = 10.0 * np.eye(4)  # none is like another
    marks = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    versions = Versions(vectors, marks)
    correction = Correction.of(versions.take([0, 3]), np.array([1.0, 0.0]), np.full(2, 0.05), 1.0)
    error, sd = correction.at(versions)
    assert error[1] > 0.5
    assert abs(error[2]) < 0.3
    assert sd[2] > sd[1]


def versions_at(vectors):
    """None has a mark that was not taught."""
    return Versions(vectors, np.zeros((len(vectors), 1)))


def test_a_batch_holds_the_best_of_what_the_bundle_was_not_taught():
    mean, sd = np.array([5.0, 4.0, 3.0, 2.9, 2.8, 0.2, 0.1]), np.full(7, 0.5)
    apart = Alike(10.0 * np.eye(7), length=1.0)
    assert 5 not in next_batch(mean, sd, range(7), 3, apart)
    assert 5 in next_batch(mean, sd, range(7), 3, apart, [5, 6])


def test_a_batch_holds_the_best_and_what_could_be_better():
    mean, sd = np.array([3.0, 2.0, 1.0, 0.0, 0.5]), np.array([0.1, 0.1, 0.1, 9.0, 0.1])
    alike = Alike(np.arange(5.0)[:, None], length=1.0)
    assert next_batch(mean, sd, [0, 1, 2, 3, 4], 3, alike) == [0, 1, 3]
    assert next_batch(mean, sd, [2, 4], 3, alike) == [2, 4]


def test_a_batch_holds_no_two_versions_that_are_alike_while_there_are_others():
    mean, sd = np.array([3.0, 2.9, 2.0, 1.0]), np.full(4, 0.1)
    alike = Alike(np.array([[0.0], [0.01], [5.0], [9.0]]), length=1.0)
    assert next_batch(mean, sd, [0, 1, 2, 3], 3, alike) == [0, 2, 3]
    assert next_batch(mean, sd, [0, 1, 2], 3, alike) == [0, 2, 1]


def test_no_gain_is_expected_of_what_is_surely_worse():
    assert expected_gain(np.array([0.0]), np.array([0.1]), [0], 1.0) < 1e-6
    assert expected_gain(np.array([2.0]), np.array([0.1]), [0], 1.0) == pytest.approx(1.0)
    assert expected_gain(np.array([2.0]), np.array([0.1]), [], 1.0) == 0


def test_two_timings_are_surer_than_one_where_they_agree():
    def timing(gain, half):
        return Timing(Outcome.OK, gain, gain - half, gain + half, rounds=5, different=False)

    both = pooled(timing(0.2, 0.1), timing(0.2, 0.1))
    assert both.log_speedup == pytest.approx(0.2)
    assert both.high - both.low == pytest.approx(0.2 / math.sqrt(2))
    assert (both.rounds, both.different) == (10, True)
    apart = pooled(timing(0.0, 0.01), timing(0.4, 0.01))
    assert apart.low < 0.1 < 0.3 < apart.high
    surer = pooled(timing(0.0, 0.1), timing(0.1, 0.01))
    assert surer.log_speedup == pytest.approx(0.1, abs=0.01)


def test_ties_go_to_the_fewest_steps_then_to_the_text():
    def timing(gain, different=True):
        return Timing(Outcome.OK, gain, gain - 0.1, gain + 0.1, different=different)

    found = [timing(1.0), timing(0.95), timing(0.9), timing(0.2), timing(2.0, different=False)]
    verdict = verdict_of(
        found, [(n, False, text) for n, text in zip((3, 1, 1, 0, 0), "cbade", strict=True)]
    )
    assert verdict.tied == (2, 1, 0)
    assert verdict.winner == 2
    assert verdict_of([timing(-1.0)], [(0, False, "a")]).winner is None


# --- from the outside -----------------------------------------------------------------------------


def test_a_file_is_tuned_and_the_file_that_is_written_does_the_same(gemm, tmp_path):
    sizes = [word for n in ("ni", "nj", "nk") for word in ("--size", f"{n}=96")]
    out, log = tmp_path / "tuned.c", tmp_path / "log.jsonl"
    page = tmp_path / "page.html"
    more = ("--budget", "4s", "--out", out, "--save", log, "--state-dir", tmp_path / "state")
    more += ("--report", page)
    ran = agent("tune", gemm, *sizes, *more, "--json")
    assert ran.code == 0, ran.err
    valid(ran.json, "tune")
    assert ran.json["tried"]
    assert "Tuning of <b>gemm</b>" in page.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {x["schedule"] for x in lines} == {x["schedule"] for x in ran.json["tried"]}
    if ran.json["winner"] is not None:  # this machine may be too busy to tell
        assert "times as fast as the loops as written" in out.read_text().replace("\n *  ", "")
        assert math.isfinite(ran.json["winner"]["speedup"])


def test_ranks_lines_are_what_measure_reads(gemm, tmp_path):
    sizes = [word for n in ("ni", "nj", "nk") for word in ("--size", f"{n}=32")]
    ranked = agent("rank", gemm, *sizes, "--candidates", 12, "--top", 2, "--plain")
    assert ranked.code == 0, ranked.err
    lines = ranked.out.splitlines()
    assert len(lines) == 2
    place = tmp_path / "schedules"
    place.write_text(ranked.out + "\n")
    more = ("--from", place, "--state-dir", tmp_path / "state", "--json")
    measured = agent("measure", gemm, *sizes, *more)
    assert measured.code == 0, measured.err
    valid(measured.json, "measure")
    assert [m["schedule"] for m in measured.json["measurements"]] == lines
    own = measured.json["own"]["speedup"]
    for m in measured.json["measurements"]:
        assert m["own_speedup"] == pytest.approx(m["speedup"] * own)


def test_measure_without_a_schedule_says_how_to_give_one(gemm):
    ran = agent("measure", gemm, "--size", "ni=8", "--size", "nj=8", "--size", "nk=8")
    assert ran.code == 2
    assert "--from FILE" in ran.err
