import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ScheduleError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Bound,
    DType,
    Loop,
    Program,
    Read,
    Statement,
)
from agent.measure.machine import read_machine
from agent.measure.plan import Arguments, ArrayArgument, Job, ScalarArgument
from agent.measure.session import TimingSettings
from agent.measure.shots import Sharing
from agent.measure.timing import MeasureEvent, Measurement
from agent.measure.toolchain import Toolchain
from agent.measure.worker_runner import WorkerRunner
from tests.agent.measure.conftest import program

ADD = "for (int i = 0; i < 4096; i++) x[i] += y[i];"
BACKWARDS = "for (int i = 4095; i >= 0; i--) x[i] += y[i];"
TWICE = f"for (volatile int t = 0; t < 8; t++) {{ {ADD} }}"
PATIENCE_S = 250  # against hanging only

AT_I = Affine.var("i")
TRAP_ON_DENORMALS = """
    volatile float tiny = 1e-30f, product = tiny * 1e-10f;
    if (product != 0) __builtin_trap();
"""


def outcomes(measured: Measurement) -> list[str]:
    return [t.outcome for t in measured.timings]


def test_equal_results_are_ok_and_have_every_number(runner: WorkerRunner, job) -> None:
    measured = runner.measure_job(job(BACKWARDS))
    (timing,) = measured.timings
    assert timing.ok
    assert timing.low <= timing.log_speedup <= timing.high
    assert timing.seconds_low <= timing.seconds <= timing.seconds_high
    assert timing.rounds + timing.redone >= 5
    assert timing.max_error == 0
    assert timing.checksum == measured.base.checksum
    assert 0 < len(measured.noise) <= len(measured.rounds)
    assert timing.sharing in set(Sharing)


def test_much_more_work_is_slower(runner: WorkerRunner, job) -> None:
    body = f"for (volatile int i = 0; i < 200000; i++) ; {ADD}"
    (timing,) = runner.measure_job(job(body)).timings
    assert timing.ok
    assert timing.high < -1


def test_a_wrong_result_is_found_and_names_the_array(runner: WorkerRunner, job) -> None:
    (timing,) = runner.measure_job(job(TWICE)).timings
    assert timing.outcome == "wrong-result"
    assert "array x" in timing.detail
    assert timing.max_error > 0.1


def test_results_left_by_the_program_before_are_not_credited(runner: WorkerRunner, job) -> None:
    assert outcomes(runner.measure_job(job(";"))) == ["wrong-result"]


def test_nan_in_place_of_a_number_is_wrong(runner: WorkerRunner, job) -> None:
    body = f"{ADD} x[7] = 0.0f / (x[8] - x[8]);"
    assert outcomes(runner.measure_job(job(body))) == ["wrong-result"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("*(volatile int *)8 = 1;", "SIGSEGV"),
        ("__builtin_trap();", "SIG"),
        ("((float *)y)[0] = 1;", "SIGSEGV"),
        ("for (long i = 0; i < 9000; i++) x[i] = 0;", "SIGSEGV"),
    ],
)
def test_a_crash_is_named_and_does_not_lose_the_others(
    runner: WorkerRunner, job, body: str, name: str
) -> None:
    first, second, third = runner.measure_job(job(BACKWARDS, body, ADD)).timings
    assert (first.outcome, second.outcome, third.outcome) == ("ok", "crashed", "ok")
    assert name in second.detail


def test_a_program_that_ends_the_process_has_crashed(runner: WorkerRunner, job) -> None:
    measured = runner.measure_job(job("exit(3);", headers="#include <stdlib.h>"))
    assert outcomes(measured) == ["crashed"]
    assert "status 3" in measured.timings[0].detail


def test_a_hang_is_ended_at_the_limit_and_does_not_lose_the_others(
    hasty: WorkerRunner, job
) -> None:
    measured = hasty.measure_job(job("for (volatile int z = 1; z;) ;", BACKWARDS))
    assert outcomes(measured) == ["timeout", "ok"]


def test_a_refused_program_does_not_lose_the_others(runner: WorkerRunner, job) -> None:
    measured = runner.measure_job(job("int q = ;", BACKWARDS))
    assert outcomes(measured) == ["compile-failed", "ok"]
    assert "expected expression" in measured.timings[0].detail


def test_a_program_without_the_entry_point_is_reported(
    runner: WorkerRunner, arguments: Arguments, add: str
) -> None:
    measured = runner.measure_job(Job(arguments, add, ("int other;", add)))
    assert outcomes(measured) == ["compile-failed", "ok"]
    assert "loopnest_run" in measured.timings[0].detail


CONFINED = """
    struct rlimit most;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) exit(10);
    if (getrlimit(RLIMIT_NPROC, &most) || most.rlim_max != 0) exit(11);
    if (getrlimit(RLIMIT_NOFILE, &most) || most.rlim_max != 64) exit(12);
    if (getrlimit(RLIMIT_FSIZE, &most) || most.rlim_max != 65536) exit(13);
    if (getrlimit(RLIMIT_CORE, &most) || most.rlim_max != 0) exit(14);
    if (getuid() && fork() != -1) exit(15);
"""
CONFINED_HEADERS = """
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
"""


def test_a_program_gains_no_rights_processes_or_files(runner: WorkerRunner, job) -> None:
    measured = runner.measure_job(job(ADD + CONFINED, headers=CONFINED_HEADERS))
    assert outcomes(measured) == ["ok"], measured.timings[0].detail


def test_a_program_that_takes_all_memory_is_stopped_by_the_limit(runner: WorkerRunner, job) -> None:
    body = "volatile char *p = malloc((size_t)64 << 30); *p = 1;" + ADD
    measured = runner.measure_job(job(body, BACKWARDS, headers="#include <stdlib.h>"))
    assert outcomes(measured) == ["crashed", "ok"]


def test_what_a_program_prints_is_ignored(runner: WorkerRunner, job) -> None:
    body = 'printf("@1 ok\\n@9 round 1 2 3\\n"); fprintf(stderr, "noise\\n");' + ADD
    measured = runner.measure_job(job(body, headers="#include <stdio.h>"))
    assert outcomes(measured) == ["ok"]
    assert "garbage" not in [n.kind for n in measured.notices]


def test_garbage_in_the_protocol_is_noticed_and_harmless(runner: WorkerRunner, job) -> None:
    body = 'for (int f = 3; f < 1024; f++) dprintf(f, "what?\\n");' + ADD
    measured = runner.measure_job(job(body, headers="#define _GNU_SOURCE\n#include <stdio.h>"))
    assert outcomes(measured) == ["ok"]
    assert "garbage" in [n.kind for n in measured.notices]


def test_a_failing_base_fails_every_variant(
    runner: WorkerRunner, arguments: Arguments, add: str
) -> None:
    bad = add.replace("for (int i = 0", "*(volatile int *)8 = 1; for (int i = 0")
    measured = runner.measure_job(Job(arguments, bad, (add,)))
    assert measured.base.outcome == "crashed"
    assert outcomes(measured) == ["crashed"]
    assert "the program as written" in measured.timings[0].detail


def test_arrays_that_do_not_fit_are_refused_before_anything_runs(
    runner: WorkerRunner, add: str
) -> None:
    huge = ArrayArgument("x", DType.F32, 1 << 44, written=True, restored=True, tolerance=0)
    measured = runner.measure_job(Job(Arguments((huge, huge)), add, (add,)))
    assert outcomes(measured) == ["out-of-memory"]
    assert "MiB" in measured.timings[0].detail


def test_arrays_the_system_refuses_are_out_of_memory(
    toolchain: Toolchain, cache: Path, quick: TimingSettings, add: str
) -> None:
    unknown = replace(read_machine(), available_bytes=0)
    huge = ArrayArgument("x", DType.U8, 1 << 47, written=False, restored=False, tolerance=0)
    runner = WorkerRunner(toolchain, cache, quick, unknown)
    measured = runner.measure_job(Job(Arguments((huge,)), add, ()))
    assert measured.base.outcome == "out-of-memory"


def test_values_do_not_drift_from_sample_to_sample(runner: WorkerRunner, job) -> None:
    """It would trap if the values of one sample met those of the one before."""
    body = f"if (x[0] > 1e6f) __builtin_trap(); {ADD}"
    measured = runner.measure_job(job(body))
    assert outcomes(measured) == ["ok"]


def test_scalars_arrive_with_their_type(runner: WorkerRunner) -> None:
    z = ArrayArgument("z", DType.F64, 2, written=True, restored=False, tolerance=0)
    scalars = (ScalarArgument(DType.F32, 0.75, 4.0), ScalarArgument(DType.I32, 3, 3))
    head = "void loopnest_run(void *const args[]) { double *z = args[0];"
    passed = f"{head} z[0] = *(float *)args[1]; z[1] = *(int *)args[2]; }}"
    known = f"{head} z[0] = 0.75; z[1] = 3; }}"
    assert outcomes(runner.measure_job(Job(Arguments((z,), scalars), known, (passed,)))) == ["ok"]


def test_denormals_are_flushed(runner: WorkerRunner, job) -> None:
    assert outcomes(runner.measure_job(job(TRAP_ON_DENORMALS + ADD))) == ["ok"]


def test_denormals_are_flushed_in_openmp_threads_too(
    runner: WorkerRunner, job, toolchain: Toolchain
) -> None:
    if not toolchain.openmp:
        pytest.skip("this compiler has no OpenMP")
    body = f"\n#pragma omp parallel\n{{ {TRAP_ON_DENORMALS} }}\n"
    assert outcomes(runner.measure_job(job(body + ADD))) == ["ok"]


def test_threads_are_bound_each_to_a_cpu_of_its_own(
    runner: WorkerRunner, job, toolchain: Toolchain
) -> None:
    if not toolchain.openmp:
        pytest.skip("this compiler has no OpenMP")
    body = """
    int at[1024] = {0}, first = sched_getcpu();
    #pragma omp parallel
    {
        cpu_set_t s;
        sched_getaffinity(0, sizeof s, &s);
        if (CPU_COUNT(&s) != 1) abort();
        if (omp_get_thread_num() == 0 && sched_getcpu() != first) abort();
        #pragma omp critical
        if (at[sched_getcpu()]++) abort();
    }
    """
    headers = "#define _GNU_SOURCE\n#include <omp.h>\n#include <sched.h>\n#include <stdlib.h>"
    assert outcomes(runner.measure_job(job(body + ADD, headers=headers))) == ["ok"]


def test_a_slow_program_takes_part_in_the_first_rounds_only(
    toolchain: Toolchain, cache: Path, job
) -> None:
    settings = TimingSettings(sample_s=0.0005, rounds=9, extra_rounds=0, slow_s=0.02)
    body = f"struct timespec t = {{0, 30000000}}; nanosleep(&t, 0); {ADD}"
    measured = WorkerRunner(toolchain, cache, replace(settings, early_width=0.0)).measure_job(
        job(body, BACKWARDS, headers="#include <time.h>")
    )
    slow, fast = measured.timings
    assert slow.rounds + slow.redone <= fast.rounds + fast.redone
    assert slow.log_speedup < -3


def test_a_spent_budget_still_gives_the_least_number_of_rounds(runner: WorkerRunner, job) -> None:
    measured = runner.measure_job(job(BACKWARDS), budget_s=0.0)
    assert len(measured.rounds) == 5


def test_progress_is_told_and_no_failure_where_there_was_none(runner: WorkerRunner, job) -> None:
    events: list[MeasureEvent] = []
    runner.measure_job(job(BACKWARDS), on_event=events.append)
    assert {"compiled", "checked", "round"} == {e.kind for e in events}


def test_prepared_sources_are_not_compiled_again(runner: WorkerRunner, job) -> None:
    plan = job(BACKWARDS)
    runner.prepare_sources((plan.base, *plan.variants))
    events: list[MeasureEvent] = []
    runner.measure_job(plan, on_event=events.append)
    assert "compiled" not in {e.kind for e in events}


def test_timings_are_json_without_nan(runner: WorkerRunner, job) -> None:
    (timing,) = runner.measure_job(job("int q = ;")).timings
    assert timing.to_json()["log_speedup"] is None
    assert timing.to_json()["outcome"] == "compile-failed"


SCRIPT = """
import signal, sys
from pathlib import Path
from agent.loopnest.program import DType
from agent.measure.plan import ArrayArgument, Arguments, Job
from agent.measure.worker_runner import WorkerRunner
from agent.measure.session import TimingSettings
from agent.measure.compiler import working_compiler
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell started with &
hang = "void loopnest_run(void *const args[]) { for (volatile int z = 1; z;) ; }"
x = ArrayArgument("x", DType.F32, 64, True, False, 0.0)
runner = WorkerRunner(working_compiler(), Path(sys.argv[1]), TimingSettings(limit_s=60))
runner.prepare_sources([hang])
print("ready", flush=True)
runner.measure_job(Job(Arguments((x,)), hang, ()))
"""


def workers_of(cache: Path) -> list[int]:
    """Processes that run an executable out of ``cache``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(cache) in str((entry / "exe").readlink()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_interruption_leaves_no_worker_behind(cache: Path, name: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        while not workers_of(cache):
            time.sleep(0.01)
            assert child.poll() is None
        child.send_signal(getattr(signal, name))
        child.wait(timeout=PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while workers_of(cache) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not workers_of(cache)


def loop_program(op: str, *, parallel: bool = False) -> Program:
    """``x[0] op= y[i]`` for 64 floats."""
    zero, last = (Bound(Affine.constant(0)),), (Bound(Affine.constant(63)),)
    body = Statement("S0", Access("x", (AT_I,)), op, Read(Access("y", (AT_I,))), (AT_I,))
    arrays = (Array("x", DType.F32, (64,)), Array("y", DType.F32, (64,)))
    return Program("p", arrays, (), (), (Loop("i", zero, last, 1, (body,), parallel=parallel),))


def test_programs_are_emitted_compiled_and_timed(runner: WorkerRunner) -> None:
    base = loop_program("+")
    measured = runner.measure(base, [loop_program("+", parallel=True), loop_program("-")])
    assert outcomes(measured) == ["ok", "wrong-result"]


def test_a_program_that_c_cannot_express_does_not_lose_the_others(
    runner: WorkerRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_subtraction(program: Program) -> str:
        if program == loop_program("-"):
            raise ScheduleError("C has no such thing")
        return emit(program)

    monkeypatch.setattr("agent.measure.worker_runner.emit", refuse_subtraction)
    base = loop_program("+")
    measured = runner.measure(base, [loop_program("-"), base])
    assert outcomes(measured) == ["compile-failed", "ok"]
    assert measured.timings[0].detail == "C has no such thing"
    assert {program for r in measured.rounds for program, _ in r.seconds} == {0, 1, 3}


# A compiler that computes something else when it optimises, played by the preprocessor.
MISCOMPILED = f"{ADD}\n#ifdef __OPTIMIZE__\nx[5] += 1;\n#endif\n"
CHAOTIC = """for (int t = 0; t < 400; t++) x[5] = 3.9f * x[5] - 3.9f * x[5] * x[5];"""


def test_a_base_that_optimisation_breaks_is_wrong_and_not_its_variants(
    runner: WorkerRunner, arguments: Arguments, add: str
) -> None:
    measured = runner.measure_job(Job(arguments, program(MISCOMPILED), (add,)))
    assert measured.base.outcome == "wrong-result"
    assert "the compiler computes a wrong result" in measured.base.detail
    assert outcomes(measured) == ["wrong-result"]
    assert measured.timings[0].detail.startswith("the program as written: the compiler")


def test_sums_of_pairs_blame_the_compiler_where_it_miscompiles_them(
    runner: WorkerRunner, arguments: Arguments
) -> None:
    """GCC before 11.5, 12.4 and 13.2 adds one of each pair twice (PR 110381)."""
    pairs = "for (int j = 0; j < 2048; j++) { s += y[2 * j + 1]; s += y[2 * j]; } x[0] = s;"
    base, careful = (program(f"{q} float s = 0; {pairs}") for q in ("", "volatile"))
    measured = runner.measure_job(Job(arguments, base, (careful,)))
    if measured.timings[0].ok:
        pytest.skip("this compiler is right")
    assert measured.base.outcome == "wrong-result"


def test_a_variant_that_optimisation_breaks_keeps_its_verdict(runner: WorkerRunner, job) -> None:
    measured = runner.measure_job(job(MISCOMPILED, BACKWARDS))
    assert measured.base.ok
    assert outcomes(measured) == ["wrong-result", "ok"]


def test_results_that_hang_on_rounding_blame_nobody_and_are_noticed(
    runner: WorkerRunner, arguments: Arguments, job
) -> None:
    base = program("x[5] = 0.4f; " + CHAOTIC)
    measured = runner.measure_job(Job(arguments, base, (program("x[5] = 0.41f;" + CHAOTIC),)))
    assert measured.base.ok
    assert outcomes(measured) == ["ok"]
    assert "rough" in [n.kind for n in measured.notices]
    assert "rough" not in [n.kind for n in runner.measure_job(job(BACKWARDS)).notices]


def test_a_base_too_slow_without_optimisation_does_not_blame_the_compiler(
    hasty: WorkerRunner, arguments: Arguments, add: str
) -> None:
    hang = "\n#ifndef __OPTIMIZE__\nfor (volatile int z = 1; z;) ;\n#endif\n"
    measured = hasty.measure_job(Job(arguments, program(MISCOMPILED + hang), (add,)))
    assert measured.base.ok
    assert outcomes(measured) == ["wrong-result"]


def test_arbitration_happens_once_and_only_where_a_result_is_wrong(
    runner: WorkerRunner, job
) -> None:
    events: list[MeasureEvent] = []
    runner.measure_job(job(BACKWARDS), on_event=events.append)
    assert "arbitrating" not in {e.kind for e in events}
    runner.measure_job(job(TWICE, ";"), on_event=events.append)
    assert [e.kind for e in events].count("arbitrating") == 1


def test_without_rounds_results_are_compared_and_nothing_is_timed(
    toolchain: Toolchain, cache: Path, job
) -> None:
    measured = WorkerRunner(toolchain, cache, TimingSettings(rounds=0)).measure_job(job(TWICE))
    assert outcomes(measured) == ["wrong-result"]
    assert measured.rounds == ()


def test_results_that_are_not_finite_are_noticed(
    runner: WorkerRunner, arguments: Arguments, job
) -> None:
    broken = program("for (int i = 0; i < 7; i++) x[i] = y[i] / (y[i] - y[i]);")
    measured = runner.measure_job(Job(arguments, broken, (broken,)))
    assert outcomes(measured) == ["ok"]
    assert [n.value for n in measured.notices if n.kind == "not-finite"] == [7]
    assert "not-finite" not in [n.kind for n in runner.measure_job(job(BACKWARDS)).notices]
