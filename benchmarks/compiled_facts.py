r"""Facts of compiled programs: what a compiler makes of versions, counted without timing anything.

    python -m benchmarks.compiled_facts --rows 0 1300 --rows 7200 7400 --out facts.npz

Draws the programs of pre-training (those of these rows, as ``bundles pretrain`` draws them for the
same seed), compiles some versions of each for every target as one unit, and counts instructions by
kind: in the whole program (``all``), in its innermost loops together (``inner``), and in the one of
these with the widest vectors, of several the one that computes most (``main``).

    version -> emit -> gcc -O3 -march=... -S -> innermost loops -> log(1 + count) of each kind

Nothing is run, so that the machine does not matter. ``compiled_facts_taught`` asks what an encoder
gains that learns to foretell them.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.arrays import Doubles, Indices, Singles
from agent.errors import ScheduleError
from agent.loopnest.emitter.emit import ENTRY, emit
from agent.loopnest.program import Program
from agent.measure.compiler import BASE_FLAGS, OPENMP_FLAGS
from bundles.corpus.corpus import random_program
from bundles.labels.units import unit_of
from bundles.training.dataset import SHARD, drawn_variants
from bundles.workers import results_in_order

TARGETS = ("x86-64-v3",)
VERSIONS = 6  # of a program, the one as written first
MOST_S = 4  # CPU time that compiling a unit may take
KINDS = (
    "instructions", "loads", "stores", "spills", "scalar", "xmm", "ymm", "zmm", "fma", "divisions",
    "extremes", "shuffles", "conversions", "gathers", "masked", "integer", "addresses", "branches",
    "calls",
)  # fmt: skip
SCOPES = ("all", "inner", "main")
SHAPES = ("loops", "innermost loops", "deepest", "widest")  # of a program, beside its counts

_LABEL = re.compile(r"([.\w$]+):")
_INSTRUCTION = re.compile(r"\t(?:(?:rep|lock|notrack|bnd)\w*\s+)?([a-z]\w*)(?:\t(.*))?$")
_FUNCTION = re.compile(r"\t\.type\t([.\w$]+), ?@function")
_VERSION = re.compile(rf"(?!{ENTRY})\w+?_(\d+)(?:\.|$)")
_WIDTH = {"x": 16, "y": 32, "z": 64}
_PACKED_INTEGER = r"p(?:add|sub|mul|madd|sra|srl|sll|and|or|xor|abs|avg|sign|ternlog|rol|ror|sad)"
_PACKED_FLOAT = r"(?:f?n?m(?:add|sub|addsub|subadd)\w*|add|sub|mul|and|andn|or|xor|round|rndscale)"
_COMPUTES = re.compile(rf"v?(?:{_PACKED_INTEGER}\w*|{_PACKED_FLOAT}p[sd])$")
_SCALAR = re.compile(r"v?(?:f?n?m(?:add|sub)\w*|add|sub|mul|round|rndscale)s[sd]$")
_EXTREMES = re.compile(r"v?(?:max|min|cmp\w*|pmax|pmin|pcmp|u?comi)[psbwdqu]*\w*$")
_SHUFFLES = re.compile(
    r"v?(?:p?shuf|perm|p?unpck|insert|pinsr|extract|pextr|p?broadcast|pack|align|palignr|p?blend"
    r"|movddup|movs[lh]dup|mov[lh]+ps|ps[lr]+dq|pcompress|pexpand)\w*$"
)
_CONVERSIONS = re.compile(
    r"v?(?:cvt|pmov[sz]x|pmov[usqdw]+[bwd]$|c[wdlq]t[dlqo])\w*$|movs?[bwl]l?q$"
)
_INTEGER = re.compile(
    r"(?:add|sub|imul|mul|inc|dec|neg|not|and|or|xor|sa[lr]|sh[lr]|sar|shl|ro[lr]|sh[lr]x|sarx|andn"
    r"|bt|set\w+|cmov\w+|adc|sbb)[bwlq]?$"
)


class Instruction(NamedTuple):
    """In AT&T's words: sources first, destination last."""

    name: str
    operands: str


@dataclass(frozen=True)
class Function:
    """Its instructions in the order of their addresses, and which of them labels stand before."""

    name: str
    code: tuple[Instruction, ...]
    labels: dict[str, int]

    def loops(self) -> list[tuple[int, int]]:
        """First and last instruction of each: a label and a jump back to it."""
        found = set()
        for at, (name, operands) in enumerate(self.code):
            if name.startswith("j") and self.labels.get(operands, at + 1) <= at:
                found.add((self.labels[operands], at))
        return sorted(found)


def functions(listing: str) -> Iterator[Function]:
    """The functions of a compiler's listing (``-S``)."""
    name, code, labels = "", list[Instruction](), dict[str, int]()
    for line in listing.splitlines():
        if began := _FUNCTION.match(line):
            if name:
                yield Function(name, tuple(code), labels)
            name, code, labels = began[1], [], {}
        elif label := _LABEL.match(line):
            labels[label[1]] = len(code)
        elif there := _INSTRUCTION.match(line):
            code.append(Instruction(there[1], (there[2] or "").split("#")[0].strip()))
    if name:
        yield Function(name, tuple(code), labels)


@cache
def kinds(instruction: Instruction) -> tuple[bool, ...]:
    """Which of ``KINDS`` it is."""
    name, operands = instruction
    last = operands.split("{")[0].endswith(")") and "," not in operands.rpartition(")")[2]
    width, memory = _width(operands), "(" in operands
    moves, packed = "mov" in name or "extr" in name, bool(_COMPUTES.match(name))
    gathers = "gather" in name or "scatter" in name
    address = name.startswith("lea")
    reads = memory and not address and (not last or not moves)
    writes = last and not address and not name.startswith(("cmp", "test", "call", "jmp", "vcomi"))
    found = {
        "instructions": True,
        "loads": reads and not gathers,
        "stores": writes and not gathers and "prefetch" not in name,
        "spills": memory and "(%rsp" in operands and not address,
        "scalar": bool(_SCALAR.match(name)),
        "xmm": packed and width == 16,
        "ymm": packed and width == 32,
        "zmm": packed and width == 64,
        "fma": name.startswith(("vfmadd", "vfnmadd", "vfmsub", "vfnmsub")),
        "divisions": "div" in name or "sqrt" in name,
        "extremes": bool(_EXTREMES.match(name)) and width > 0,
        "shuffles": bool(_SHUFFLES.match(name)) and not gathers,
        "conversions": bool(_CONVERSIONS.match(name)),
        "gathers": gathers,
        "masked": "{%k" in operands,
        "integer": bool(_INTEGER.match(name)) and not width,
        "addresses": address,
        "branches": name.startswith("j"),
        "calls": name.startswith("call"),
    }
    return tuple(found[kind] for kind in KINDS)


def _width(operands: str) -> int:
    """Bytes of the widest vector register it names; 0: of none."""
    return max((_WIDTH[c] for c in re.findall(r"%([xyz])mm", operands)), default=0)


def facts_of(parts: Sequence[Function]) -> Doubles:
    """[K] the facts of one version (``names`` of a target), of all of its functions."""
    table = [
        np.array([kinds(i) for i in part.code], float).reshape(-1, len(KINDS)) for part in parts
    ]
    whole = sum((t.sum(axis=0) for t in table), np.zeros(len(KINDS)))
    all_loops = [part.loops() for part in parts]
    inner, widths = [], []
    for part, counts, spans in zip(parts, table, all_loops, strict=True):
        for first, last in innermost(spans):
            inner.append(counts[first : last + 1].sum(axis=0))
            widths.append(max(_width(i.operands) for i in part.code[first : last + 1]))
    computes = [KINDS.index(kind) for kind in ("scalar", "xmm", "ymm", "zmm")]
    order = [(w, c[computes].sum(), c[0]) for w, c in zip(widths, inner, strict=True)]
    main = inner[max(range(len(inner)), key=order.__getitem__)] if inner else np.zeros(len(KINDS))
    deepest = max((_depth(spans) for spans in all_loops), default=0)
    shapes = [sum(map(len, all_loops)), len(inner), deepest, max(widths, default=0)]
    counts = np.concatenate([whole, sum(inner, np.zeros(len(KINDS))), main, shapes])
    return np.asarray(np.log1p(counts))


def innermost(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the loops with no other in them."""
    return [
        (a, b)
        for a, b in spans
        if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in spans)
    ]


def _depth(spans: Sequence[tuple[int, int]]) -> int:
    return max((sum(c <= a and b <= d for c, d in spans) for a, b in spans), default=0)


def names(target: str) -> list[str]:
    """Of the facts of a version on a target."""
    counted = [f"{target} {scope} {kind}" for scope in SCOPES for kind in KINDS]
    return [*counted, *(f"{target} {shape}" for shape in SHAPES)]


def facts_of_unit(sources: Sequence[str], flags: Sequence[str]) -> Singles:
    """[v, K] of the sources compiled as one unit; nan where the compiler refuses or is too slow.

    Equal functions stay apart (``-fno-ipa-icf``), so that equal versions have equal facts.
    """
    command = [
        "gcc",
        *BASE_FLAGS,
        *OPENMP_FLAGS,
        *flags,
        "-fno-ipa-icf",
        "-S",
        "-xc",
        "-",
        "-o",
        "-",
    ]
    empty = np.full((len(sources), len(SCOPES) * len(KINDS) + len(SHAPES)), np.nan, np.float32)
    unit = unit_of(sources)
    made = subprocess.run(
        command, input=unit, capture_output=True, text=True, check=False, preexec_fn=_limited
    )
    if made.returncode:
        return empty
    parts: list[list[Function]] = [[] for _ in sources]
    for part in functions(made.stdout):
        if version := _VERSION.match(part.name):
            parts[int(version[1])].append(part)
    return np.stack([facts_of(some) for some in parts]).astype(np.float32)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_S, MOST_S))


def facts_of_program(versions: Sequence[Program]) -> Singles:
    """[v, T K] of the versions of a program, on all of ``TARGETS``; nan: no C can be written."""
    texts = [_written(version) for version in versions]
    there = [n for n, text in enumerate(texts) if text]
    sources = [texts[n] for n in there]
    found = np.full((len(versions), len(TARGETS) * len(names(""))), np.nan, np.float32)
    parts = [facts_of_unit(sources, [f"-march={target}"]) for target in TARGETS]
    found[there] = np.concatenate(parts, axis=1)
    return found


def _written(version: Program) -> str:
    try:
        return emit(version)
    except ScheduleError:
        return ""


def facts_of_rows(seed: int, first: int, last: int) -> Singles:
    """[n, v, T K] of the rows ``first`` to ``last`` of a data set, which lie in one shard."""
    rng = random.Random(f"{seed}/{first // SHARD}")  # as ``dataset.shard``
    programs = [random_program(rng) for _ in range(SHARD)]
    found = []
    for row, program in enumerate(programs, first - first % SHARD):
        if row >= last:
            break
        drawn, _ = drawn_variants(program, 16, rng)
        if row >= first:
            found.append(facts_of_program([drawn[n % len(drawn)] for n in range(VERSIONS)]))
    return np.stack(found)


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts [n, v, K] of the rows [n] of a data set, and their names."""

    rows: Indices
    facts: Singles
    names: Sequence[str]


def collect(seed: int, spans: Sequence[tuple[int, int]], processes: int) -> Facts:
    """Of the rows of these spans, told as they are made."""
    jobs = [
        (seed, max(first, start), min(last, start + SHARD))
        for first, last in spans
        for start in range(first - first % SHARD, last, SHARD)
    ]
    parts, started = [], time.monotonic()
    for part in results_in_order(facts_of_rows, jobs, processes):
        parts.append(part)
        print(f"{sum(map(len, parts))} programs  {time.monotonic() - started:.0f} s", flush=True)
    rows = np.concatenate([np.arange(a, b) for _, a, b in jobs])
    return Facts(rows, np.concatenate(parts), [n for t in TARGETS for n in names(t)])


def read(path: Path) -> Facts:
    """What ``collect`` found, as ``main`` kept it."""
    with np.load(path, allow_pickle=False) as kept:
        return Facts(kept["rows"], kept["facts"], kept["names"].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs=2, type=int, action="append", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = collect(given.seed, [tuple(some) for some in given.rows], given.processes)
    np.savez_compressed(given.out, rows=found.rows, facts=found.facts, names=found.names)


if __name__ == "__main__":
    from benchmarks import compiled_facts  # workers find functions of a module by its name

    compiled_facts.main()
