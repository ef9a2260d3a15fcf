"""The fixed benchmark set: it is whole, it is legal, and it is plain C."""

import shutil
import subprocess

import pytest

from agent.kernels.fixed_set import SET, fixed_variants, kernels, load_kernel
from agent.loopnest.program import DType, statements
from agent.loopnest.schedules import legality

KERNELS = {kernel.name: kernel for kernel in kernels()}
FILES = sorted(SET.parent.glob("*.c"))


def test_there_are_at_least_twenty_kernels_with_names_of_their_own():
    assert len(KERNELS) == len(kernels())
    assert len(FILES) >= 20
    assert {kernel.path for kernel in kernels()} == set(FILES)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_in_the_subset_and_says_what_it_is_for(name):
    kernel = KERNELS[name]
    program = load_kernel(kernel)
    assert program.name == kernel.function
    assert list(statements(program.body))
    assert kernel.purpose
    assert kernel.stands_for
    assert program.bytes <= 64 << 20
    assert load_kernel(kernel) is program


def test_every_element_type_occurs():
    used = {array.dtype for kernel in kernels() for array in load_kernel(kernel).arrays}
    assert used == {DType.F32, DType.F64, DType.I32, DType.U8}


def test_there_are_48_variants_none_of_them_twice():
    planned = [(v.kernel.name, str(v.schedule)) for v in fixed_variants()]
    assert len(planned) == 48
    assert len(set(planned)) == 48


@pytest.mark.parametrize(
    "variant", fixed_variants(), ids=lambda v: f"{v.kernel.name}: {v.schedule}"
)
def test_a_planned_variant_is_legal_and_changes_its_kernel(variant):
    program = load_kernel(variant.kernel)
    assert legality.transform(program, variant.schedule) != program


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_kernel_compiles_as_it_is_without_a_warning(path):
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fsyntax-only"]
    done = subprocess.run(["gcc", *flags, str(path)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
