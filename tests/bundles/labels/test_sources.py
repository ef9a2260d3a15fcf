"""Label files stand on their own: the C in them is the program, whatever draws programs by then."""

import random
from pathlib import Path

import numpy as np
import pytest

from agent.errors import AgentError
from agent.kernels.fixed_set import kernels, load_kernel
from agent.loopnest.emitter.emit import emit_source
from agent.loopnest.frontend.parse import plain
from agent.loopnest.lowering.reader import parse_program
from agent.loopnest.program import Program
from bundles.corpus.corpus import random_program
from bundles.labels.labels import load_labels
from bundles.labels.programs import corpus_program
from tests.bundles.labels.test_labels import outermost, row, written


def again(program: Program) -> Program:
    assert plain(emit_source(program).encode())
    return parse_program(emit_source(program), "again.c", function=None, sizes={})


@pytest.mark.parametrize("number", range(40))
def test_the_c_of_a_random_program_reads_as_that_program(number: int) -> None:
    program = random_program(random.Random(f"sources/{number}"))
    assert again(program) == program


def test_the_c_of_the_fixed_set_reads_as_its_kernels() -> None:
    programs = [load_kernel(kernel) for kernel in kernels()]
    assert [again(p) for p in programs] == programs


def test_features_are_those_of_the_c_in_the_file_whatever_the_generator_draws(
    tmp_path: Path,
) -> None:
    source = emit_source(corpus_program(0, 3))
    drawn = [row(3, "original"), row(3, outermost(3))]
    kept = [{**r, "number": 999_999, "source": ""} for r in drawn]
    kept[0]["source"] = source
    known = load_labels(written(tmp_path / "drawn.parquet", drawn))
    found = load_labels(written(tmp_path / "kept.parquet", kept))
    np.testing.assert_array_equal(found.features, known.features)
    np.testing.assert_array_equal(found.work, known.work)


def test_a_file_whose_c_cannot_be_read_is_refused(tmp_path: Path) -> None:
    damaged = [row(3, "original", source="void f(void) { while (1) { } }")]
    with pytest.raises(AgentError, match="the C of a program cannot be read"):
        load_labels(written(tmp_path / "a.parquet", damaged))


@pytest.mark.parametrize(
    "text",
    [
        '#include "/etc/passwd"\nvoid f(int *a) { for (int i = 0; i < 9; i++) a[i] = 0; }',
        "void f(int *a) { for (int i = 0; i < 9; i++) a[i] = " + "1+" * 30_000 + "1; }",
        "#define A(x) x x x x\nvoid f(int *a) { A(A(A(A(A(a[0] = 0;))))) }",
    ],
)
def test_c_that_could_do_more_than_say_a_program_is_not_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(AgentError, match="is not plain"):
        load_labels(written(tmp_path / "a.parquet", [row(3, "original", source=text)]))
