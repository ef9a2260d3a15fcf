"""The fixed set as executables, for machines without a compiler: what a platform's wheel carries.

    emitted C of every program -> ziglang's clang, once for each level -> one static executable

The C is the one that a machine with a compiler is given. ``hatch_build.py`` calls this when a wheel
is built; ``agent/measure/prebuilt.py`` uses what it makes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.errors import CompilerError
from agent.kernels.fixed_set import fixed_variants, kernels, load_kernel
from agent.loopnest.emitter.emit import ENTRY, emit
from agent.loopnest.schedules.legality import Dependences, transform
from agent.measure.compiler import BASE_FLAGS, HARNESS
from agent.measure.prebuilt import INDEX, PREBUILT, SCHEMA, Executable, PrebuiltIndex, program_name
from agent.system.child import ChildLimits, run_child
from agent.system.refused import usable_cpus
from bundles.files import write_whole

POOL = HARNESS.with_name("pool.c")
# zig takes -O3 for -O2, and keeps frame pointers: as its clang compiles when asked directly.
AS_CLANG = ("-Xclang", "-O3", "-fomit-frame-pointer", "-g0", "-w")
STATIC = ("-static", "-s")  # runs on any Linux, whatever its C library; no symbols
# A folder for what is built, by all that it is made of: for who builds often; releases go without.
KEPT = "CALIBRATION_AGENT_PREBUILT_KEPT"
LIMITS = ChildLimits(seconds=300.0, memory=8 << 30, file=256 << 20, output=1 << 20)

_Units = dict[str, tuple[str, tuple[str, ...]]]  # name: C source, flags


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """An instruction set to build for.

    Attributes:
        name: as ``Machine.level`` has it.
        target: the target triple.
        flags: that choose the instructions.
        vector_bytes: widest vectors of the code.
    """

    name: str
    target: str
    flags: tuple[str, ...]
    vector_bytes: int


# Left alone, clang uses half of AVX-512's width for this level: some old CPUs clock down with all.
WIDE = "-mprefer-vector-width=512"
LEVELS = (
    InstructionSet("x86-64-v2", "x86_64-linux-musl", ("-mcpu=x86_64_v2",), 16),
    InstructionSet("x86-64-v3", "x86_64-linux-musl", ("-mcpu=x86_64_v3",), 32),
    InstructionSet("x86-64-v4", "x86_64-linux-musl", ("-mcpu=x86_64_v4", WIDE), 64),
    InstructionSet("aarch64", "aarch64-linux-musl", ("-mcpu=generic",), 16),
)
ARCHITECTURES = {"x86_64": LEVELS[:3], "aarch64": LEVELS[3:]}


def fixed_sources() -> tuple[str, ...]:
    """The C of every program of the fixed set: as written and under every schedule."""
    bases = {k.name: load_kernel(k) for k in kernels()}
    dependences = {name: Dependences.of(base) for name, base in bases.items()}
    variants = (
        transform(bases[v.kernel.name], v.schedule, dependences[v.kernel.name])
        for v in fixed_variants()
    )
    emitted = [emit(program) for program in (*bases.values(), *variants)]
    return tuple(dict.fromkeys(emitted))


def prebuild(
    levels: Sequence[InstructionSet], folder: Path, sources: Sequence[str] | None = None
) -> PrebuiltIndex:
    """Build an executable for each of ``levels`` into ``folder``, with the index of them.

    Args:
        levels: instruction sets.
        folder: made if it is not there.
        sources: the C of the programs to hold; None: those of the fixed set.

    Raises:
        CompilerError: ziglang is not installed, or refuses something; its words are given.
    """
    programs = {program_name(s): s for s in (fixed_sources() if sources is None else sources)}
    folder.mkdir(parents=True, exist_ok=True)
    executables = {level.name: _executable(level, programs, folder) for level in levels}
    index = PrebuiltIndex(_version(), tuple(sorted(programs)), executables)
    (folder / INDEX).write_text(json.dumps({"schema": SCHEMA, **index.to_json()}, indent=1) + "\n")
    return index


def _executable(level: InstructionSet, programs: dict[str, str], folder: Path) -> Executable:
    """Compile every program by itself, as a machine does, and link all with the harness."""
    flags = (*BASE_FLAGS, *level.flags)
    units: _Units = {
        name: (source, (*flags, "-fopenmp", f"-D{ENTRY}={_entry(name)}"))
        for name, source in programs.items()
    }
    units["harness"] = (HARNESS.read_text(), (*flags, "-fopenmp", "-DPREBUILT"))
    units["pool"] = (POOL.read_text(), flags)
    units["table"] = (_table(programs), flags)
    built = (folder / level.name).absolute()
    _link_or_copy(level.target, units, built)
    digest = hashlib.sha256(built.read_bytes()).hexdigest()
    return Executable(digest, level.target, (*flags, "-fopenmp"), level.vector_bytes)


def _link_or_copy(target: str, units: _Units, built: Path) -> None:
    """Make an executable, or take the one that was made of exactly the same before."""
    if not (folder := os.environ.get(KEPT)):
        _link(target, units, built)
        return
    made_of = repr((target, units, AS_CLANG, STATIC, _version()))
    kept = Path(folder, hashlib.sha256(made_of.encode()).hexdigest())
    if not kept.exists():
        _link(target, units, built)
        write_whole(kept, built.read_bytes())
        return
    built.write_bytes(kept.read_bytes())
    built.chmod(0o755)


def _link(target: str, units: _Units, built: Path) -> None:
    with TemporaryDirectory(prefix="prebuild-") as place:

        def compile_unit(name: str) -> str:
            source, flags = units[name]
            Path(place, f"{name}.c").write_text(source)
            files = ("-c", f"{name}.c", "-o", f"{name}.o")
            _zig(["-target", target, *flags, *AS_CLANG, *files], place)
            return f"{name}.o"

        with ThreadPoolExecutor(len(usable_cpus())) as pool:
            objects = list(pool.map(compile_unit, units))
        _zig(["-target", target, *STATIC, *objects, "-o", str(built)], place)


def _table(names: Iterable[str]) -> str:
    """The C of the table in which the harness looks programs up."""
    return "\n".join(
        [
            *(f"void {_entry(name)}(void *const *);" for name in names),
            "const struct { const char *name; void (*run)(void *const *); }",
            "prebuilt_programs[] = {",
            *(f'    {{"{name}", {_entry(name)}}},' for name in names),
            "    {0, 0},",
            "};\n",
        ]
    )


def _entry(name: str) -> str:
    return f"program_{name}"


def _zig(arguments: Sequence[str], place: str = "/") -> str:
    """What ``zig cc`` printed, run in ``place``."""
    found = find_spec("ziglang")
    if found is None or found.origin is None:
        raise CompilerError("ziglang is not installed", "pip install -r tools/prebuild.lock")
    # Its own executable: `python -m ziglang` only starts it, and a Python costs more than it does.
    command = [str(Path(found.origin).with_name("zig")), "cc", *arguments]
    done = run_child(command, LIMITS, place=Path(place))
    if done.status != 0:
        hint = f"The command was: {shlex.join(command)}"
        raise CompilerError(f"ziglang failed:\n{done.words or 'it took too long'}", hint)
    return done.output.decode()


def _version() -> str:
    from importlib.metadata import version

    clang = _zig(["--version"]).splitlines()[0]
    return f"{clang} (ziglang {version('ziglang')})"


if __name__ == "__main__":
    here = os.uname().machine
    prebuild(ARCHITECTURES[here], PREBUILT)
