"""`benchmarks/peers_halide.py`, `peers_tvm.py`: C in front of what they make, and Halide itself."""

import ctypes
import subprocess

import numpy as np
import pytest

from agent.advise.advise import Request, read_source
from agent.settings.config import Config
from agent.system.child import ChildRun
from benchmarks import peers_tvm
from benchmarks.peers_halide import HALIDE, Buffer, Halide, _estimates, _in_front
from benchmarks.peers_harness import Harness, tried
from benchmarks.peers_protocol import ROOT, Kernel, PeerError, Task
from benchmarks.peers_tvm import EXPRESSIONS, Tvm, in_front, loosened

RUNTIME = """
#include <stdint.h>
enum { halide_type_float = 2 };
typedef struct { int32_t min, extent, stride; uint32_t flags; } halide_dimension_t;
typedef struct {
    uint64_t device; const void *interface; uint8_t *host; uint64_t flags;
    struct { uint8_t code, bits; uint16_t lanes; } type;
    int32_t dimensions; halide_dimension_t *dim; void *padding;
} halide_buffer_t;
"""
TENSORS = """
#include <stdint.h>
enum { kDLCPU = 1, kDLFloat = 2, kTVMFFIDLTensorPtr = 7 };
typedef struct {
    void *data; struct { int32_t type, id; } device; int32_t ndim;
    struct { uint8_t code, bits; uint16_t lanes; } dtype; int64_t *shape, *strides; uint64_t offset;
} DLTensor;
typedef struct { int32_t type_index; uint32_t padding; union { void *v_ptr; }; } TVMFFIAny;
"""
TENSOR_PRODUCT = """
static float *at(const TVMFFIAny *any, int i, int j)
{
    const DLTensor *t = any->v_ptr;
    return (float *)t->data + i * t->strides[0] + j * t->strides[1];
}
int __tvm_ffi_main(void *self, const TVMFFIAny *given, int count, TVMFFIAny *answer)
{
    const DLTensor *c = given[3].v_ptr;
    for (int twice = 0; twice < 2; twice++) /* what it made may add up twice */
        for (int i = 0; i < c->shape[0]; i++)
            for (int j = 0; j < c->shape[1]; j++) {
                float sum = *at(given + 2, i, j);
                for (int k = 0; k < ((const DLTensor *)given[0].v_ptr)->shape[1]; k++)
                    sum += *at(given, i, k) * *at(given + 1, k, j);
                *at(given + 3, i, j) = sum;
            }
    return count != 4 || self || answer->type_index;
}
"""
PRODUCT = """
static float *at(const halide_buffer_t *b, int x, int y)
{
    return (float *)b->host + (x - b->dim[0].min) * b->dim[0].stride
           + (y - b->dim[1].min) * b->dim[1].stride;
}
int halide_gemm(halide_buffer_t *a, halide_buffer_t *b, halide_buffer_t *old, halide_buffer_t *c)
{
    for (int twice = 0; twice < 2; twice++) /* tiles may overlap */
        for (int i = 0; i < c->dim[1].extent; i++)
            for (int j = 0; j < c->dim[0].extent; j++) {
                float sum = *at(old, j, i);
                for (int k = 0; k < a->dim[0].extent; k++)
                    sum += *at(a, k, i) * *at(b, j, k);
                *at(c, j, i) = sum;
            }
    return 0;
}
"""
MARK = """
int halide_heat3d(halide_buffer_t *a, halide_buffer_t *b)
{
    const halide_dimension_t *d = b->dim;
    for (int z = 0; z < d[2].extent; z++)
        for (int y = 0; y < d[1].extent; y++)
            for (int x = 0; x < d[0].extent; x++)
                ((float *)b->host)[x * d[0].stride + y * d[1].stride + z * d[2].stride] = d[0].min;
    return a->dimensions - 3;
}
"""


@pytest.fixture
def built(tmp_path):
    """The C in front of a function, with something else in the place of what Halide makes."""

    def made(name, body, front=_in_front):
        (tmp_path / "HalideRuntime.h").write_text(RUNTIME)
        (tmp_path / "tvm" / "ffi").mkdir(parents=True)
        (tmp_path / "tvm" / "ffi" / "c_api.h").write_text(TENSORS)
        source, shared = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        source.write_text(front(name, HALIDE[name]) + body)
        words = ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{tmp_path}"]
        subprocess.run([*words, source, "-o", shared], check=True)
        return shared

    return made


def called(library, name, *arguments):
    given = (
        x.ctypes.data_as(ctypes.c_void_p) if isinstance(x, np.ndarray) else x for x in arguments
    )
    getattr(ctypes.CDLL(str(library)), name)(*given)


@pytest.mark.parametrize("name", HALIDE)
def test_the_c_in_front_of_each_function_compiles(built, name):
    assert built(name, "").exists()


def test_what_halide_makes_finds_each_array_and_what_was_in_the_output(built):
    rng = np.random.default_rng(1)
    a, b, c = (rng.random(shape, dtype="f4") for shape in ((3, 5), (5, 4), (3, 4)))
    expected = c + a @ b
    called(built("gemm", PRODUCT), "gemm", 3, 4, 5, c, a, b)
    np.testing.assert_allclose(c, expected, rtol=1e-5)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_c_in_front_of_each_of_tvms_functions_compiles(built, name):
    assert built(name, "", in_front).exists()


def test_what_tvm_makes_finds_each_array_and_what_was_in_the_output(built):
    rng = np.random.default_rng(2)
    a, b, c = (rng.random(shape, dtype="f4") for shape in ((3, 5), (5, 4), (3, 4)))
    expected = c + a @ b
    called(built("gemm", TENSOR_PRODUCT, in_front), "gemm", 3, 4, 5, c, a, b)
    np.testing.assert_allclose(c, expected, rtol=1e-5)


def test_what_tvm_makes_takes_memory_that_is_aligned_as_malloc_does():
    text = 'def main(A: T.Buffer((8, 4), "float64"), b: T.Buffer((4,), "float32")):'
    assert loosened(text) == (
        'def main(A: T.Buffer((8, 4), "float64", align=8), b: T.Buffer((4,), "float32", align=8)):'
    )


@pytest.mark.parametrize("ended", [0, None])
def test_the_best_that_tvm_timed_is_used_where_its_tuning_does_not_end(task, monkeypatch, ended):
    def apart(words, most_s):
        if words[-1] != "--tune":
            return ChildRun(b"", "", 0)
        assert most_s == 3 * task.budget_s
        (task.folder / "tvm.work").mkdir()
        (task.folder / "tvm.work" / "database_tuning_record.json").write_text("[]\n[]\n")
        return ChildRun(b"", "", ended)

    monkeypatch.setattr(peers_tvm, "apart", apart)
    monkeypatch.setattr(peers_tvm, "linked", lambda made: (str(made),))
    assert [v.what for v in Tvm().versions(task)] == ["MetaSchedule, 2 trials"]


def test_only_what_lies_inside_a_border_is_written(built):
    a, b = (np.zeros((6, 6, 6), "f4") for _ in range(2))
    called(built("heat3d", MARK), "heat3d", 6, b, a)
    inside = np.zeros((6, 6, 6))
    inside[1:-1, 1:-1, 1:-1] = 1
    np.testing.assert_array_equal(b, inside)


def test_an_autoscheduler_is_told_each_dimension_innermost_first():
    buffer = Buffer("x", "float", ("n", "m + 2"), border=1)
    assert _estimates(buffer, {"n": 10, "m": 20}) == [(1, 20), (1, 8)]


@pytest.fixture
def task(tmp_path):
    sizes = {"ni": 64, "nj": 64, "nk": 64}
    kernel = Kernel("gemm", ROOT / "agent" / "kernels" / "gemm.c", "gemm", sizes)
    source = read_source(Config(tmp_path / "state"), Request(kernel.path, "gemm", sizes, ()))
    return Task(kernel, source, tmp_path, 60.0, tmp_path / "state")


def test_a_function_that_nobody_wrote_in_a_peers_language_is_none_of_its(task):
    other = Task(Kernel("other", task.kernel.path, "gemm", {}), task.source, *[None] * 3)
    for peer in (Halide(), Tvm()):
        with pytest.raises(PeerError, match="not written"):
            list(peer.versions(other))


def test_halides_autoschedulers_make_versions_that_do_what_the_function_does(task):
    pytest.importorskip("halide")
    found = tried(Halide(), task, Harness.of(task.kernel, task.source, task.folder))
    assert found.dropped == []
    assert found.best is not None
