"""Causes add up to the prediction, and the known one is first; figures are the program's."""

import math
from dataclasses import replace

import pytest

from agent.advise.advise import Request
from agent.advise.causes import shares, with_marks
from agent.advise.explain import explain
from agent.bundle.bundle import default_bundle, load_bundle
from agent.calibration.calibration import calibration_in_force
from agent.calibration.predictor import load_predictor
from agent.kernels.fixed_set import SET, fixed_variants, kernels, load_kernel
from agent.loopnest.program import loops
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import parse_schedule
from agent.measure.machine import read_machine
from agent.settings.config import Config
from agent.state.state import read_state
from benchmarks.causes import named

SIZES = {"ni": 512, "nj": 512, "nk": 512}
MARKS_ONLY = next(p for p in fixed_variants() if str(p.schedule) == "parallelize i")
RICH = "tile i 32 j 32; parallelize i_t; vectorize k"


@pytest.fixture(scope="module")
def alone():
    """The bundle that comes with the agent, without a calibration."""
    return load_predictor(None, load_bundle(default_bundle()), read_machine())


@pytest.fixture
def explained(gemm):
    """A function that explains a schedule of the gemm."""
    config = Config(gemm.parent / "state")
    return lambda schedule: explain(config, Request(gemm, None, SIZES, None), schedule)


def split(predictor, planned):
    program = load_kernel(planned.kernel)
    variant = transform(program, planned.schedule)
    (found,) = predictor.predict(program, [variant])
    return math.log(found.speedup), shares(predictor, program, variant)


@pytest.mark.parametrize("planned", fixed_variants()[::8], ids=lambda p: str(p.schedule))
def test_the_causes_add_up_to_the_prediction(alone, planned):
    total, parts = split(alone, planned)
    assert sum(p.log_speedup for p in parts) == pytest.approx(total, abs=1e-6)
    sizes = [abs(p.log_speedup) for p in parts]
    assert sizes == sorted(sizes, reverse=True)


def test_the_causes_add_up_under_a_calibration_too(calibrated, tiny_bundle):
    with read_state(calibrated) as state:
        stored = calibration_in_force(state)
    predictor = load_predictor(stored, load_bundle(tiny_bundle), read_machine())
    assert predictor.calibration_id is not None
    total, parts = split(predictor, fixed_variants()[0])
    assert sum(p.log_speedup for p in parts) == pytest.approx(total, abs=1e-6)


def test_they_add_up_with_a_head_that_tells_programs_apart_that_are_the_same(alone):
    class Biased:
        def predict(self, design, kind):
            mean, sd = alone.head.predict(design, kind)
            return mean + 0.3, sd

    for planned in (fixed_variants()[0], MARKS_ONLY):
        total, parts = split(replace(alone, head=Biased()), planned)
        assert sum(p.log_speedup for p in parts) == pytest.approx(total, abs=1e-6)


def test_the_known_cause_is_first_in_nine_of_ten_single_steps(alone):
    """A share of the fixed set; benchmarks/causes.py looks at all of it."""
    found = [n for kernel in kernels()[::6] for n in named(kernel, alone)]
    assert len(found) >= 20
    assert sum(n.right for n in found) >= 0.9 * len(found), [n for n in found if not n.right]


def test_a_long_stride_that_goes_is_the_first_cause_with_its_figures(explained):
    told = explained("interchange j k")
    first = told["causes"][0]
    assert first["cause"] == "memory"
    stride = {"what": "stride", "subject": "B", "before": 2048.0, "after": 4.0}
    assert stride in first["figures"]


def test_tiles_of_a_transpose_touch_fewer_pages_that_are_not_recent(tmp_path):
    request = Request(SET.with_name("transpose.c"), None, {"ni": 2_048, "nj": 2_048}, None)
    told = explain(Config(tmp_path / "state"), request, "tile i 32 j 32")
    assert told["causes"][0]["cause"] == "memory"
    figures = {f["what"]: f for f in told["causes"][0]["figures"]}
    assert figures["page-walks"]["before"] > 2_048 * 2_048
    assert figures["page-walks"]["after"] < 0.2 * figures["page-walks"]["before"]


def test_threads_and_trip_counts_are_counted_from_the_loops(explained):
    told = explained(RICH)
    figures = {f["what"]: f for cause in told["causes"] for f in cause["figures"]}
    assert figures["forks"]["after"] == 1
    assert figures["threads"]["before"] == 1
    assert figures["threads"]["after"] == min(read_machine().threads, 16)
    assert [x["loop"] for x in told["loops"]["after"]] == ["i_t", "j_t", "i", "j", "k"]
    assert [x["iterations"] for x in told["loops"]["after"]] == [16, 16, 32, 32, 512]


def test_register_tiles_and_buffers_are_explained_by_the_names_of_the_program(explained):
    told = explained("tile j 64; interchange i j_t; pack B j_t; vectorize j 16; jam i 4")
    loops = [(x["loop"], x["iterations"]) for x in told["loops"]["after"]]
    assert loops == [("j_t", 8), ("i", 512), ("j", 4), ("k", 512), ("j", 16)]
    figures = [f for cause in told["causes"] for f in cause["figures"] if f["what"] == "stride"]
    assert {f["subject"] for f in figures} <= {"A", "B", "C"}


def test_of_many_statements_the_one_with_most_work_speaks(tmp_path):
    request = Request(SET.with_name("softmax.c"), None, {"ni": 2_000, "nj": 256}, None)
    told = explain(Config(tmp_path / "state"), request, "vectorize j2")
    assert [x["loop"] for x in told["loops"]["after"]] == ["i", "j2"]
    (lanes,) = (f for c in told["causes"] for f in c["figures"] if f["what"] == "lanes")
    assert (lanes["before"], lanes["after"]) == ("call", "marked")


def test_a_statement_that_never_runs_is_passed_over(tmp_path):
    path = tmp_path / "late.c"
    path.write_text(
        "void late(int n, double A[n][n]) {\n"
        "  for (int i = 0; i < n; i++) {\n"
        "    for (int j = n; j < n; j++)\n      A[i][j] = 1.0;\n"
        "    for (int k = 0; k < n; k++)\n      A[i][k] = 2.0 * A[i][k];\n  }\n}\n"
    )
    told = explain(Config(tmp_path / "state"), Request(path, None, {"n": 64}, None), "original")
    assert [x["loop"] for x in told["loops"]["before"]] == ["i", "k"]
    assert [x["iterations"] for x in told["loops"]["before"]] == [64, 64]


def test_the_program_as_written_has_no_causes(explained):
    told = explained("original")
    assert told["causes"] == []
    assert told["speedup"] == 1.0
    assert told["loops"]["before"] == told["loops"]["after"]


def test_what_forbids_a_step_is_a_dependence_with_two_instances(tmp_path):
    path = tmp_path / "sweep.c"
    path.write_text(
        "void sweep(int n, double A[n][n]) {\n"
        "  for (int i = 1; i < n; i++)\n    for (int j = 1; j < n; j++)\n"
        "      A[i][j] = A[i - 1][j] + A[i][j - 1];\n}\n"
    )
    request = Request(path, None, {"n": 200}, None)
    told = explain(Config(tmp_path / "state"), request, "original")
    reasons = {o["step"]: o["reason"] for o in told["obstacles"]}
    assert "from (i=1, j=1) to (i=2, j=1)" in reasons["parallelize i"]
    assert "from (i=1, j=1) to (i=1, j=2)" in reasons["vectorize j"]
    assert "interchange i j" not in reasons
    assert "unroll j 4" not in reasons


def test_marks_are_taken_off_one_kind_at_a_time():
    planned = next(p for p in fixed_variants() if "vectorize" in str(p.schedule))
    base = load_kernel(planned.kernel)
    marked = transform(base, parse_schedule("parallelize i; jam i 4; vectorize j"))
    only = with_marks(marked, frozenset({"jam"}))
    assert {(x.parallel, x.vector, x.unroll) for _, x in loops(only.body)} == {(False, False, 1)}
    assert max(x.jam for _, x in loops(only.body)) == 4
    assert with_marks(marked, frozenset()).body == base.body
