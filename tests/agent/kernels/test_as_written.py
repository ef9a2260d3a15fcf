"""The front end and the emitter together mean what the kernel's own C file means."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from agent.kernels.fixed_set import SET, kernels, load_kernel
from agent.loopnest.emitter.emit import emit
from agent.loopnest.frontend.parse import parse_text
from agent.loopnest.program import DType, Program

KERNELS = {kernel.path: kernel for kernel in reversed(kernels())}
NUMPY = {DType.F32: "f4", DType.F64: "f8", DType.I32: "i4", DType.U8: "u1"}
CTYPES = {DType.F32: ctypes.c_float, DType.F64: ctypes.c_double, DType.I32: ctypes.c_int}
FLAGS = ["-std=c99", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]


def build(source: str, target) -> ctypes.CDLL:
    command = ["gcc", *FLAGS, "-x", "c", "-", "-x", "none", "-lm", "-o", str(target)]
    subprocess.run(command, input=source, text=True, check=True)
    return ctypes.CDLL(str(target))


def inputs(program: Program) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    made = {}
    for array in program.arrays:
        numbers = random.uniform(0, 1 if array.dtype.is_float else 250, array.shape)
        made[array.name] = numbers.astype(NUMPY[array.dtype])
    for scalar in program.scalars:
        made[scalar.name] = np.array([0.5 if scalar.dtype.is_float else 100], NUMPY[scalar.dtype])
    return made


def parameters(text: str, function: str) -> list[str]:
    (found,) = [f for f in parse_text(text, "f.c").functions.values() if f.name == function]
    return [p.name for p in found.parameters]


def arguments(names: list[str], sizes, program: Program, data: dict[str, np.ndarray]) -> list:
    scalars = {s.name: CTYPES[s.dtype](data[s.name][0]) for s in program.scalars}
    return [
        ctypes.c_int(sizes[n])
        if n in sizes
        else scalars.get(n) or ctypes.c_void_p(data[n].ctypes.data)
        for n in names
    ]


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_the_emitted_kernel_computes_what_the_file_says(path, tmp_path):
    kernel = KERNELS[path]
    program = load_kernel(kernel)
    text = (SET.parent / path).read_text()
    ours, theirs = inputs(program), inputs(program)

    original = build(text, tmp_path / "original.so")
    names = parameters(text, kernel.function)
    getattr(original, kernel.function)(*arguments(names, kernel.sizes, program, theirs))

    order = [*program.arrays, *program.scalars]
    pointers = [ours[item.name].ctypes.data for item in order]
    emitted = build(emit(program), tmp_path / "emitted.so")
    emitted.loopnest_run((ctypes.c_void_p * len(pointers))(*pointers))

    for array in program.arrays:
        tolerance = {DType.F32: 1e-4, DType.F64: 1e-11}.get(array.dtype, 0)
        np.testing.assert_allclose(ours[array.name], theirs[array.name], rtol=tolerance)
