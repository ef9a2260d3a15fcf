"""How much of the field's own C is read: suites of loops, function by function.

    python benchmarks/suites.py --polybench DIR --tsvc DIR --pluto DIR --pet DIR --plant DIR \
        --public DIR [--rank] [--json FILE] [--markdown FILE]
    python benchmarks/suites.py [--polybench DIR] [--public DIR] --list LIST.json
    PYTHONPATH=. python benchmarks/suites.py [--polybench DIR] ... --compare

Each suite is optional; DIR is a checkout of

    --polybench  github.com/MatthiasJReisinger/PolyBenchC-4.2.1
    --tsvc       github.com/UoB-HPC/TSVC_2
    --pluto      github.com/bondhugula/pluto
    --pet        github.com/Meinersbur/pet
    --plant      a folder of C files, one function each, named like the file (`PLANT` has sizes)
    --public     a folder of checkouts named as in `PUBLIC`: darknet, tinyekf, kalman-clib,
                 speexdsp, rnnoise, stb, CMSIS-DSP, liquid-dsp

Nothing of them is kept: what must be wrapped is written into a temporary directory. PolyBench, pet
and the functions of `PUBLIC` are read as they are; TSVC's and Pluto's loops are wrapped by
`suites_wrapping`. ``--list`` writes what is read of the suites that stand in place for `bundles
evaluate --programs` (for testing only, none of it teaches anything), and beside it the headers that
they lack. ``--rank`` times reading and ranking of 200 schedules for each PolyBench kernel.
``--compare`` does nothing but run what is read against what is emitted for it (`suites_compare`),
PolyBench's kernels at their SMALL sizes, and Pluto's at 40 where they define more.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suites_wrapping import Function, functions, pluto_file, tsvc_files, without_comments

from agent.errors import AgentError
from agent.loopnest.frontend.ctree import Unit
from agent.loopnest.frontend.parse import parse
from agent.loopnest.lowering.lower import Reading, sizes_of
from agent.loopnest.lowering.reader import read_region, regions_of

_SIZE = re.compile(r"^(\s*#\s*define\s+\w+\s+)(\d+)[lLuU]*\b", re.MULTILINE)
SIZE = 100  # of every size that has none of its own
LESS = 9  # the same, where an array that the text declares is smaller
LIMIT_S = 60
MEMORY = 8 << 30

PLANT = {
    "box3x3_borders": "w=192 h=108",
    "dot_induction": "n=1000 incx=2 incy=3",
    "gemm_lda": "m=64 n=60 k=56 lda=64 ldb=72 ldc=80",
    "heat_pingpong": "steps=20",
    "sobel_flat": "w=192 h=108",
}
PET = (  # what pet knows of itself
    "-D__pencil_assume(x)=",
    "-D__pencil_kill(...)=",
    "-Dmin(x,y)=((x)<(y)?(x):(y))",
    "-Dmax(x,y)=((x)>(y)?(x):(y))",
    "-Dfloord(n,d)=((n)<0?-((-(n)+(d)-1)/(d)):(n)/(d))",
    "-Dceild(n,d)=((n)<0?-(-(n)/(d)):((n)+(d)-1)/(d))",
    "-DintCeil(n,d)=(((n)+(d)-1)/(d))",
)
GENERATED = {  # headers that the configure scripts of the repositories write
    "speexdsp_config_types.h": "#include <stdint.h>\n"
    + "".join(f"typedef {u}int{n}_t spx_{u}int{n}_t;\n" for u in ("", "u") for n in (16, 32)),
    "liquid.config.h": "",
    "rnnoise_data.h": "typedef struct { int unused; } RNNoise;\n"
    + "".join(f"#define {s}_STATE_SIZE 8\n" for s in "CONV1 CONV2 GRU1 GRU2 GRU3".split()),
}
DARKNET = "-Iinclude -Isrc"
SPEEX = "-Iinclude -DFLOATING_POINT -DUSE_SMALLFT -DEXPORT="
CMSIS = "-IInclude -IPrivateInclude -D__GNUC_PYTHON__"
LAYER = "batch=4 filters=16 spatial=400"
PUBLIC = (  # file, flags with paths inside the repository, functions with their sizes
    (
        "darknet/src/blas.c",
        DARKNET,
        {
            "reorg_cpu": "w=26 h=26 c=64 batch=2 stride=2 forward=1",
            "shortcut_cpu": "batch=2 w1=26 h1=26 c1=16 w2=13 h2=13 c2=32",
            "mean_cpu": LAYER,
            "normalize_cpu": LAYER,
            "l2normalize_cpu": LAYER,
            "axpy_cpu": "N=1000 INCX=1 INCY=2",
            "dot_cpu": "N=1000 INCX=1 INCY=2",
            "inter_cpu": "NX=100 NY=60 B=8",
            "smooth_l1_cpu": "n=1000",
            "softmax": "n=1000 stride=1",
        },
    ),
    (
        "darknet/src/im2col.c",
        DARKNET,
        {"im2col_cpu": "channels=3 height=32 width=32 ksize=3 stride=1 pad=1"},
    ),
    ("darknet/src/gemm.c", DARKNET, {"gemm_nn": "M=64 N=60 K=56 lda=56 ldb=60 ldc=60"}),
    (
        "tinyekf/src/tinyekf.h",
        "-DEKF_N=8 -DEKF_M=4",
        {"_mulmat": "arows=8 acols=6 bcols=4", "_choldc1": "n=8", "_cholsl": "n=8"},
    ),
    ("kalman-clib/src/matrix.c", "-Iinclude", {"matrix_invert_lower": ""}),
    ("speexdsp/libspeexdsp/filterbank.c", SPEEX, {"filterbank_compute_bank": ""}),
    (
        "speexdsp/libspeexdsp/mdf.c",
        SPEEX,
        {
            "power_spectrum": "N=512",
            "weighted_spectral_mul_conj": "N=512",
            "filter_dc_notch16": "len=256 stride=1",
        },
    ),
    ("speexdsp/libspeexdsp/preprocess.c", SPEEX, {"conj_window": "len=256"}),
    ("rnnoise/src/celt_lpc.c", DARKNET, {"rnn_autocorr": "overlap=40 lag=16 n=240"}),
    (
        "rnnoise/src/denoise.c",
        DARKNET,
        {"rnn_biquad": "N=480", "compute_band_energy": "", "dct": ""},
    ),
    (
        "stb/stb_image.h",
        "-DSTB_IMAGE_IMPLEMENTATION -DSTBI_NO_SIMD",
        {
            "stbi__YCbCr_to_RGB_row": "count=640 step=4",
            "stbi__resample_row_hv_2": "w=320 hs=2",
            "stbi__resample_row_generic": "w=320 hs=2",
        },
    ),
    (
        "CMSIS-DSP/Source/BasicMathFunctions/arm_scale_f32.c",
        CMSIS,
        {"arm_scale_f32": "blockSize=1024"},
    ),
    ("CMSIS-DSP/Source/MatrixFunctions/arm_mat_trans_f32.c", CMSIS, {"arm_mat_trans_f32": ""}),
    ("liquid-dsp/src/dotprod/src/sumsq.c", "-Iinclude -I.", {"liquid_sumsqf": "_n=1024"}),
)


@dataclass(frozen=True)
class Item:
    """One function to read; ``other``: the value of sizes that are not given."""

    suite: str
    name: str
    path: Path
    function: str
    sizes: Mapping[str, int]
    cflags: tuple[str, ...] = ()
    other: int = SIZE


@dataclass(frozen=True)
class Outcome:
    """What became of an item; ``message`` is None where it was read."""

    item: Item
    message: str | None
    seconds: float


class TooLongError(Exception):
    """Reading took longer than ``LIMIT_S``."""


# --- the reader -------------------------------------------------------------------------------


def read(item: Item) -> tuple[Unit, list[Reading]]:
    """The regions of a function, which must be read all; where ``SIZE`` leaves an array, ``LESS``.

    Raises:
        AgentError: one of them is not read.
    """
    try:
        return _read(item)
    except AgentError as error:
        if "is out of bounds" not in error.message or item.other != SIZE:
            raise
    sizes = {name: LESS if value == SIZE else value for name, value in item.sizes.items()}
    return _read(replace(item, sizes=sizes, other=LESS))


def _read(item: Item) -> tuple[Unit, list[Reading]]:
    unit = parse(item.path, item.cflags)
    mine = [f for f in unit.functions.values() if f.name == item.function and not unit.errors]
    parts = regions_of(unit, mine[0]) if mine else []
    if not parts:
        return unit, [read_region(unit, item.function, item.sizes, None, MEMORY)]
    found = []
    for nest, part in enumerate(parts, 1):
        given = {**dict.fromkeys(sizes_of(unit, mine[0], part), item.other), **item.sizes}
        found.append(read_region(unit, item.function, given, nest, MEMORY))
    return unit, found


def outcome(item: Item) -> Outcome:
    """Read ``item``; any error is an outcome, one that is not a refusal is told as a fault."""
    start = time.perf_counter()
    message = None
    signal.alarm(LIMIT_S)
    try:
        read(item)
    except AgentError as error:
        message = str(error)
    except TooLongError:
        message = f"fault: no answer within {LIMIT_S} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault to be told
        message = f"fault: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return Outcome(item, message, time.perf_counter() - start)


def _give_up(*_: object) -> None:
    raise TooLongError


# --- the suites -------------------------------------------------------------------------------


def polybench(root: Path, _: Path, dataset: str = "MEDIUM") -> Iterator[Item]:
    """``kernel_*`` of each file, sizes of ``dataset``."""
    for path in sorted(root.glob("*/**/*.c")):
        header = path.with_suffix(".h")
        if "utilities" in path.parts or not header.exists():
            continue
        found = next(f for f in _functions(path) if f.name.startswith("kernel_"))
        given = re.search(rf"ifdef {dataset}_DATASET(.*?)endif", header.read_text(), re.DOTALL)
        values = dict(re.findall(r"define (\w+) (\d+)", given[1] if given else ""))
        sizes = {name.lower(): int(value) for name, value in values.items()}
        flags = (f"-I{root / 'utilities'}", f"-I{path.parent}", f"-D{dataset}_DATASET")
        yield Item("PolyBench/C", path.stem, path, found.name, _given(found, sizes), flags)


def tsvc(root: Path, scratch: Path) -> Iterator[Item]:
    """Each loop in a function of its own, without repetition and calls of ``dummy``."""
    source = root / "src" / "tsvc.c"
    for name, (text, sizes) in tsvc_files(source.read_text()).items():
        path = scratch / f"{name}.c"
        path.write_text(text)
        yield Item("TSVC", name, path, name, sizes, (f"-I{source.parent}",))


def pluto(root: Path, scratch: Path, most: int | None = None) -> Iterator[Item]:
    """The region of each test and example in a function of its own; sizes up to ``most``."""
    for source in sorted([*root.glob("test/**/*.c"), *root.glob("examples/**/*.c")]):
        text = source.read_text(errors="replace")
        if not re.search(r"#\s*pragma\s+scop", text):
            continue
        if most is not None:
            text = _SIZE.sub(lambda m: m[1] + str(min(int(m[2]), most)), text)
        function, text = pluto_file(text)
        name = str(source.relative_to(root))
        path = scratch / name.replace("/", "-")
        path.write_text(text)
        known = [f for f in functions(without_comments(text)) if f.name == function]
        other = min(SIZE, most or SIZE)
        sizes = dict.fromkeys(known[0].integers, other) if known else {}
        yield Item("Pluto's tests", name, path, function, sizes, (f"-I{source.parent}",), other)


def pet(root: Path, _: Path) -> Iterator[Item]:
    """The function with the region, or the last one; files without a function are left out."""
    tests = root / "tests"
    for path in sorted(tests.glob("**/*.c")):
        text = without_comments(path.read_text())
        found = functions(text)
        if found:
            marked = [f for f in found if re.search(r"#\s*pragma\s+scop", text[f.start : f.end])]
            chosen = (marked or found)[-1]
            name = str(path.relative_to(tests))
            yield Item("pet's tests", name, path, chosen.name, _given(chosen, {}), PET)


def plant(root: Path, _: Path) -> Iterator[Item]:
    """Files of one function, sizes of ``PLANT``."""
    for path in sorted(root.glob("*.c")):
        found = next(f for f in _functions(path) if f.name == path.stem)
        sizes = _given(found, _sizes(PLANT.get(path.stem, "")))
        yield Item("plant", path.stem, path, path.stem, sizes)


def public(root: Path, scratch: Path) -> Iterator[Item]:
    """The functions of ``PUBLIC`` whose repositories are there."""
    for name, text in GENERATED.items():
        (scratch / name).write_text(text)
    for file, written, chosen in PUBLIC:
        base = root / file.split("/")[0]
        flags = [f"-I{base / f[2:]}" if f[:2] == "-I" else f for f in written.split()]
        for name, sizes in chosen.items() if base.exists() else ():
            yield Item(
                "public functions",
                f"{file}:{name}",
                root / file,
                name,
                _sizes(sizes),
                (*flags, f"-I{scratch}"),
            )


IN_PLACE = (polybench, plant, public)  # that no file is made of
SUITES = {f.__name__: f for f in (polybench, tsvc, pluto, pet, plant, public)}
SMALL = {
    "polybench": functools.partial(polybench, dataset="SMALL"),
    "pluto": functools.partial(pluto, most=40),
}


def _functions(path: Path) -> list[Function]:
    return functions(without_comments(path.read_text(errors="replace")))


def _sizes(text: str) -> dict[str, int]:
    """``n=8 m=4`` as a dictionary."""
    return {name: int(value) for name, value in (part.split("=") for part in text.split())}


def _given(function: Function, sizes: Mapping[str, int]) -> dict[str, int]:
    """A size for each integer parameter that is no array."""
    return {name: sizes.get(name, SIZE) for name in function.integers}


# --- the figures ------------------------------------------------------------------------------


def reason(message: str) -> str:
    """``message`` without place, names and numbers: what is counted."""
    text = re.sub(r"^\S+?:\d+(:\d+)?: ", "", message)
    text = re.sub(r".*fatal error: (.*?)\n.*", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|(?<!\w)'[^']*'", "_", text)
    return re.sub(r"\b\d[\d,.]*", "N", re.sub(r"\S*/\S+", "_", text)).split("\n")[0][:160]


def figures(found: Iterable[Outcome]) -> dict[str, Any]:
    """Per suite: how many were read, how often each reason, each refusal."""
    suites: dict[str, list[Outcome]] = {}
    for one in found:
        suites.setdefault(one.item.suite, []).append(one)
    return {suite: _figures(outcomes) for suite, outcomes in suites.items()}


def _figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    refused = [(o.item, o.message) for o in outcomes if o.message is not None]
    return {
        "read": len(outcomes) - len(refused),
        "of": len(outcomes),
        "longest_s": round(max(o.seconds for o in outcomes), 3),
        "reasons": dict(Counter(reason(message) for _, message in refused).most_common()),
        "refused": [
            {"name": item.name, "function": item.function, "message": message}
            for item, message in refused
        ],
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The figures as two tables: suites, and the reasons of refusal over all of them."""
    lines = ["| suite | read | refused | longest, s |", "|---|---|---|---|"]
    reasons = Counter[str]()
    for suite, s in found.items():
        refused = s["of"] - s["read"]
        lines.append(f"| {suite} | {s['read']} of {s['of']} | {refused} | {s['longest_s']} |")
        reasons.update(s["reasons"])
    lines += ["", "| refused because | times |", "|---|---|"]
    lines += [f"| {why.replace('|', chr(92) + '|')} | {n} |" for why, n in reasons.most_common()]
    return "\n".join(lines) + "\n"


def ranking_seconds(items: Iterable[Item]) -> dict[str, dict[str, float]]:
    """For each kernel that is read: CPU seconds to read it, and to rank 200 schedules of it."""
    from agent.bundle.bundle import default_bundle, load_bundle
    from agent.calibration.predictor import load_predictor
    from agent.loopnest.schedules.candidates import candidate_schedules
    from agent.measure.machine import read_machine

    predictor = load_predictor(None, load_bundle(default_bundle()), read_machine())
    timed = {}
    for item in items:
        start = _spent()
        try:
            _, (reading,) = read(item)
        except AgentError:
            continue
        middle = _spent()
        drawn = candidate_schedules(reading.program, 200)
        predictor.predict(reading.program, [variant for _, variant in drawn])
        end = _spent()
        timed[item.name] = {
            "read_s": round(middle - start, 3),
            "rank_s": round(end - middle, 3),
            "schedules": len(drawn),
        }
    return timed


def program_list(items: Iterable[Item]) -> dict[str, Any]:
    """The nests of items that are read whole, as `bundles evaluate --programs` takes them."""
    readable = [item for item in items if outcome(item).message is None]
    suites = " and ".join(dict.fromkeys(item.suite for item in readable))
    return {"schema": 1, "name": suites, "programs": [e for i in readable for e in _entries(i)]}


def _entries(item: Item) -> Iterator[dict[str, Any]]:
    count = len(read(item)[1])
    for nest in range(1, count + 1):
        yield {
            "name": item.name if count == 1 else f"{item.name}, nest {nest}",
            "file": str(item.path),
            "function": item.function,
            "sizes": dict(item.sizes),
            "cflags": list(item.cflags),
            **({"nest": nest} if count > 1 else {}),
        }


def comparisons(items: Iterable[Item], scratch: Path) -> str:
    """A table of what came of each function that is read."""
    from suites_compare import Comparison, compared, table  # needs the tests' own modules

    found: dict[str, list[Comparison]] = {}
    for item in items:
        try:
            unit, readings = read(item)
        except AgentError:
            continue
        made = compared(item.name, item.path, unit, readings, item.cflags, item.sizes, scratch)
        found.setdefault(item.suite, []).append(made)
        print(made, file=sys.stderr, flush=True)
    return table(found)


def _spent() -> float:
    """CPU seconds of this process and its children: what others do on the machine is left out."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name in SUITES:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("--rank", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--list", type=Path, metavar="LIST.json")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, _give_up)
    if args.list:
        beside = args.list.resolve().with_suffix(".headers")
        beside.mkdir(exist_ok=True)
        given = ((s, getattr(args, s.__name__)) for s in IN_PLACE)
        items = [item for suite, root in given if root for item in suite(root.resolve(), beside)]
        args.list.write_text(json.dumps(program_list(items), indent=1) + "\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        items: list[Item] = []
        suites = {**SUITES, **SMALL} if args.compare else SUITES
        for name, suite in suites.items():
            if root := getattr(args, name):
                folder = Path(scratch, name)
                folder.mkdir()
                items += suite(root.resolve(), folder)
        if args.compare:
            print(comparisons(items, Path(scratch)), end="")
            return
        found: dict[str, Any] = {"suites": figures(map(outcome, items))}
        if args.rank:
            found["ranking"] = ranking_seconds(i for i in items if i.suite == "PolyBench/C")
    text = markdown(found["suites"])
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    if args.markdown:
        args.markdown.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
