"""TVM's MetaSchedule, for functions that are written as tensor expressions here.

Each function has a C file in front of what TVM makes, with its own name and parameters; arrays and
parameters are those of `peers_halide`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.peers_halide import GCC, HALIDE, Buffer, HalideFunction, Sizes, kept_output
from benchmarks.peers_protocol import THREADS, PeerError, Task, Version, apart

TRIALS = 64
LONGER = 3.0  # times the budget: what these trials may take
WRITES_S = 60.0  # for the best of them to be written
ALIGNED = 8  # bytes that memory of a person's is aligned to at least; TVM takes 64 for granted
BACKEND = ("AllocWorkspace", "FreeWorkspace", "ParallelLaunch", "ParallelBarrier")  # of its runtime
Expression = Callable[[Any, Mapping[str, Any], Sizes], Any]


def _gemm(te: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    a, b, c = (given[x] for x in "ABC")
    k = te.reduce_axis((0, sizes["nk"]), name="k")
    shape = (sizes["ni"], sizes["nj"])
    product = te.compute(shape, lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="product")
    return te.compute(shape, lambda i, j: c[i, j] + product[i, j], name="out")


def _gemm_lda(te: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    a, b, c, alpha, beta = (given[x] for x in ("a", "b", "c", "alpha", "beta"))
    k = te.reduce_axis((0, sizes["k"]), name="l")
    shape = (sizes["m"], sizes["n"])
    product = te.compute(shape, lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="product")
    return te.compute(
        shape, lambda i, j: alpha[0] * product[i, j] + beta[0] * c[i, j], name="scaled"
    )


def _conv2d(te: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    image, weight, before = given["in"], given["weight"], given["out"]
    c = te.reduce_axis((0, sizes["nc"]), name="c")
    p, q = (te.reduce_axis((0, sizes["nw"]), name=x) for x in "pq")
    shape = (sizes["no"], sizes["ny"], sizes["nx"])

    def summed(o: Any, y: Any, x: Any) -> Any:
        return te.sum(image[c, y + p, x + q] * weight[o, c, p, q], axis=[c, p, q])

    total = te.compute(shape, summed, name="total")
    return te.compute(shape, lambda o, y, x: before[o, y, x] + total[o, y, x], name="added")


def _distances(te: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    from tvm import tirx

    p, q = given["P"], given["Q"]

    def apart(i: Any, j: Any) -> Any:
        x, y, z = (p[i, n] - q[j, n] for n in range(3))
        return tirx.sqrt(x * x + y * y + z * z)

    return te.compute((sizes["n"], sizes["m"]), apart, name="apart")


EXPRESSIONS: Mapping[str, Expression] = {
    "gemm": _gemm,
    "gemm_lda": _gemm_lda,
    "conv2d": _conv2d,
    "distances": _distances,
}


class Tvm:
    """The best of the versions that MetaSchedule times, in a process of its own: it may crash."""

    name = "TVM"
    install = "pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post0 xgboost psutil"

    def version(self) -> str | None:
        """Of its packages."""
        try:
            numbers = [importlib.metadata.version(x) for x in ("apache-tvm", "apache-tvm-ffi")]
        except importlib.metadata.PackageNotFoundError:
            return None
        return f"TVM {numbers[0]}, tvm-ffi {numbers[1]}"

    def versions(self, task: Task) -> Iterator[Version]:
        """The one that it finds, called by C with the function's own parameters."""
        if task.kernel.name not in EXPRESSIONS:
            raise PeerError("not written as tensor expressions here")
        made = task.folder / "tvm"
        words = [sys.executable, "-m", __name__, task.kernel.name, made]
        words += [f"{n}={v}" for n, v in task.kernel.sizes.items()]
        tuned = apart([*words, "--tune"], task.budget_s * LONGER)
        written = apart(words, WRITES_S)
        if written.status != 0:
            last = (written.words or tuned.words or "no words").splitlines()[-1]
            raise PeerError(f"TVM: status {tuned.status}, {written.status}: {last[:200]}")
        trials = len((_work(made) / "database_tuning_record.json").read_text().splitlines())
        what = f"MetaSchedule, {trials} trials"
        yield Version(what, made.with_suffix(".c"), GCC, linked(made))


def linked(made: Path) -> tuple[str, ...]:
    """Headers and libraries that what TVM made is compiled with."""
    ffi, tvm = (Path(str(importlib.util.find_spec(x).origin)).parent for x in ("tvm_ffi", "tvm"))  # type: ignore[union-attr]  # installed
    libraries = (ffi / "lib" / "libtvm_ffi.so", tvm / "lib" / "libtvm_runtime.so")
    paths = (f"-Wl,-rpath,{library.parent}" for library in libraries)
    kept = "-Wl,--no-as-needed"  # they come before the file that needs them
    return (f"-I{ffi / 'include'}", kept, f"{made}.so", *map(str, libraries), *paths)


def make_tvm(name: str, made: Path, sizes: Sizes, *, tune: bool) -> None:
    """Tune a function, or write the best that was found, as ``made.so`` and ``made.c``.

    What was timed is in a file after each lot, so that it is there when tuning is ended.
    """
    import tvm
    from tvm.s_tir import meta_schedule

    only_x86()
    written = _defined(name, sizes)
    cpu = str(tvm.target.codegen.llvm_get_system_cpu())
    target = tvm.target.Target({"kind": "llvm", "num-cores": THREADS, "mcpu": cpu})
    work = str(_work(made))
    if tune:
        meta_schedule.tune_tir(
            written,
            target=target,
            work_dir=work,
            max_trials_global=TRIALS,
            num_trials_per_iter=TRIALS // 4,
            num_tuning_cores=THREADS,
            builder=meta_schedule.builder.LocalBuilder(max_workers=THREADS, initializer=only_x86),
        )
        return
    found = meta_schedule.database.JSONDatabase(work_dir=work)
    best = meta_schedule.tir_integration.compile_tir(found, written, target)
    if best is None:
        sys.exit("no trial has ended")
    tvm.compile(best.mod, target=target).export_library(f"{made}.so")
    made.with_suffix(".c").write_text(in_front(name, HALIDE[name]))


def _work(made: Path) -> Path:
    """Where TVM keeps what it timed."""
    return made.with_suffix(".work")


def _defined(name: str, sizes: Sizes) -> Any:
    """A function as TVM's own."""
    from tvm import script, te

    function = HALIDE[name]
    given = {
        b.name: te.placeholder(_shape(b, sizes), _type(b), f"{b.name}_") for b in function.inputs
    }  # `in` is a word of Python's
    kind = _type(function.output)
    given |= {scalar: te.placeholder((1,), kind, scalar) for scalar in function.scalars}
    out = EXPRESSIONS[name](te, given, sizes)
    return script.from_source(loosened(te.create_prim_func([*given.values(), out]).script()))


def only_x86() -> None:
    """Of TVM's intrinsics leave those of this processor.

    Each of its processes reads those of all processors otherwise, 17 s of a CPU. Those that build
    begin anew for each lot of trials and have 30 s for the first of them: on a machine with some
    load all of its builds failed. (They read them since its pull request 18525.)
    """
    import tvm.s_tir

    name = "tvm.s_tir.tensor_intrin"
    some = ModuleType(name)
    some.__path__ = [str(Path(tvm.s_tir.__path__[0], "tensor_intrin"))]
    sys.modules[name] = some
    importlib.import_module(f"{name}.x86")


def loosened(text: str) -> str:
    """A function of TVM's script that takes memory as a person's program has it."""
    return re.sub(r'(T\.Buffer\(\([^)]*\), "float\d+")\)', rf"\1, align={ALIGNED})", text)


def _shape(buffer: Buffer, sizes: Sizes) -> tuple[int, ...]:
    return tuple(eval(e, {}, dict(sizes)) for e in buffer.extents)  # noqa: S307  our own


def _type(buffer: Buffer) -> str:
    return {"float": "float32", "double": "float64"}[buffer.kind]


def in_front(name: str, function: HalideFunction) -> str:
    """C with the function's own parameters, which describes its arrays to TVM."""
    output = function.output
    described = kept_output(output) if function.updates else ""
    places = ["kept" if b.name == output.name else b.name for b in function.inputs]
    arrays = [*zip(places, function.inputs, strict=True)]
    arrays += [(f"&{scalar}", Buffer(scalar, output.kind, ("1",))) for scalar in function.scalars]
    arrays += [(output.name, output)]
    for number, (place, buffer) in enumerate(arrays):
        described += _described(number, place, buffer)
    values = ", ".join(
        f"{{ .type_index = kTVMFFIDLTensorPtr, .v_ptr = &t{n} }}" for n in range(len(arrays))
    )
    return (
        "#include <tvm/ffi/c_api.h>\n#include <stdlib.h>\n#include <string.h>\n"
        "int __tvm_ffi_main(void *, const TVMFFIAny *, int, TVMFFIAny *);\n"
        f"{''.join(map(_declared, BACKEND))}"
        f"void {name}({function.parameters})\n{{\n{''.join(map(_filled, BACKEND))}{described}"
        f"    TVMFFIAny given[] = {{ {values} }}, answer = {{ 0 }};\n"
        f"    if (__tvm_ffi_main(NULL, given, {len(arrays)}, &answer))\n        abort();\n}}\n"
    )


def _declared(name: str) -> str:
    weak = "__attribute__((weak))"
    return f"extern {weak} int TVMBackend{name}();\nextern {weak} void *__TVMBackend{name};\n"


def _filled(name: str) -> str:
    """Set a pointer in what TVM made, if it has it: its own loader does so."""
    place = f"__TVMBackend{name}"
    return f"    if (&{place})\n        {place} = (void *)TVMBackend{name};\n"


def _described(number: int, place: str, buffer: Buffer) -> str:
    extents = ", ".join(buffer.extents)
    bits = {"float": 32, "double": 64}[buffer.kind]
    strides = ["1"]
    for extent in reversed(buffer.extents[1:]):
        strides.insert(0, f"({extent}) * {strides[0]}")
    return (
        f"    int64_t s{number}[] = {{ {extents} }}, d{number}[] = {{ {', '.join(strides)} }};\n"
        f"    DLTensor t{number} = {{ (void *)({place}), {{ kDLCPU, 0 }}, {len(buffer.extents)},\n"
        f"        {{ kDLFloat, {bits}, 1 }}, s{number}, d{number}, 0 }};\n"
    )


if __name__ == "__main__":
    _name, _made, *_given = sys.argv[1:]
    _sizes = {n: int(v) for n, v in (g.split("=") for g in _given if "=" in g)}
    make_tvm(_name, Path(_made), _sizes, tune="--tune" in _given)
