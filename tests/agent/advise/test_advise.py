"""What `measure` makes of timings, on a machine that is simulated."""

import json
import math
import os
from threading import Thread
from types import SimpleNamespace

import pytest

from agent.advise.advise import NEXT_LINE_S, Lines, Request, measure
from agent.advise.sources import database_of
from agent.errors import CompilerError, InputError, MeasureError
from agent.measure.compiler import build_flags
from agent.measure.evidence import Notice
from agent.measure.resolve import runner_for_programs
from agent.measure.timing import Outcome, Timing
from agent.settings.config import Config
from tests.conftest import agent
from tests.fake_runner import FakeRunner
from tests.other_user import NOBODY, needs_root

SIZES = {"ni": 64, "nj": 64, "nk": 64}
SCHEDULES = ("original", "interchange j k", "tile i 32")


def measured(gemm, runner, schedules=SCHEDULES, **settings):
    config = Config(gemm.parent / "state", **settings)
    request = Request(gemm, None, SIZES, None)
    return measure(config, request, schedules, lambda _: None, lambda _: runner)


def test_speedups_are_those_of_the_machine_in_the_order_asked(gemm):
    runner = FakeRunner()
    found = measured(gemm, runner)
    ((base, versions),) = runner.asked
    told = found["measurements"]
    assert [m["schedule"] for m in told] == list(SCHEDULES)
    expected = [math.exp(runner.log_speedup(base, v)) for v in versions]
    assert [m["speedup"] for m in told] == pytest.approx(expected)
    assert told[0]["speedup"] == pytest.approx(1.0)
    assert found["base"]["seconds"] == pytest.approx(runner.seconds(base))


def test_noise_widens_the_intervals_around_the_answer(gemm):
    found = measured(gemm, FakeRunner(noise=0.05, seed=3))
    assert found["noise_floor"]["round_median"] > 0
    assert all(m["low"] < m["speedup"] < m["high"] for m in found["measurements"])


def test_the_fastest_that_differs_from_the_program_as_written_wins(gemm):
    longer_is_faster = FakeRunner(lambda program: 1 / len(repr(program.body)), noise=0.001)
    found = measured(gemm, longer_is_faster, ["original", "tile i 32", "tile i 32 j 32"])
    assert [m["different"] for m in found["measurements"]] == [False, True, True]
    assert found["wins"] == "tile i 32 j 32"


def test_nothing_wins_where_noise_hides_the_difference(gemm):
    assert measured(gemm, FakeRunner(lambda _: 1e-3, noise=0.05))["wins"] is None


def test_a_slow_program_says_that_the_budget_was_too_small(gemm):
    found = measured(gemm, FakeRunner(elapsed_s=3.0), budget_s=2.0)
    assert found["measurements"][0]["rounds"] == 5
    assert "over-budget" in [w["code"] for w in found["warnings"]]


def test_what_disturbed_the_machine_is_told(gemm):
    found = measured(gemm, FakeRunner(notices=(Notice("steal", 0.2, 0.01),)))
    assert found["warnings"] == [{"code": "steal", "kernels": 1, "worst": 0.2}]


@pytest.mark.parametrize(
    ("outcome", "error", "hint"),
    [
        (Outcome.COMPILE_FAILED, CompilerError, "another compiler"),
        (Outcome.CRASHED, MeasureError, "beyond the end"),
        (Outcome.TIMEOUT, MeasureError, "smaller sizes"),
        (Outcome.OUT_OF_MEMORY, MeasureError, "fit in memory"),
        (Outcome.WRONG_RESULT, MeasureError, "undefined behaviour"),
    ],
)
def test_where_nothing_is_usable_the_first_failure_is_told_with_what_to_do(
    gemm, outcome, error, hint
):
    runner = FakeRunner()
    measured(gemm, runner, ["tile i 32"])
    ((_, (version,)),) = runner.asked
    failing = FakeRunner(failing={version.body: Timing(outcome, detail="so it ended")})
    with pytest.raises(error, match="so it ended") as told:
        measured(gemm, failing, ["tile i 32"])
    assert hint in told.value.hint


def test_a_failure_beside_a_good_timing_is_an_answer(gemm):
    runner = FakeRunner()
    measured(gemm, runner, ["tile i 32"])
    ((_, (version,)),) = runner.asked
    failing = FakeRunner(failing={version.body: Timing(Outcome.CRASHED, detail="SIGSEGV")})
    _, crashed, good = measured(gemm, failing, ["original", "tile i 32", "tile j 32"])[
        "measurements"
    ]
    assert (crashed["outcome"], crashed["speedup"]) == ("crashed", None)
    assert good["outcome"] == "ok"


def test_lines_of_progress_come_neither_at_once_nor_all():
    lines, now = [], [0.0]
    told = Lines(lines.append, clock=lambda: now[0])
    for tick in range(101):
        now[0] = tick / 10
        told.event(SimpleNamespace(kind="round", done=tick, total=100))
    assert lines[0] == "round 8 of 100"
    assert len(lines) == 1 + int((10 - 0.8) / NEXT_LINE_S)


def test_what_is_rare_is_always_told():
    lines = []
    Lines(lines.append, clock=lambda: 0.0).event(SimpleNamespace(kind="restarted", done=1, total=2))
    assert lines == ["a program failed: going on without it"]


def test_a_pipe_is_read_once_and_its_function_timed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    text = "void f(float *a) { for (int i = 0; i < 65536; i++) a[i] *= 2; }\n"
    writer = Thread(target=(tmp_path / "pipe").write_text, args=[text])
    writer.start()
    ran = agent("predict", tmp_path / "pipe", "--schedule", "original", timeout=300)
    writer.join()
    assert ran.code == 0, ran.err
    assert "times as fast as written" in ran.out


# --- the flags of a build -------------------------------------------------------------------------


def compiled(folder, *flags, file="src/mine.c"):
    """A project whose build compiles one file with ``flags``."""
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("void f(float *a)\n{\n    for (int i = 0; i < N; i++)\n        a[i] = 1;\n}\n")
    entry = {"directory": str(folder), "file": file, "arguments": ["cc", *flags, "-c", file]}
    (folder / "build").mkdir(exist_ok=True)
    (folder / "build" / "compile_commands.json").write_text(json.dumps([entry]))
    return path


def test_a_file_is_read_with_the_flags_of_its_build(tmp_path):
    path = compiled(tmp_path, "-DN=64", "-O2", "-Wall", "-o", "x.o")
    found = agent("predict", path, "--schedule", "vectorize i", "--json")
    assert found.code == 0, found.err
    assert "compile_commands.json: -DN=64 -O2" in found.err
    assert found.json["program"]["bytes"] == 256
    given = agent("predict", path, "--schedule", "vectorize i", "--cflags", "-DN=16", "--json")
    assert given.json["program"]["bytes"] == 64


@needs_root  # to have files of somebody else's
@pytest.mark.parametrize("planted", ["build", "build/compile_commands.json"])
def test_flags_that_another_user_put_beside_a_file_are_not_used(open_place, planted):
    open_place.chmod(0o1777)  # as /tmp
    path = compiled(open_place, "-DN=64", "-include", "/tmp/evil.h", file="mine.c")
    assert database_of(path)
    os.chown(open_place / planted, NOBODY.pw_uid, -1)
    with pytest.raises(InputError, match="other users may write to"):
        database_of(path)
    path.parent.chmod(0o777)
    path.chmod(0o666)  # who may write the file needs no flags
    assert database_of(path)


@pytest.mark.parametrize("name", ["\0.c", "\ud800.c", "round.c", "../" * 2000 + "x.c"])
def test_names_that_no_file_can_have_in_a_build_change_nothing(tmp_path, name):
    path = compiled(tmp_path, "-DN=64")
    (tmp_path / "round.c").symlink_to("round.c")
    place = tmp_path / "build" / "compile_commands.json"
    odd = {"directory": str(tmp_path), "file": name, "command": "cc x.c"}
    place.write_text(json.dumps([odd, *json.loads(place.read_text())]))
    assert database_of(path)[1].cflags == ("-DN=64",)


def test_a_build_of_other_files_and_one_that_cannot_be_read_change_nothing(tmp_path):
    path = compiled(tmp_path, "-DN=64")
    assert database_of(path)[1].cflags == ("-DN=64",)
    compiled(tmp_path, "-DN=64", file="src/other.c")
    assert database_of(path) is None
    (tmp_path / "build" / "compile_commands.json").write_text("[")
    ran = agent("predict", path, "--schedule", "vectorize i", "--json")
    assert "its flags are not used" in ran.err


@pytest.mark.parametrize(
    ("cflags", "flags"),
    [
        (("-DN=1", "-O2", "-fopenmp"), ("-std=gnu11", "-O2", "-fopenmp")),
        (("-O0", "-g"), None),
        ((), None),
    ],
)
def test_a_build_that_is_not_optimised_leaves_the_flags_to_the_agent(cflags, flags):
    assert build_flags(cflags) == flags


def test_versions_are_compiled_with_the_flags_of_a_build_that_leaves_only_optimising_to_the_agent(
    tmp_path,
):
    usual = runner_for_programs(Config(tmp_path)).toolchain.flags
    told = runner_for_programs(Config(tmp_path), ("-ffast-math", "-DN=1", "-O0")).toolchain
    assert told.flags == (*usual, "-ffast-math")
