"""Halide's autoschedulers, for functions that are written in its language here.

Each function has a C file in front of what Halide makes, with its own name and parameters.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers_protocol import THREADS, PeerError, Task, Version, apart

GCC = ("gcc", "-std=gnu11", "-O3", "-march=native")
ENDS_S = 60.0  # for a scheduler to end
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Buffer:
    """An array of a function: its extents outermost first, and where what is written begins."""

    name: str
    kind: str
    extents: tuple[str, ...]
    border: int = 0


@dataclass(frozen=True)
class HalideFunction:
    """A function in Halide's language.

    Attributes:
        parameters: of the C function, pointers without their extents.
        inputs: then ``scalars``, then ``output``: in this order what Halide makes takes them.
        define: the output ``Func``, of Halide's module, the inputs by name, and sizes.
    """

    parameters: str
    inputs: tuple[Buffer, ...]
    output: Buffer
    define: Callable[[Any, Mapping[str, Any], Sizes], Any]
    scalars: tuple[str, ...] = ()

    @property
    def updates(self) -> bool:
        """Whether it adds to what its output holds."""
        return self.output.name in {b.name for b in self.inputs}


def _gemm(hl: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    i, j = hl.Var("i"), hl.Var("j")
    k = hl.RDom([(0, sizes["nk"])])
    product, out = hl.Func("product"), hl.Func("out")
    product[j, i] += given["A"][k.x, i] * given["B"][j, k.x]
    out[j, i] = given["C"][j, i] + product[j, i]
    return out


def _gemm_lda(hl: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    i, j = hl.Var("i"), hl.Var("j")
    k = hl.RDom([(0, sizes["k"])])
    product, out = hl.Func("product"), hl.Func("out")
    product[j, i] += given["a"][k.x, i] * given["b"][j, k.x]
    out[j, i] = given["alpha"] * product[j, i] + given["beta"] * given["c"][j, i]
    return out


def _conv2d(hl: Any, given: Mapping[str, Any], sizes: Sizes) -> Any:
    x, y, o = hl.Var("x"), hl.Var("y"), hl.Var("o")
    r = hl.RDom([(0, sizes["nw"]), (0, sizes["nw"]), (0, sizes["nc"])])
    total, out = hl.Func("total"), hl.Func("out_")
    total[x, y, o] += given["in"][x + r.x, y + r.y, r.z] * given["weight"][r.x, r.y, r.z, o]
    out[x, y, o] = given["out"][x, y, o] + total[x, y, o]
    return out


def _distances(hl: Any, given: Mapping[str, Any], _: Sizes) -> Any:
    i, j = hl.Var("i"), hl.Var("j")
    out = hl.Func("out")
    apart = [given["P"][n, i] - given["Q"][n, j] for n in range(3)]
    out[j, i] = hl.sqrt(apart[0] * apart[0] + apart[1] * apart[1] + apart[2] * apart[2])
    return out


def _heat3d(hl: Any, given: Mapping[str, Any], _: Sizes) -> Any:
    i, j, k = hl.Var("i"), hl.Var("j"), hl.Var("k")
    a, out = given["A"], hl.Func("out")
    two, eighth = hl.f32(2.0), hl.f32(0.125)
    here = a[k, j, i]
    out[k, j, i] = (
        here
        + eighth * (a[k, j, i + 1] - two * here + a[k, j, i - 1])
        + eighth * (a[k, j + 1, i] - two * here + a[k, j - 1, i])
        + eighth * (a[k + 1, j, i] - two * here + a[k - 1, j, i])
    )
    return out


HALIDE = {
    "gemm": HalideFunction(
        "int ni, int nj, int nk, float *C, const float *A, const float *B",
        (
            Buffer("A", "float", ("ni", "nk")),
            Buffer("B", "float", ("nk", "nj")),
            Buffer("C", "float", ("ni", "nj")),
        ),
        Buffer("C", "float", ("ni", "nj")),
        _gemm,
    ),
    "gemm_lda": HalideFunction(
        "int m, int n, int k, double alpha, const double *a, int lda, const double *b, int ldb, "
        "double beta, double *c, int ldc",
        (
            Buffer("a", "double", ("m", "lda")),
            Buffer("b", "double", ("k", "ldb")),
            Buffer("c", "double", ("m", "ldc")),
        ),
        Buffer("c", "double", ("m", "ldc")),
        _gemm_lda,
        ("alpha", "beta"),
    ),
    "conv2d": HalideFunction(
        "int no, int nc, int ny, int nx, int nw, float *out, const float *in, const float *weight",
        (
            Buffer("in", "float", ("nc", "ny + nw - 1", "nx + nw - 1")),
            Buffer("weight", "float", ("no", "nc", "nw", "nw")),
            Buffer("out", "float", ("no", "ny", "nx")),
        ),
        Buffer("out", "float", ("no", "ny", "nx")),
        _conv2d,
    ),
    "distances": HalideFunction(
        "int n, int m, double *D, const double *P, const double *Q",
        (Buffer("P", "double", ("n", "3")), Buffer("Q", "double", ("m", "3"))),
        Buffer("D", "double", ("n", "m")),
        _distances,
    ),
    "heat3d": HalideFunction(
        "int n, float *B, const float *A",
        (Buffer("A", "float", ("n", "n", "n")),),
        Buffer("B", "float", ("n", "n", "n"), border=1),
        _heat3d,
    ),
}
SCHEDULERS = {  # plugin, name, parameters
    "Mullapudi 2016": ("mullapudi2016", "Mullapudi2016"),
    "Adams 2019": ("adams2019", "Adams2019"),
    "Li 2018": ("li2018", "Li2018"),
}


class Halide:
    """Halide's autoschedulers, each a version; made in a process of its own, which may crash."""

    name = "Halide"
    install = "pip install halide"

    def version(self) -> str | None:
        """Of its package."""
        try:
            return f"Halide {importlib.metadata.version('halide')}"
        except importlib.metadata.PackageNotFoundError:
            return None

    def versions(self, task: Task) -> Iterator[Version]:
        """What each autoscheduler makes, called by C with the function's own parameters."""
        if task.kernel.name not in HALIDE:
            raise PeerError("not written in Halide's language here")
        for what in SCHEDULERS:
            made = task.folder / f"{what.split()[0].lower()}"
            words = [sys.executable, "-m", __name__, task.kernel.name, what, made]
            words += [f"{n}={v}" for n, v in task.kernel.sizes.items()]
            if apart(words, ENDS_S).status == 0:
                more = (f"-I{_halide_folder() / 'include'}", f"{made}.o")
                yield Version(what, made.with_suffix(".c"), GCC, more)


def _halide_folder() -> Path:
    import halide

    return Path(halide.__file__).parent


def make_halide(name: str, what: str, made: Path, sizes: Sizes) -> None:
    """Schedule a function and write ``made.o`` and ``made.c``."""
    import halide as hl

    function, (plugin, scheduler) = HALIDE[name], SCHEDULERS[what]
    hl.load_plugin(_plugin(plugin))
    kinds = {"float": hl.Float(32), "double": hl.Float(64)}
    given: dict[str, Any] = {}
    for buffer in function.inputs:
        given[buffer.name] = hl.ImageParam(kinds[buffer.kind], len(buffer.extents), buffer.name)
        given[buffer.name].set_estimates(_estimates(buffer, sizes))
    for scalar in function.scalars:
        given[scalar] = hl.Param(kinds[function.output.kind], scalar, 1.0)
    out = function.define(hl, given, sizes)
    out.set_estimates(_estimates(function.output, sizes))
    pipeline, target = hl.Pipeline(out), hl.get_host_target()
    parameters = {"parallelism": str(THREADS)} if scheduler != "Li2018" else {}
    pipeline.apply_autoscheduler(target, hl.AutoschedulerParams(scheduler, parameters))
    order = [given[x] for x in (*(b.name for b in function.inputs), *function.scalars)]
    outputs = {hl.OutputFileType.object: f"{made}.o"}
    pipeline.compile_to(outputs, order, f"halide_{name}", target)
    made.with_suffix(".c").write_text(_in_front(name, function))


def _plugin(name: str) -> str:
    folder = _halide_folder()
    return str(next(folder.glob(f"**/*autoschedule_{name}.so")))


def _estimates(buffer: Buffer, sizes: Sizes) -> list[tuple[int, int]]:
    """First and count of each dimension, innermost first."""
    extents = [eval(e, {}, dict(sizes)) for e in reversed(buffer.extents)]  # noqa: S307  our own
    return [(buffer.border, n - 2 * buffer.border) for n in extents]


def _in_front(name: str, function: HalideFunction) -> str:
    """C with the function's own parameters, which describes its arrays to Halide."""
    buffers = [*function.inputs, function.output]
    takes = ["halide_buffer_t *"] * len(function.inputs)
    takes += [function.output.kind] * len(function.scalars) + ["halide_buffer_t *"]
    names = [f"&b{n}" for n in range(len(function.inputs))]
    names += [*function.scalars, f"&b{len(function.inputs)}"]
    described = kept_output(function.output) if function.updates else ""
    for number, buffer in enumerate(buffers):
        old = function.updates and number < len(buffers) - 1 and buffer.name == buffers[-1].name
        described += _described(number, buffer, "kept" if old else buffer.name)
    return (
        "#include <HalideRuntime.h>\n#include <stdlib.h>\n#include <string.h>\n"
        f"int halide_{name}({', '.join(takes)});\n"
        f"void {name}({function.parameters})\n{{\n{described}"
        f"    if (halide_{name}({', '.join(names)}))\n        abort();\n}}\n"
    )


def kept_output(output: Buffer) -> str:
    """What was in the output before: tiles that overlap may write an element twice."""
    count = " * ".join(f"(size_t)({extent})" for extent in output.extents)
    return (
        f"    static {output.kind} *kept;\n    static size_t room;\n"
        f"    size_t bytes = sizeof *kept * {count};\n"
        "    if (bytes > room)\n        kept = realloc(kept, room = bytes);\n"
        f"    if (!kept)\n        abort();\n    memcpy(kept, {output.name}, bytes);\n"
    )


def _described(number: int, buffer: Buffer, place: str) -> str:
    bits = {"float": 32, "double": 64}[buffer.kind]
    lines, stride, first = [], "1", "0"
    for extent in reversed(buffer.extents):
        lines.append(
            f"{{ {buffer.border}, (int)({extent}) - {2 * buffer.border}, (int)({stride}), 0 }}"
        )
        first = f"{first} + {buffer.border} * ({stride})"
        stride = f"{stride} * ({extent})"
    return (
        f"    halide_dimension_t d{number}[] = {{ {', '.join(lines)} }};\n"
        f"    halide_buffer_t b{number} = {{ 0 }};\n"
        f"    b{number}.host = (uint8_t *)({place} + {first});\n"
        f"    b{number}.type.code = halide_type_float;\n"
        f"    b{number}.type.bits = {bits};\n"
        f"    b{number}.type.lanes = 1;\n"
        f"    b{number}.dimensions = {len(buffer.extents)};\n"
        f"    b{number}.dim = d{number};\n"
    )


if __name__ == "__main__":
    _name, _what, _made, *_given = sys.argv[1:]
    make_halide(_name, _what, Path(_made), {n: int(v) for n, v in (g.split("=") for g in _given)})
