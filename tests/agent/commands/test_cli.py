"""Every command through the real console script, with real state, gcc and bundle."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import Exit
from tests.agent.state.states import made_newer
from tests.conftest import NO_TIMING, SCHEMAS, SCRIPT, SIZES, Ran, agent, environment, valid

TWO_REGIONS = """
void one(int n, float a[n])
{
#pragma scop
  for (int i = 0; i < n; i++)
    a[i] = a[i] * 2.0f;
#pragma endscop
}
void two(int n, float a[n])
{
#pragma scop
  for (int i = 0; i < n; i++)
    a[i] = a[i] + 1.0f;
#pragma endscop
}
"""


def failed(ran, code, words, hint=True):
    """A failure: its code, its words on stderr, a hint, no traceback."""
    assert ran.code == code, ran.err
    assert words in ran.err
    assert "Traceback" not in ran.err
    if hint:
        assert "hint: " in ran.err
    return ran


def test_help_shows_every_command():
    ran = agent("--help")
    assert ran.code == 0
    for command in "calibrate status history kernels predict explain rank measure".split():
        assert command in ran.out


def test_no_arguments_show_the_help():
    assert agent().out == agent("--help").out


@pytest.mark.parametrize(
    "command", "calibrate status history kernels predict explain rank measure".split()
)
def test_the_help_of_a_command_ends_with_an_example(command):
    ran = agent(command, "--help")
    assert ran.code == 0
    assert f"Example: agent {command}" in " ".join(ran.out.split())


def test_version_is_that_of_the_package():
    import tomllib

    project = tomllib.loads((SCHEMAS.parents[2] / "pyproject.toml").read_text())
    assert agent("--version").out == f"agent {project['project']['version']}\n"


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "agent", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.startswith("agent ")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['agent', '--help']; from agent.cli import main; main();"
        "heavy = {'numpy', 'onnxruntime', 'islpy', 'sklearn', 'rich', 'sqlite3'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_predict_imports_neither_sklearn_nor_rich(gemm, tiny_bundle, tmp_path):
    arguments = ["agent", "predict", str(gemm), *SIZES, "--no-run", "--schedule", "original"]
    arguments += ["--bundle", str(tiny_bundle), "--state-dir", str(tmp_path / "none")]
    code = (
        f"import sys; sys.argv = {arguments!r}; from agent.cli import main; code = main();"
        "heavy = {'sklearn', 'rich', 'scipy', 'torch'} & set(sys.modules);"
        "sys.exit(' '.join(heavy) or code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_calibrate_answers_with_all_that_the_schema_asks(really_calibrated):
    body = valid(really_calibrated[1].json, "calibrate")
    assert really_calibrated[1].code == 0
    assert body["calibration_id"] == 1
    assert 0 < body["timings"]["usable"] <= body["timings"]["planned"]
    assert sum(body["elapsed"].values()) == pytest.approx(body["elapsed_s"], abs=0.5)
    assert body["elapsed"]["compiling"] > 0
    assert body["elapsed"]["measuring"] > 0


def test_progress_goes_to_stderr_as_plain_lines_when_it_is_no_terminal(really_calibrated):
    lines = really_calibrated[1].err.splitlines()
    assert any("measuring: " in line for line in lines)
    assert "\x1b" not in really_calibrated[1].err


def test_status_shows_the_calibration_in_force(calibrated):
    body = valid(agent("status", "--json", "--state-dir", calibrated).json, "status")
    assert body["calibration"]["calibration_id"] == 1
    assert body["calibration"]["age_s"] >= 0
    assert body["unfinished"] is None
    text = agent("status", "--state-dir", calibrated).out
    assert "Calibration 1 is in force" in text


def test_status_without_a_calibration_says_what_to_do(tmp_path):
    ran = agent("status", "--state-dir", tmp_path / "none")
    assert ran.code == 0
    assert "Run `agent calibrate`" in ran.out
    assert not (tmp_path / "none").exists()
    body = agent("status", "--json", "--state-dir", tmp_path / "none").json
    assert valid(body, "status")["calibration"] is None


def test_history_lists_calibrations(calibrated):
    body = valid(agent("history", "--json", "--state-dir", calibrated).json, "history")
    assert [c["calibration_id"] for c in body["calibrations"]] == [1]
    assert "tiny 1" in agent("history", "--state-dir", calibrated).out


def test_kernels_lists_the_fixed_set():
    body = valid(agent("kernels", "--json").json, "kernels")
    assert len(body["kernels"]) >= 20
    assert sum(len(k["schedules"]) for k in body["kernels"]) == body["variants"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_text_keeps_within_the_terminal(calibrated, width):
    for command in ("status", "kernels", "history"):
        ran = agent(command, "--state-dir", calibrated, COLUMNS=str(width))
        state = str(calibrated)
        assert all(len(line) <= width for line in ran.out.splitlines() if state not in line)


def test_predict_gives_intervals_around_its_values(calibrated, gemm):
    schedule = "interchange j k; vectorize j"
    where = ("--state-dir", calibrated, "--json")
    body = valid(
        agent("predict", gemm, *SIZES, "--no-run", "--schedule", schedule, *where).json, "predict"
    )
    assert body["schedule"] == schedule
    assert body["low"] < body["speedup"] < body["high"]
    assert body["seconds_low"] < body["seconds"] < body["seconds_high"]
    assert body["calibration_id"] == 1


def test_the_program_as_written_is_exactly_as_fast_as_itself(calibrated, gemm):
    where = ("--state-dir", calibrated, "--json")
    body = agent("predict", gemm, *SIZES, "--no-run", "--schedule", "original", *where).json
    assert (body["low"], body["speedup"], body["high"]) == (1.0, 1.0, 1.0)


def test_predict_without_a_calibration_uses_the_bundle_alone_and_says_so(
    tmp_path, gemm, tiny_bundle
):
    where = ("--state-dir", tmp_path / "none", "--bundle", tiny_bundle)
    ran = agent("predict", gemm, *SIZES, "--no-run", "--schedule", "vectorize k", *where)
    assert ran.code == 0
    assert "no calibration is in force" in ran.out
    body = agent(
        "predict", gemm, *SIZES, "--no-run", "--schedule", "vectorize k", *where, "--json"
    ).json
    assert valid(body, "predict")["calibration_id"] is None


def test_another_bundle_than_the_calibrations_predicts_alone(
    calibrated, gemm, tiny_bundle, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"version": "2"}))
    where = ("--state-dir", calibrated, "--bundle", other, "--json")
    body = agent("predict", gemm, *SIZES, "--no-run", "--schedule", "vectorize k", *where).json
    assert body["calibration_id"] is None
    assert body["notes"][0]["code"] == "other-bundle"


def test_rank_lists_the_best_first(calibrated, gemm):
    where = ("--state-dir", calibrated, "--json")
    ran = agent("rank", gemm, *SIZES, "--no-run", "--candidates", 30, "--top", 0, *where)
    body = valid(ran.json, "rank")
    speedups = [r["speedup"] for r in body["ranking"]]
    assert len(speedups) == body["candidates"] == 30
    assert speedups == sorted(speedups, reverse=True)
    assert "original" in [r["schedule"] for r in body["ranking"]]


def test_rank_says_what_cannot_be_told_from_the_first(calibrated, gemm):
    where = ("--no-run", "--candidates", 60, "--top", 0, "--state-dir", calibrated)
    ranking = valid(agent("rank", gemm, *SIZES, *where, "--json").json, "rank")["ranking"]
    first, *others = ranking
    assert first["tied"] is True
    same = [r["tied"] for r in others if r["speedup"] == first["speedup"]]
    assert all(same)
    tied = sum(r["tied"] for r in others)
    told = f"{tied} others are not to be told from the first" if tied > 1 else "ranked in"
    assert told in " ".join(agent("rank", gemm, *SIZES, *where).out.split())


def test_rank_and_predict_agree(calibrated, gemm):
    where = ("--state-dir", calibrated, "--json")
    best = agent("rank", gemm, *SIZES, "--no-run", "--candidates", 10, "--top", 1, *where).json[
        "ranking"
    ][0]
    again = agent("predict", gemm, *SIZES, "--no-run", "--schedule", best["schedule"], *where).json
    assert again["speedup"] == pytest.approx(best["speedup"], rel=1e-4)
    assert again["seconds"] == pytest.approx(best["seconds"], rel=1e-4)


def test_explain_says_why_in_factors_that_multiply_to_the_prediction(calibrated, gemm):
    asked = ("explain", gemm, *SIZES, "--no-run", "--schedule", "interchange j k; vectorize j")
    body = valid(agent(*asked, "--state-dir", calibrated, "--json").json, "explain")
    assert math.prod(c["factor"] for c in body["causes"]) == pytest.approx(body["speedup"])
    said = agent(*asked, "--state-dir", calibrated).out
    first = body["causes"][0]
    assert said.index("Why (") < said.index(f"x {first['factor']:.2f} ") < said.index("fits in")
    assert "B: stride 256 bytes -> 4 bytes at each step of the innermost loop" in said


def test_rank_says_under_the_table_why_the_first_is_first(calibrated, gemm):
    asked = (
        "rank",
        gemm,
        *SIZES,
        "--no-run",
        "--candidates",
        10,
        "--top",
        1,
        "--state-dir",
        calibrated,
    )
    body = valid(agent(*asked, "--json").json, "rank")
    whole = math.prod(c["factor"] for c in body["causes"])
    assert whole == pytest.approx(body["ranking"][0]["speedup"])
    assert f"The first, mostly: x {body['causes'][0]['factor']:.2f} " in agent(*asked).out


def test_measure_answers_in_the_order_asked(tmp_path, gemm):
    schedules = ("vectorize k", "original", "interchange j k")
    asked = [word for s in schedules for word in ("--schedule", s)]
    ran = agent("measure", gemm, *SIZES, *asked, "--json", "--state-dir", tmp_path / "state")
    body = valid(ran.json, "measure")
    assert [m["schedule"] for m in body["measurements"]] == list(schedules)
    for entry in body["measurements"]:
        assert entry["outcome"] == "ok"
        assert 0 < entry["low"] <= entry["speedup"] <= entry["high"]
        assert entry["seconds"] > 0


def test_a_function_is_chosen_by_name(tmp_path, tiny_bundle):
    path = tmp_path / "two.c"
    path.write_text(TWO_REGIONS)
    where = ("--schedule", "vectorize i", "--bundle", tiny_bundle, "--state-dir", tmp_path / "s")
    failed(agent("predict", path, "--size", "n=1000", *where), 2, "one")
    ran = agent("predict", path, "--size", "n=1000", "--function", "two", *where)
    assert ran.code == 0, ran.err


def test_macros_come_from_cflags(tmp_path, tiny_bundle):
    path = tmp_path / "macro.c"
    path.write_text(TWO_REGIONS.split("void two")[0].replace("2.0f", "FACTOR"))
    where = ("--schedule", "vectorize i", "--bundle", tiny_bundle, "--state-dir", tmp_path / "s")
    ran = agent("predict", path, "--size", "n=1000", "--cflags", "-D FACTOR=3.0f", *where)
    assert ran.code == 0, ran.err


def test_numbers_in_answers_are_finite(really_calibrated):
    def walk(value):
        if isinstance(value, float):
            assert math.isfinite(value)
        for item in value.values() if isinstance(value, dict) else ():
            walk(item)
        for item in value if isinstance(value, list) else ():
            walk(item)

    walk(really_calibrated[1].json)


# --- bad input: each has an exit code and a hint ---------------------------------------------


def bad(tmp_path, text, *more, name="bad.c", command="predict", schedule="original"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    where = ("--schedule", schedule, "--state-dir", tmp_path / "state")
    return agent(command, path, *more, *where)


def scop(body, parameters="int n, float a[n]"):
    return f"void f({parameters})\n{{\n#pragma scop\n{body}\n#pragma endscop\n}}\n"


LOOP = "for (int i = 0; i < n; i++) a[i] = a[i] + 1.0f;"


def test_an_unknown_command_is_usage():
    failed(agent("frobnicate"), 2, "frobnicate")


def test_a_missing_option_is_usage(gemm):
    failed(agent("predict", gemm), 2, "--schedule")


def test_a_file_that_is_not_there(tmp_path):
    failed(agent("predict", tmp_path / "none.c", "--schedule", "original"), 2, "none.c", hint=False)


def test_not_c(tmp_path):
    ran = failed(bad(tmp_path, "this is not C {{{", "--size", "n=10"), 2, "bad.c", hint=False)
    assert ran.out == ""


def test_binary_rubbish(tmp_path):
    failed(bad(tmp_path, bytes(range(256)), "--size", "n=10"), 2, "bad.c", hint=False)


def test_no_loops(tmp_path):
    failed(bad(tmp_path, "void f(int n) { }", "--size", "n=10"), 2, "no function has a for loop")


def test_a_subscript_that_is_not_affine(tmp_path):
    body = "for (int i = 0; i < n; i++) a[i * i] = 1.0f;"
    ran = failed(bad(tmp_path, scop(body), "--size", "n=10"), 2, "bad.c:", hint=False)
    assert ":4:" in ran.err


def test_a_size_that_is_not_known(tmp_path):
    failed(bad(tmp_path, scop(LOOP), "--size", "n=10", "--size", "m=3"), 2, "m", hint=False)


def test_the_sizes_not_given_may_have_one_value(calibrated, gemm):
    where = ("--no-run", "--json", "--schedule", "original", "--state-dir", calibrated)
    some = ("--size", "nk=32", "--other-sizes", 64)
    each = ("--size", "ni=64", "--size", "nj=64", "--size", "nk=32")
    told = [agent("predict", gemm, *sizes, *where).json["program"] for sizes in (some, each)]
    assert told[0] == told[1]


def test_a_size_that_is_missing(tmp_path):
    failed(bad(tmp_path, scop(LOOP)), 2, "n", hint=False)


@pytest.mark.parametrize("size", ["n", "n=", "n=x", "n=-1", "=3", "n=1e3", "n=0", "n=16777217"])
def test_a_size_that_is_not_a_number(tmp_path, size):
    failed(bad(tmp_path, scop(LOOP), "--size", size), 2, "--size", hint=False)


def test_more_memory_than_the_machine_has(tmp_path):
    text = scop(
        "for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) a[i][j] = 1.0f;",
        "int n, float a[n][n]",
    )
    failed(bad(tmp_path, text, "--size", "n=10000000"), 2, "memory", hint=False)


def test_a_schedule_that_does_not_parse(tmp_path):
    failed(bad(tmp_path, scop(LOOP), "--size", "n=10", schedule="shuffle i"), 2, "shuffle")


def test_a_schedule_that_is_illegal_names_the_dependence(tmp_path):
    text = scop("for (int i = 1; i < n; i++) a[i] = a[i - 1] + 1.0f;")
    ran = bad(tmp_path, text, "--size", "n=10", schedule="parallelize i")
    failed(ran, 2, "dependence", hint=False)


def test_a_compiler_that_is_missing(tmp_path, gemm):
    where = ("--schedule", "original", "--state-dir", tmp_path / "s", "--compiler", "no-such-cc")
    failed(agent("measure", gemm, *SIZES, *where), 2, "no-such-cc")


def test_a_compiler_that_fails_is_quoted(tmp_path, gemm):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'out of cheese' >&2\nexit 1\n")
    compiler.chmod(0o755)
    where = ("--state-dir", tmp_path / "s", "--compiler", compiler)
    failed(agent("calibrate", *where), 2, "", hint=False)
    ran = agent("measure", gemm, *SIZES, "--schedule", "original", *where)
    failed(ran, 2, "out of cheese")


def test_a_kernel_that_crashes(tmp_path):
    text = scop(
        "for (int i = 0; i < n; i++) a[i] = a[i] / (b[i] - b[i]);", "int n, int a[n], int b[n]"
    )
    ran = bad(tmp_path, text, "--size", "n=100", command="measure")
    failed(ran, 3, "the program as written: crashed")
    assert "divisions by zero" in ran.err


def test_a_kernel_that_hangs(tmp_path):
    text = scop(
        "for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) a[0] += b[i] * b[j];",
        "int n, double a[n], const double b[n]",
    )
    (tmp_path / "hangs.c").write_text(text)
    soon = (
        "import agent.measure.worker_runner as at_work\n"
        "usual = at_work.TimingSettings\n"
        "at_work.TimingSettings = lambda: usual(limit_s=0.1)\n"
        "import agent.advise.own_function as own\n"
        "object.__setattr__(own.USUAL, 'call_s', 0.1)"  # of the person's own function
    )
    where = ("--schedule", "original", "--state-dir", tmp_path / "state")
    ran = agent("measure", tmp_path / "hangs.c", "--size", "n=400000", *where, first=soon)
    failed(ran, 3, "timeout")


@pytest.mark.parametrize("spoilt", ["manifest.json", "encoder.onnx", "prior.json"])
def test_a_corrupt_bundle(tmp_path, gemm, tiny_bundle, spoilt):
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    (copy / spoilt).write_bytes((copy / spoilt).read_bytes()[:-40] + b"rubbish")
    where = ("--bundle", copy, "--state-dir", tmp_path / "s")
    failed(agent("predict", gemm, *SIZES, "--no-run", "--schedule", "original", *where), 2, spoilt)
    failed(agent("calibrate", *where), 2, spoilt)


def test_a_foreign_bundle(tmp_path, gemm):
    (tmp_path / "foreign").mkdir()
    where = ("--bundle", tmp_path / "foreign", "--state-dir", tmp_path / "s")
    failed(
        agent("predict", gemm, *SIZES, "--no-run", "--schedule", "original", *where),
        2,
        "manifest.json",
    )


def test_a_state_of_a_newer_agent_is_left_alone(tmp_path, calibrated, tiny_bundle):
    state = tmp_path / "state"
    shutil.copytree(calibrated, state)
    made_newer(state)
    before = (state / "state.sqlite").read_bytes()
    failed(agent("status", "--state-dir", state), 2, "newer agent")
    failed(agent("calibrate", "--bundle", tiny_bundle, "--state-dir", state), 2, "newer agent")
    assert (state / "state.sqlite").read_bytes() == before


def test_a_state_directory_that_cannot_be_made(tmp_path, gemm, tiny_bundle):
    (tmp_path / "file").write_text("")
    where = ("--state-dir", tmp_path / "file" / "below")
    failed(agent("calibrate", "--bundle", tiny_bundle, *where), 2, "below")
    failed(agent("measure", gemm, *SIZES, "--schedule", "original", *where), 2, "below")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a read-only file system")
def test_a_read_only_file_system(tiny_bundle):
    failed(
        agent("calibrate", "--bundle", tiny_bundle, "--state-dir", "/sys/agent"), 2, "/sys/agent"
    )


def test_a_full_disk_keeps_what_was_there(tmp_path, calibrated, tiny_bundle):
    """A limit on file sizes makes every write beyond it fail, as a full disk does."""
    state = tmp_path / "state"
    shutil.copytree(calibrated, state)
    size = (state / "state.sqlite").stat().st_size
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    where = ("--bundle", tiny_bundle, "--state-dir", state)
    failed(agent("calibrate", "--budget", "3s", *where, first=f"{limited}; {NO_TIMING}"), 2, "")
    body = agent("status", "--json", "--state-dir", state).json
    assert body["calibration"]["calibration_id"] == 1


@pytest.mark.parametrize("budget", ["soon", "-5", "0s", "99h", "5x", "", "1s2"])
def test_a_budget_that_is_no_duration(tmp_path, budget):
    ran = agent("calibrate", "--budget", budget, "--state-dir", tmp_path / "s")
    if budget:
        failed(ran, 2, "--budget")


def test_a_refit_without_timings(tmp_path, tiny_bundle):
    where = ("--bundle", tiny_bundle, "--state-dir", tmp_path / "s")
    failed(agent("calibrate", "--refit", *where), 3, "no stored timings")


def test_a_configuration_that_is_wrong(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("budgte = '20s'\n")
    failed(agent("status", AGENT_CONFIG=str(path)), 2, "budgte")


def test_errors_are_json_too(tmp_path):
    ran = agent("predict", tmp_path / "none.c", "--schedule", "original", "--json")
    body = valid(ran.json, "error")
    assert body["error"]["exit_code"] == ran.code == 2
    usage = agent("predict", "--json")
    assert valid(usage.json, "error")["error"]["exit_code"] == usage.code == 2


def test_a_bug_is_a_short_message_and_a_log_file(tmp_path):
    code = (
        "import sys, agent.upkeep.records; agent.upkeep.records.read_status = lambda d: 1 / 0;"
        f"sys.argv = ['agent', 'status', '--state-dir', {str(tmp_path)!r}];"
        "from agent.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 70
    assert "Traceback" not in done.stderr
    logs = list(tmp_path.glob("crash-*.log"))
    assert str(logs[0]) in done.stderr
    assert "ZeroDivisionError" in logs[0].read_text()


@pytest.mark.parametrize("ours", [True, False], ids=["state", "temporary"])
def test_the_log_of_a_bug_makes_room_among_our_own_only(tmp_path, ours):
    """In the temporary directory, where all write, nothing at all is removed."""
    place = tmp_path / "place"
    place.mkdir()
    old = [place / f"crash-20260101-0000{n:02}-1.log" for n in range(12)]
    others = [place / name for name in ("crash-1.log", "crash-20260101-000000-1.log.gz")]
    for path in (*old, *others):
        path.touch()
    state = place if ours else tmp_path / "file" / "none"
    (tmp_path / "file").touch()
    code = (
        "import sys, agent.upkeep.records; agent.upkeep.records.read_status = lambda d: 1 / 0;"
        f"sys.argv = ['agent', 'status', '--state-dir', {str(state)!r}];"
        "from agent.cli import main; sys.exit(main())"
    )
    on = environment(TMPDIR=str(place))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=on)
    assert done.returncode == 70
    assert all(path.exists() for path in others)
    assert [path.exists() for path in old] == ([False] * 3 + [True] * 9 if ours else [True] * 12)
    assert len(list(place.glob("crash-*.log"))) == (11 if ours else 14)


def stopped_while_importing(number, turned_into, *arguments):
    """A command that gets a signal inside an import, which turns the stop into another error."""
    code = f"""
import os, sys, time

class InTheMiddle:
    def find_spec(self, name, path=None, target=None):
        if name == "agent.upkeep.records":
            try:
                os.kill(os.getpid(), {int(number)})
                time.sleep(20)
            except KeyboardInterrupt:
                raise {turned_into}("initialization failed") from None

sys.meta_path.insert(0, InTheMiddle())
sys.argv = {["agent", *map(str, arguments)]!r}
from agent.cli import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "turned_into", ["ImportError", "SystemError", "KeyboardInterrupt", "__import__('agent.errors')"
                    ".errors.CompilerError"]
)  # fmt: skip
def test_a_stop_inside_an_import_is_an_interruption_and_no_bug(tmp_path, number, turned_into):
    ran = stopped_while_importing(number, turned_into, "status", "--json", "--state-dir", tmp_path)
    assert ran.code == 130
    assert ran.err == "error: interrupted\n"
    assert valid(ran.json, "error")["error"]["exit_code"] == 130
    assert list(tmp_path.iterdir()) == []


def test_a_stop_in_the_first_moments_has_no_traceback():
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': sys.meta_path.remove(self); raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop()); sys.argv = ['agent', 'status']\n"
        "from agent.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_what_the_parent_has_it_ignore_is_ignored(tmp_path):
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c"]
    code = (
        "import os, signal, sys, agent.upkeep.records as r\n"
        "read = r.read_status\n"
        "r.read_status = lambda d: (os.kill(os.getpid(), signal.SIGINT), read(d))[1]\n"
        f"sys.argv = ['agent', 'status', '--state-dir', {str(tmp_path)!r}]\n"
        "from agent.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([*words, code], capture_output=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr


def test_the_schema_of_errors_knows_every_exit_code():
    schema = json.loads((SCHEMAS / "error.json").read_text())
    known = schema["properties"]["error"]["properties"]["exit_code"]["enum"]
    assert known == sorted(set(Exit) - {Exit.OK})


def test_not_due_is_a_json_answer_that_its_schema_knows(calibrated, tiny_bundle):
    where = ("--bundle", tiny_bundle, "--state-dir", calibrated)
    ran = agent("calibrate", "--if-due", "--json", *where)
    assert valid(ran.json, "error")["error"]["exit_code"] == ran.code == 7
    assert "not due" in ran.json["error"]["message"]


def test_not_quiet_is_a_json_answer_that_its_schema_knows(tmp_path):
    busy = "import agent.measure.quiet as quiet; quiet.busy_shares = lambda *_: (0.5, 0.0)"
    words = ("calibrate", "--when-quiet", "--json", "--state-dir", tmp_path)
    ran = agent(*words, AGENT_QUIET_WAIT="1s", first=busy)
    assert valid(ran.json, "error")["error"]["exit_code"] == ran.code == 8
    assert "not quiet" in ran.json["error"]["message"]


def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [SCRIPT, "kernels", "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(),
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_answer_that_does_not_fit_on_the_disk_is_no_bug(tmp_path, options):
    command = [SCRIPT, "kernels", *options]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert ran.returncode == Exit.NOT_WRITTEN
    assert ran.stderr.startswith("error: the answer cannot be written: No space left on device")
    assert "hint: " in ran.stderr
    assert "Traceback" not in ran.stderr
