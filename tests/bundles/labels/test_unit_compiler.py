"""Programs compiled by the unit are the programs that were given; one cannot spoil the others."""

import random
import shutil
from pathlib import Path

import pytest

from agent.errors import CompilerError
from agent.loopnest.emitter.emit import emit
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.measure.cache import Cache
from agent.measure.compiler import working_compiler
from agent.measure.session import TimingSettings
from agent.measure.timing import Outcome
from agent.measure.worker_runner import WorkerRunner
from bundles.corpus.corpus import random_program
from bundles.labels.units import UNIT, UnitCompiler, unit_of

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
ONCE = TimingSettings(sample_s=0.001, rounds=1, min_rounds=1, extra_rounds=0, shared_rounds=0)
BAD = "void loopnest_run(void *const args[]) { not C }"


@pytest.fixture
def compiler() -> UnitCompiler:
    return UnitCompiler.of(working_compiler("gcc", ("-O1", "-fopenmp")))


def test_every_version_of_a_unit_computes_what_its_program_does(
    compiler: UnitCompiler, tmp_path: Path
) -> None:
    program = random_program(random.Random("units"))
    versions = [version for _, version in candidate_schedules(program, 8)]
    found = WorkerRunner(compiler, Cache(tmp_path / "cache"), ONCE).measure(
        versions[0], versions[1:]
    )
    assert found.base.outcome == Outcome.OK
    assert [t.outcome for t in found.timings] == [Outcome.OK] * len(versions[1:])


def test_more_programs_than_a_unit_holds_are_all_built_and_equal_ones_once(
    compiler: UnitCompiler, tmp_path: Path
) -> None:
    sources = [f"void loopnest_run(void *const *a) {{ *(int *)a[0] = {n}; }}" for n in range(UNIT)]
    built = compiler.build([*sources, BAD.replace("not C", ""), sources[0]], Cache(tmp_path))
    assert len(set(built)) == UNIT + 1
    assert built[0] == built[-1]


def test_a_program_that_does_not_compile_does_not_take_its_unit_along(
    compiler: UnitCompiler, tmp_path: Path
) -> None:
    good = emit(random_program(random.Random("units")))
    refused, built = compiler.build([BAD, good], Cache(tmp_path))
    assert isinstance(refused, CompilerError)
    assert not isinstance(built, CompilerError)


def test_names_of_one_program_do_not_meet_those_of_another() -> None:
    source = "static int helper(int x) { return x; }\nvoid loopnest_run(void) {}\n"
    unit = unit_of([source, source])
    assert "#define helper helper_0" in unit
    assert "#define helper helper_1" in unit
    assert "#define loopnest_run loopnest_run_1" in unit
