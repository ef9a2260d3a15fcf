"""Predictions rest on timings of the loops and of the function: taken once, kept, never guessed."""

import contextlib
import json
import math
import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import pytest

from agent.advise import anchoring, kept_times
from agent.advise.advise import Request, predict, rank, read_source
from agent.advise.own_function import OwnTimes
from agent.errors import CompilerError, Exit
from agent.measure.compiler import working_compiler
from agent.measure.evidence import Notice
from agent.measure.machine import read_machine
from agent.measure.timing import Outcome, Timing
from agent.settings.config import Config
from agent.state.file import make_directory
from agent.state.lock import hold
from agent.state.state import open_state
from tests.conftest import SIZES as WORDS
from tests.conftest import agent
from tests.fake_runner import FakeRunner, FakeToolchain

SIZES = {"ni": 64, "nj": 64, "nk": 64}
SCHEDULE = "interchange j k; vectorize j"


@pytest.fixture
def asked(gemm):
    """What is predicted of the gemm, timed by a runner (None: nothing is run)."""
    config = Config(gemm.parent / "state")

    def ask(runner, schedule=SCHEDULE, cflags=None, **sizes):
        request = Request(gemm, None, {**SIZES, **sizes}, cflags)
        return predict(config, request, schedule, runner and (lambda _: runner)).answer

    return SimpleNamespace(ask=ask, config=config)


def codes(answer):
    return [note["code"] for note in answer["notes"]]


def figures(answer):
    return {n: answer[n] for n in ("speedup", "low", "high", "seconds")}


def test_the_program_as_written_takes_as_long_as_it_did(asked):
    told = asked.ask(FakeRunner(lambda _: 3.2e-3), "original")
    assert told["seconds"] == pytest.approx(3.2e-3, rel=0.02)
    assert told["as_written"]["seconds"] == pytest.approx(3.2e-3)
    assert (told["speedup"], told["as_written"]["kept"]) == (1.0, False)


def test_a_program_slower_than_foretold_gains_more_and_a_faster_one_less(asked):
    plain = asked.ask(None)
    written = plain["seconds"] * plain["speedup"]
    slower = asked.ask(FakeRunner(lambda _: 3 * written), ni=64)
    faster = asked.ask(FakeRunner(lambda _: written / 3, toolchain=FakeToolchain(identity="b")))
    assert faster["speedup"] < plain["speedup"] < slower["speedup"]


def test_it_is_timed_once_and_known_the_next_time(asked):
    runner = FakeRunner()
    first, again = asked.ask(runner), asked.ask(runner)
    assert len(runner.asked) == 1
    assert figures(first) == figures(again)
    assert again["as_written"]["kept"]
    assert rank(asked.config, request_of(asked), 5, None, lambda _: runner)["as_written"]["kept"]


def request_of(asked):
    return Request(asked.config.state_dir.parent / "gemm.c", None, SIZES, None)


def test_another_size_compiler_machine_or_microcode_is_timed_anew(asked, monkeypatch):
    runner = FakeRunner()
    asked.ask(runner)
    asked.ask(runner, ni=65)
    asked.ask(replace(runner, toolchain=FakeToolchain(identity="other")))
    assert len(runner.asked) == 3
    for change in ({"microcode": "0x99"}, {"level": "x86-64-v1"}):
        machine = replace(read_machine(), **change)
        monkeypatch.setattr(anchoring, "read_machine", lambda machine=machine: machine)
        asked.ask(runner)
    assert len(runner.asked) == 5


def test_without_a_run_it_is_what_it_was_and_leaves_nothing(asked):
    plain = asked.ask(None)
    assert plain["as_written"] is None
    assert not asked.config.state_dir.exists()
    asked.ask(FakeRunner())
    assert asked.ask(None) == plain


@pytest.mark.parametrize(
    "failed",
    [
        Timing(Outcome.TIMEOUT, detail="one execution took 0.9 s"),
        Timing(Outcome.CRASHED, detail="crashed with SIGSEGV"),
        Timing(Outcome.COMPILE_FAILED, detail="the compiler says no"),
    ],
    ids=["too long", "crashes", "not compiled"],
)
def test_a_program_that_cannot_be_timed_is_predicted_without_and_that_is_said(asked, failed):
    plain = asked.ask(None)
    program = read_source(asked.config, request_of(asked)).reading.program
    told = asked.ask(FakeRunner(failing={program.body: failed}))
    assert figures(told) == figures(plain)
    assert "not-timed" in codes(told)
    assert told["as_written"] is None


@pytest.mark.parametrize(("sharing", "used"), [("shared", False), ("partly-shared", True)])
def test_a_time_that_others_worked_into_is_not_believed(asked, sharing, used):
    program = read_source(asked.config, request_of(asked)).reading.program
    times = (1e-3, 1e-3, 0.9e-3, 1.1e-3)
    timing = Timing(Outcome.OK, 0.0, 0.0, 0.0, times[0], *times[1:], sharing=sharing)
    notices = (Notice("disturbed-rounds", 1.0, 0.0),)
    told = asked.ask(FakeRunner(failing={program.body: timing}, notices=notices))
    assert (told["as_written"] is not None) == used


def test_no_compiler_is_no_reason_not_to_predict(asked):
    def gone(_):
        raise CompilerError("there is none")

    request = request_of(asked)
    told = predict(asked.config, request, SCHEDULE, gone).answer
    assert figures(told) == figures(asked.ask(None))
    assert "there is none" in told["notes"][-1]["message"]


def test_nothing_is_timed_beside_another_measurement(asked):
    runner = FakeRunner()
    make_directory(asked.config.state_dir)
    with hold(asked.config.state_dir, "calibrate"):
        told = asked.ask(runner)
    assert runner.asked == []
    assert "not-timed" in codes(told)


@pytest.mark.parametrize("spoilt", [{}, {"seconds": -1}, {"seconds": 1, "low": 2, "high": 3}, 7])
def test_a_kept_time_that_cannot_be_is_taken_anew(asked, spoilt):
    runner = FakeRunner()
    asked.ask(runner)
    with open_state(asked.config.state_dir) as state:
        (key,) = state.fact(anchoring.WRITTEN.fact)
        state.remember(anchoring.WRITTEN.fact, {key: spoilt})
    asked.ask(runner)
    assert len(runner.asked) == 2


def test_the_oldest_are_forgotten(asked, monkeypatch):
    monkeypatch.setattr(kept_times, "KEPT", 2)
    runner = FakeRunner()
    for size in (60, 61, 62, 60):
        asked.ask(runner, ni=size)
    assert len(runner.asked) == 4
    with open_state(asked.config.state_dir) as state:
        assert len(state.fact(anchoring.WRITTEN.fact)) == 2


def test_a_person_sees_what_a_prediction_rests_on_and_can_do_without(gemm):
    """The real thing: a compiler, a worker, a state on the disk."""
    state = gemm.parent / "state"
    words = ("predict", gemm, *WORDS, "--schedule", SCHEDULE, "--state-dir", state)
    ran = agent(*words)
    assert ran.code == Exit.OK
    kept = json.loads(agent(*words, "--json").out)["as_written"]
    if kept is None:  # others worked on the CPU all the while
        assert "was not timed" in ran.out
        return
    assert "an execution as the agent writes it" in ran.out
    assert kept["seconds_low"] <= kept["seconds"] <= kept["seconds_high"]
    assert json.loads(agent(*words, "--no-run", "--json").out)["as_written"] is None
    (row,) = sqlite3.connect(state / "state.sqlite").execute(
        "SELECT body FROM fact WHERE name = ?", (anchoring.WRITTEN.fact,)
    )
    assert "gemm" not in row[0]


# --- what 1.0 is ----------------------------------------------------------------------------------

OWN = OwnTimes(3e-3, 1e-3, log_speedup=math.log(3), low=math.log(2.5), high=math.log(3.5))


@pytest.fixture
def compiled():
    """A machine that is simulated, on which functions are compiled and run all the same."""
    return FakeRunner(toolchain=working_compiler())


@pytest.fixture
def timed(monkeypatch):
    """Functions that are asked for to be timed; they all take the same."""
    asked = []
    monkeypatch.setattr(anchoring, "own_base", lambda source, *_: asked.append(source) or OWN)
    return asked


@pytest.mark.usefixtures("timed")
def test_one_times_as_fast_is_the_function_itself(asked, compiled):
    original, told = asked.ask(compiled, "original"), asked.ask(compiled)
    assert original["own_speedup"] == pytest.approx(3.0)
    assert told["own_speedup"] == pytest.approx(3 * told["speedup"])
    assert told["own_low"] < min(3 * told["low"], 2.5 * told["speedup"])
    assert told["own_high"] > max(3 * told["high"], 3.5 * told["speedup"])
    assert told["own"]["seconds_before"] == 3e-3
    assert "baseline" not in codes(told)
    ranked = rank(asked.config, request_of(asked), 5, None, lambda _: compiled)["ranking"]
    assert all(r["own_speedup"] == pytest.approx(3 * r["speedup"]) for r in ranked)


def test_a_function_is_compiled_called_and_timed(asked, compiled):
    told = asked.ask(compiled, "original", ni=128)
    assert told["own"]["seconds_before"] > 0
    assert told["own_low"] <= told["own_speedup"] <= told["own_high"]


def test_a_function_is_timed_anew_where_its_file_flags_or_sizes_are_others(asked, compiled, timed):
    first, again = asked.ask(compiled), asked.ask(compiled)
    assert (len(timed), again["own"]["kept"]) == (1, True)
    assert figures(first) == figures(again)
    asked.ask(compiled, ni=65)
    asked.ask(compiled, cflags=("-DSMALL",))
    assert len(timed) == 3
    file = request_of(asked).path
    file.write_text(f"{file.read_text()}\nint more;\n")
    assert not asked.ask(compiled)["own"]["kept"]
    assert len(timed) == 4
    assert len(compiled.asked) == 2  # the loops are the same


def test_a_time_that_says_little_is_used_and_taken_anew(asked, compiled, monkeypatch):
    wide = replace(OWN, high=OWN.low + 2 * anchoring.UNSURE)
    monkeypatch.setattr(anchoring, "own_base", lambda *_: wide)
    first, again = asked.ask(compiled), asked.ask(compiled)
    assert (first["own"]["kept"], again["own"]["kept"]) == (False, False)
    assert first["own"]["high"] == pytest.approx(math.exp(wide.high))
    assert again["as_written"]["kept"]


def test_where_the_function_is_not_timed_it_is_said_what_1_is(asked, compiled, timed):
    for runner, why in ((None, "nothing was to be run"), (FakeRunner(), "there is no compiler")):
        told = asked.ask(runner)
        assert (told["own"], told["own_speedup"], told["own_low"]) == (None, None, None)
        (note,) = (n["message"] for n in told["notes"] if n["code"] == "baseline")
        assert note.startswith("speed-ups are over the loops as the agent writes them")
        assert note.endswith(why)
    make_directory(asked.config.state_dir)
    with hold(asked.config.state_dir, "calibrate"):
        assert "baseline" in codes(asked.ask(compiled))
    assert timed == []


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("int system(const char *); static int s(void) { return system(0); }", "reaches beyond"),
        ("int missing(void); static int s(void) { return missing(); }", "does not link"),
    ],
)
def test_a_function_that_cannot_be_timed_says_so_and_its_loops_are(asked, compiled, more, why):
    file = request_of(asked).path
    text = file.read_text().replace("#pragma scop", "s();\n#pragma scop")
    file.write_text(f"{more}\n{text}")
    told = asked.ask(compiled)
    assert told["as_written"] is not None
    assert told["own"] is None
    assert any(n["code"] == "baseline" and why in n["message"] for n in told["notes"])


@pytest.mark.usefixtures("timed")
def test_a_function_that_does_more_than_the_loops_says_that_it_gains_less(asked, compiled):
    file = request_of(asked).path
    text = file.read_text().replace("#pragma scop", "").replace("#pragma endscop", "")
    more = "rand();\n  for (int i = 0; i < ni; i++) C[i][0] *= 2;\n}\n"
    file.write_text(f"int rand(void);\n{text[: text.rindex('}')]}{more}")
    request = Request(file, None, SIZES, None, nest=1)
    told = predict(asked.config, request, SCHEDULE, lambda _: compiled).answer
    assert told["own"] is not None
    assert any(n["code"] == "baseline" and "does more" in n["message"] for n in told["notes"])


def test_words_say_what_1_is(gemm):
    where = (gemm, *WORDS, "--state-dir", gemm.parent / "state")
    words = ("--schedule", SCHEDULE)
    assert "times as fast as the loops as the agent writes them" in one_line(
        agent("predict", *where, *words, "--no-run").out
    )
    told = one_line(agent("predict", *where, *words).out)
    assert "times as fast as written" in told
    assert "gemm as written: " in told
    explained = one_line(agent("explain", *where, *words).out)
    assert "the loops as the agent writes them, with sizes as constants" in explained


def one_line(text):
    return " ".join(text.split())


def test_a_state_that_is_damaged_elsewhere_is_left_as_it_is(asked):
    asked.ask(FakeRunner())
    with contextlib.closing(sqlite3.connect(asked.config.state_dir / "state.sqlite")) as db:
        db.execute("INSERT INTO drift (at, body) VALUES (1.0, 'no record')")
        db.commit()
    before = {p.name: p.read_bytes() for p in asked.config.state_dir.iterdir() if p.is_file()}
    told = asked.ask(FakeRunner(), ni=96)
    assert told["as_written"] is not None
    after = {p.name: p.read_bytes() for p in asked.config.state_dir.iterdir() if p.is_file()}
    assert after["state.sqlite"] == before["state.sqlite"]
    assert not [name for name in after if "corrupt" in name]
